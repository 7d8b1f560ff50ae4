"""Reads Reddit dumps (JSON Lines, mostly .zst): each top-level comment is an answer to its submission.

The input is a file of comments, whose submissions stand beside it (RC_2020-01.zst and RS_2020-01.zst, or
AskDocs_comments.zst and AskDocs_submissions.zst), or a folder with files of both.
"""

import json
import os
import re
from collections.abc import Iterator
from typing import Any

from data_pipeline.corpora.opening import open_text
from data_pipeline.corpora.reading import BELOW_SCORE, NO_QUESTION, Format, Refusals, Start, files_of
from data_pipeline.corpora.store import open_store
from data_pipeline.rows import Pair

DELETED = "a question or answer was deleted"
REPLY = "a comment answers another comment"
NOT_JSON = "a line is not valid JSON, or lacks the fields of its kind"
BOT = "a comment is AutoModerator's"
_GONE = ("[deleted]", "[removed]", "[deleted by user]")
_COMMENTS, _SUBMISSIONS = ("body", "link_id", "parent_id"), ("id", "title", "selftext")
_PARTNERS = (("comments", "submissions"), ("comment", "submission"), ("RC_", "RS_"))  # in names of files

Post = dict[str, Any]


def read_pairs(path: str, columns: Any, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields the top-level comments with title and text of their submissions; the flair is the focus.

    Args:
      path: a file of comments, or a folder with files of comments and of submissions.
      columns: `min_score` is the smallest score of both; `keep_deleted` keeps questions without their text.
      refusals: counts deleted ones, those with a lower score, replies to comments, and lines that are damaged.

    Raises:
      ValueError: the file holds submissions, or a damaged line.
    """
    files = _files(path)
    comments = [file for file in files if _holds(Start.of(file), _COMMENTS)]
    submissions = [file for file in files if file not in comments and _holds(Start.of(file), _SUBMISSIONS)]
    if not comments or not submissions:
        kind = "submissions" if submissions else "comments"
        raise ValueError(
            f"{path} holds Reddit {kind} alone. Expected a file of comments with its submissions beside it, such as "
            "RC_2020-01.zst and RS_2020-01.zst, or a folder with both."
        )
    with open_store() as questions:
        for file in submissions:
            questions.add(_questions(file, columns, refusals))
        for file in comments:
            for where, comment in _kept(file, _COMMENTS, columns, refusals):
                if comment["parent_id"] != comment["link_id"]:
                    refusals.add(REPLY, where)
                elif comment.get("author") == "AutoModerator":
                    refusals.add(BOT, where)
                elif comment["body"] in _GONE:
                    refusals.add(DELETED, where)
                elif (question := questions.find(comment["link_id"].removeprefix("t3_"))) is None:
                    refusals.add(NO_QUESTION, where)
                else:
                    source = f"r/{comment['subreddit']}" if isinstance(comment.get("subreddit"), str) else ""
                    yield where, Pair(question[0], comment["body"], source, question[1])


def _questions(path: str, columns: Any, refusals: Refusals) -> Iterator[tuple[str, str, str]]:
    """Yields id, text and flair of the submissions."""
    for where, post in _kept(path, _SUBMISSIONS, columns, refusals):
        text = post["selftext"]
        if text in _GONE and not columns.keep_deleted:
            refusals.add(DELETED, where)
            continue
        flair = post.get("link_flair_text")
        parts = (post["title"], "" if text in _GONE else text)
        yield post["id"], "\n".join(filter(None, parts)), flair if isinstance(flair, str) else ""


def _kept(path: str, fields: tuple[str, ...], columns: Any, refusals: Refusals) -> Iterator[tuple[str, Post]]:
    """Yields the lines of a file that hold texts in all fields, and whose score is high enough."""
    least = columns.min_score
    with open_text(path, newline="\n") as file:
        for number, line in enumerate(file, 1):
            try:
                post = json.loads(line)
            except (ValueError, RecursionError):
                post = None
            if not isinstance(post, dict) or not all(isinstance(post.get(name), str) for name in fields):
                if line.strip():
                    refusals.add(NOT_JSON, f"{path} line {number}")
            elif least is not None and isinstance(score := post.get("score"), int) and score < least:
                refusals.add(BELOW_SCORE, f"{path} line {number}")
            else:
                yield f"{path} line {number}", post


def _holds(start: Start, fields: tuple[str, ...]) -> bool:
    """Returns whether the beginning of a file is a line of JSON with these fields."""
    line = start.text.partition("\n")[0]
    return line.startswith("{") and all(re.search(rf'"{name}"\s*:\s*"', line) for name in fields)


def _files(path: str) -> list[str]:
    """Returns the files of a folder; for a file, the submissions beside it, and itself."""
    folder, name = os.path.split(path)
    for ours, other in _PARTNERS:
        partner = os.path.join(folder, name.replace(ours, other))
        if not os.path.isdir(path) and ours in name and os.path.isfile(partner):
            return [partner, path]
    return files_of(path)


def _is_file(start: Start) -> bool:
    return _holds(start, _COMMENTS) or _holds(start, _SUBMISSIONS)


def _is_folder(path: str) -> bool:
    """Returns whether all files of a folder are dumps."""
    files = files_of(path)
    return len(files) > 1 and all(_is_file(Start.of(file)) for file in files)


REDDIT = Format(
    "reddit",
    "Reddit comments with their submissions",
    '{"link_id": "t3_abc1", "parent_id": "t3_abc1", "body": "Honey and fluids.", "score": 9}',
    {"pairs": read_pairs},
    _is_file,
    _is_folder,
    _files,
)
