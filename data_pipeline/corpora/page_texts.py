"""Reads the title, the headings and the text of a web page as lines of Markdown; trafilatura finds the text.

trafilatura looks for the element that holds the text, such as main or article. Where no element is marked, it takes the
paragraphs without their headings; and if it has found less than 250 characters, all lines of the page with its menus.
Both are mended here.
"""

import bisect
import re
from typing import Any, NamedTuple

import trafilatura  # an extra: documents.py imports this file when it reads a page
from selectolax.lexbor import LexborHTMLParser, LexborNode
from trafilatura.settings import use_config

from data_pipeline import cleaning

_IS_HEADING = re.compile(r"#{1,6}\s")
_LEVEL = re.compile(r"h([1-6])")
_MENUS = "nav, aside, footer"
_NO_TEXT = ("script", "style", "template", "noscript")
_MOST = 0.9  # share of the text without structure that the text with structure must have


class _Heading(NamedTuple):
    """A heading, and the number of letters of the page before it."""

    place: int
    level: int
    text: str


def read(page: str) -> tuple[str, list[str]]:
    """Returns the title, which may be empty, and the text in Markdown, line by line."""
    tree, metadata = LexborHTMLParser(page), trafilatura.extract_metadata(page)
    title = _title((metadata and metadata.title) or "", tree)
    lines = _extracted(page)
    if any(map(_IS_HEADING.match, lines)):
        return title, lines
    while menu := tree.css_first(_MENUS):
        menu.decompose()
    page, (letters, headings) = tree.html or "", _read(tree)
    whole, structured = (
        _with_headings(lines, letters, headings)
        for lines in (_extracted(page), _extracted(page, favor_recall=True, config=_any_length()))
    )
    sizes = [len(_letters("".join(lines))) for lines in (whole, structured)]
    return title, (structured if _MOST * sizes[0] <= sizes[1] <= sizes[0] else whole) or lines


def _extracted(page: str, **settings: Any) -> list[str]:
    settings = {"output_format": "markdown", "include_comments": False, "include_formatting": True} | settings
    return (trafilatura.extract(page, **settings) or "").splitlines()


def _any_length() -> Any:
    """Returns settings with which trafilatura keeps what it finds, however short it is."""
    config = use_config()
    config.set("DEFAULT", "MIN_EXTRACTED_SIZE", "1")
    return config


def _title(found: str, tree: LexborHTMLParser) -> str:
    """Returns the title of a page: mostly its first heading, which trafilatura finds.

    If the page's title element names something else, such as a site, the heading is that of a section.
    """
    heading, title = (
        cleaning.clean(node.text()) if (node := tree.css_first(name)) else "" for name in ("h1", "head title")
    )
    names_other = title and _letters(heading) not in _letters(title)
    return title if names_other and _letters(found) == _letters(heading) else found


def _read(tree: LexborHTMLParser) -> tuple[str, list[_Heading]]:
    """Returns all letters and digits of a page, and its headings."""
    parts, size, headings = list[str](), 0, list[_Heading]()
    waiting: list[LexborNode] = [tree.body] if tree.body else []
    while waiting:  # no recursion: elements may be nested without end
        node = waiting.pop()
        if node.is_text_node:
            parts.append(_letters(node.text_content or ""))
            size += len(parts[-1])
        elif node.is_element_node and node.tag not in _NO_TEXT:
            if (level := _LEVEL.fullmatch(node.tag)) and (text := cleaning.clean(node.text())):
                headings.append(_Heading(size, int(level[1]), " ".join(text.split())))
            waiting += reversed(list(node.iter(include_text=True)))
    return "".join(parts), headings


def _with_headings(lines: list[str], letters: str, headings: list[_Heading]) -> list[str]:
    """Returns lines of a page, which are in its order, with the headings above them if no line is a heading."""
    if any(map(_IS_HEADING.match, lines)):
        return lines
    places = [heading.place for heading in headings]
    result, at, num_done = list[str](), 0, 0
    for line in lines:
        own = _letters(line)
        if not own or (place := letters.find(own, at)) < 0:
            result.append(line)
            continue
        above = bisect.bisect_right(places, place)
        for heading in headings[num_done:above]:
            result += ["", f"{'#' * heading.level} {heading.text}", ""]
        num_done, at = max(num_done, above), place + len(own)
        is_heading = above and places[above - 1] == place and _letters(headings[above - 1].text) == own
        if not is_heading:
            result.append(line)
    return result


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, cleaning.clean(text)))
