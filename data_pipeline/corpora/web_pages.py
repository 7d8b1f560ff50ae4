"""Reads saved web pages with schema.org's QAPage or FAQPage, as JSON-LD or as microdata: an answer is a pair.

Source: https://schema.org/QAPage, https://schema.org/FAQPage.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

from selectolax.lexbor import LexborHTMLParser, LexborNode

from data_pipeline import cleaning, markup
from data_pipeline.corpora import encodings, opening
from data_pipeline.corpora.reading import Format, Refusals, Start, files_of
from data_pipeline.rows import Pair

NO_QUESTION = "the page has no question and answer of schema.org"
NOT_JSON = "JSON-LD of a page is not valid JSON"
ENDINGS = (".html", ".htm", ".xhtml")
_MAX_BYTES = 2**25
_IS_HTML = re.compile(r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype html|html|head|body)\b", re.DOTALL | re.IGNORECASE)
_IS_QUESTIONS = re.compile(r"schema\.org.{0,999}\b(QAPage|FAQPage|Question)\b", re.DOTALL)
_CHARSET = re.compile(rb"""<meta[^>]{1,99}charset\s*=\s*["']?([\w-]{2,40})""", re.IGNORECASE)
_ANSWERS = ("acceptedAnswer", "suggestedAnswer")

Asked = Iterator[tuple[str, str]]  # question, answer


def read_pairs(path: str, columns: Any, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields the questions with each answer of a page, or of all pages in a folder."""
    del columns
    for file in _files(path):
        page = LexborHTMLParser(read_html(file))
        canonical = page.css_first('link[rel="canonical"]')
        url = (canonical and canonical.attributes.get("href")) or ""
        asked = dict.fromkeys([*_of_json(page, file, refusals), *_of_microdata(page)])
        if not asked:
            refusals.add(NO_QUESTION, file)
        for number, (question, answer) in enumerate(asked, 1):
            yield f"{file} answer {number}", Pair(question, answer, url=url)


def is_html(start: Start) -> bool:
    """Returns whether a file is a page in HTML."""
    return _IS_HTML.match(start.text) is not None


def read_html(path: str) -> str:
    """Returns the text of a page, packed or not, in the encoding that it names; characters that are damaged are lost.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: it has more than 32 MiB, or is packed and damaged.
    """
    content = opening.head(path, _MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"{path} has more than {_MAX_BYTES:,} bytes. Expected a page of the web.")
    start = content[: opening.HEAD_BYTES]
    encoding = encodings.encoding_of(start) or "utf-8"
    if encoding == "utf-8" and (named := _CHARSET.search(start)):
        with contextlib.suppress(LookupError, UnicodeError):  # of names of no encoding of texts
            return content.decode(named[1].decode().lower().replace("utf-16", "utf-8"), "replace")
    return content.decode(encoding, "replace")


def _of_json(page: LexborHTMLParser, path: str, refusals: Refusals) -> Asked:
    for script in page.css('script[type="application/ld+json"]'):
        try:
            waiting = [json.loads(script.text(), strict=False)]
        except (ValueError, RecursionError):
            refusals.note(NOT_JSON, path)
            continue
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                waiting += reversed(list(value.values()))
                if "Question" in _listed(value.get("@type")):
                    yield from _answers(value)
            elif isinstance(value, list):
                waiting += reversed(value)


def _answers(question: dict[str, Any]) -> Asked:
    asked = _question(_text(question.get("name")), _text(question.get("text")))
    for answer in (answer for name in _ANSWERS for answer in _listed(question.get(name))):
        text = _text(answer.get("text")) if isinstance(answer, dict) else ""
        if asked and text:
            yield asked, text


def _of_microdata(page: LexborHTMLParser) -> Asked:
    for item in page.css("[itemtype$='schema.org/Question']"):
        asked = _question(_property(item, "name"), _property(item, "text"))
        for name in _ANSWERS:
            for answer in item.css(f"[itemscope][itemprop~='{name}']"):
                if asked and (text := _property(answer, "text")):
                    yield asked, text


def _property(item: LexborNode, name: str) -> str:
    """Returns the text of an item's property, but not of one of an item inside it."""
    for node in item.css(f"[itemprop~='{name}']"):
        owner = node.parent
        while owner is not None and "itemscope" not in owner.attributes:
            owner = owner.parent
        if owner is not None and owner.mem_id == item.mem_id:
            return _text(node.attributes.get("content") or node.html)
    return ""


def _question(name: str, text: str) -> str:
    """Returns the title of a question with its text, unless the text repeats it."""
    return "\n".join(filter(None, dict.fromkeys((name, text))))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    if markup.holds_markup(value):
        return cleaning.clean(markup.to_text(value), entities=False)
    return cleaning.clean(value)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _files(path: str) -> list[str]:
    return files_of(path, ENDINGS)


def holds_questions(start: Start) -> bool:
    """Returns whether a file is a page with questions that `read_pairs` reads."""
    return is_html(start) and _IS_QUESTIONS.search(read_html(start.path)) is not None


def _is_folder(path: str) -> bool:
    """Returns whether most files of a folder are pages, and one of the first ten holds questions."""
    files = _files(path)
    return len(files) > len(files_of(path)) / 2 and any(holds_questions(Start.of(file)) for file in files[:10])


WEB_PAGES = Format(
    "qapage",
    "web pages with schema.org's QAPage or FAQPage",
    '<script type="application/ld+json">{"@type": "QAPage", "mainEntity": {"@type": "Question", "name": "..."}}',
    {"pairs": read_pairs},
    holds_questions,
    _is_folder,
    _files,
)
