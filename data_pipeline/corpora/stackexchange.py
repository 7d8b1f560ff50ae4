"""Reads Posts.xml of a StackExchange dump: every answer is a pair with its question; the tags are the focus.

    <row Id="3" PostTypeId="2" ParentId="1" Score="7" Body="..." />     an answer; 1 is a question, with Title and Tags

Source: the data dump's readme. Bodies are HTML, tags stand as <a><b> or |a|b|.
"""

import re
from collections.abc import Iterator
from typing import Any

from data_pipeline import cleaning, markup
from data_pipeline.corpora.reading import BELOW_SCORE, NO_QUESTION, Format, Refusals
from data_pipeline.corpora.store import Store, open_store
from data_pipeline.corpora.xml_files import elements
from data_pipeline.rows import Pair

OTHER_POST = "a post is neither a question nor an answer"
_QUESTION, _ANSWER = "1", "2"
_IS_POSTS = re.compile(r"(<\?xml[^>]*>\s*)?<posts[\s>]", re.IGNORECASE)


def read_pairs(path: str, columns: Any, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields the answers, each with the title and the text of its question.

    Args:
      path: the file, in which a question stands before its answers.
      columns: `min_score` is the smallest score of questions and answers.
      refusals: counts answers without a question and other posts.
    """
    with open_store() as questions:
        for element in elements(path):
            if element.name != "row" or element.attributes is None:
                continue
            where, post = f"{path} line {element.line}", element.attributes
            if columns.min_score is not None and _score(post) < columns.min_score:
                refusals.add(BELOW_SCORE, where)
            elif post.get("PostTypeId") == _QUESTION:
                questions.add([(post.get("Id", ""), *_question(post))])
            elif post.get("PostTypeId") != _ANSWER:
                refusals.add(OTHER_POST, where)
            elif pair := _pair(post, questions):
                yield where, pair
            else:
                refusals.add(NO_QUESTION, where)


def _score(post: dict[str, str]) -> int:
    score = post.get("Score", "")
    return int(score) if re.fullmatch(r"-?\d{1,9}", score) else 0


def _body(post: dict[str, str]) -> str:
    return cleaning.clean(markup.to_text(post.get("Body", "")), entities=False)


def _question(post: dict[str, str]) -> tuple[str, str]:
    """Returns the text of a question, and its tags with commas between."""
    parts = (post.get("Title", ""), _body(post))
    return "\n".join(filter(None, parts)), ", ".join(re.findall(r"[^<>|]+", post.get("Tags", "")))


def _pair(post: dict[str, str], questions: Store) -> Pair | None:
    found = questions.find(post.get("ParentId", ""))
    return found and Pair(found[0], _body(post), focus=found[1])


STACKEXCHANGE = Format(
    "stackexchange",
    "a StackExchange dump (Posts.xml)",
    '<posts><row Id="2" PostTypeId="2" ParentId="1" Score="7" Body="&lt;p&gt;Honey.&lt;/p&gt;" /> ...',
    {"pairs": read_pairs},
    lambda start: _IS_POSTS.match(start.text) is not None,
)
