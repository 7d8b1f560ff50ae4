"""Reads the headings and paragraphs of PDFs, which store letters and their positions only.

A line that is larger than most of the text, or bold and apart, is a heading. The largest heading is the title, if no
other has its size. Lines without a gap between them are a paragraph; it ends with a line that had room for the first
word of the next one. Lines that most pages repeat at their edge, but for the numbers in them, are left out: running
titles, page numbers.
"""

import collections
import ctypes
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from data_pipeline.corpora.reading import Block
from data_pipeline.sentences import split_sentences

_LARGER = 1.12  # times the height of most of the text: a heading
_SAME = 1.05  # headings whose heights differ by less are of one level
_GAP = 1.25  # times the usual distance of two lines: a paragraph ends
_WIDE = 1.75  # times the height: as far apart are lines of double spacing
_HYPHENATED = 0.03  # share of lines: with more hyphens at their ends, most of them only break words
_BOLD = re.compile(rb"bold|black|heavy|demi", re.IGNORECASE)  # in the name of a font
_SHORT = 0.8  # share of a full line: a shorter line that ends a sentence ends a paragraph
_ROOM = 0.1  # share of a line that stays free at most where the first word of the next line has no room
_LONGEST_HEADING = 150  # characters
_LONGEST_FONT_NAME = 200  # bytes
_MOST_EDGES = 2  # lines at the top and at the bottom of a page that may be repeated on others
_LEAST_PAGES = 3  # with as many, such lines are looked for
_ENDS = re.compile(r"[.!?:;。！？：][\"'”’)\]]*$")
_ITEM = re.compile(r"[-•*▪◦●‣–]\s|\(?\d{1,2}[.)]\s")
_HYPHEN = "\x02"  # PDFium's mark for a hyphen at the end of a line, behind which it goes on with the next one
_BROKEN = re.compile(rf"(\w*){_HYPHEN}(\w*)")
_WORD = re.compile(r"\w+(?:-\w+)*")
_LOOKED_AT = 5  # letters of a line that tell its height
_UNSPACED = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uff00-\uffef]")  # Chinese, Japanese, Korean
_NAMED_BY_PROGRAM = re.compile(r"untitled|microsoft word|.*\.(docx?|pdf|indd|qxd|tex|rtf|odt|html?)", re.IGNORECASE)


class _Line(NamedTuple):
    """A line on a page, or two that a hyphen joins; heights and places are in points, from below and from the left."""

    text: str
    page: int
    height: float
    is_bold: bool
    top: float
    last_top: float
    left: float
    right: float


def title_of(document: "PdfDocument") -> str:  # noqa: F821, an extra
    """Returns the title that a PDF names; empty if it is none, or the name that a program gave it."""
    title = document.get_metadata_value("Title").strip()
    return "" if _NAMED_BY_PROGRAM.match(title) else title


def blocks(document: "PdfDocument") -> Iterator[Block]:  # noqa: F821
    """Yields the headings and paragraphs of all pages. A sentence that goes on behind a page belongs to the first one.

    Raises:
      pypdfium2.PdfiumError: a page is damaged.
    """
    lines = [line for number in range(len(document)) for line in _lines(document, number)]
    lines = _with_whole_words(_without_repeated(lines, len(document)))
    if not lines:
        return
    usual = _usual_height(lines)
    pitch = min(_usual_pitch(lines), _WIDE * usual)
    groups = list(_groups(lines, usual, pitch))
    levels = _levels(groups, usual)
    for group in groups:
        level = levels.get(id(group), 0)
        yield from (Block(text, level, str(page)) for page, text in _by_page(group))


def _lines(document: "PdfDocument", number: int) -> Iterator[_Line]:  # noqa: F821
    """Yields the lines of a page that are not blank."""
    from pypdfium2 import raw

    page = document[number]
    texts = page.get_textpage()
    letters = [chr(raw.FPDFText_GetUnicode(texts, place)) for place in range(texts.count_chars())]
    start = 0
    for letter_of, own in itertools.groupby(letters, lambda letter: letter not in "\r\n"):
        characters = list(own)
        text = "".join(characters)
        # None in a line of a soft hyphen, or of a mark from a font of symbols.
        places = [start + place for place, letter in enumerate(text) if letter.isprintable() and letter != " "]
        if letter_of and places:
            boxes = [texts.get_charbox(place, loose=True) for place in places[:: -(-len(places) // _LOOKED_AT)]]
            (left, low, _, _), (_, _, right, last_top) = boxes[0], texts.get_charbox(places[-1], loose=True)
            heights = sorted(box[3] - box[1] for box in boxes)
            is_bold = _BOLD.search(_font(texts, places[0])) is not None
            height = heights[len(heights) // 2]
            yield _Line(text.strip(), number + 1, height, is_bold, low + height, last_top, left, right)
        start += len(characters)
    page.close()


def _font(texts: "PdfTextPage", place: int) -> bytes:  # noqa: F821
    """Returns the name of the font of a letter."""
    from pypdfium2 import raw

    name = ctypes.create_string_buffer(_LONGEST_FONT_NAME)
    raw.FPDFText_GetFontInfo(texts, place, name, len(name), ctypes.c_int())
    return name.value


def _without_repeated(lines: list[_Line], num_pages: int) -> list[_Line]:
    """Leaves out lines that stand at the edge of most pages, but for their numbers: running titles, page numbers."""
    if num_pages < _LEAST_PAGES:
        return lines
    pages: dict[int, list[_Line]] = {}
    for line in lines:
        pages.setdefault(line.page, []).append(line)
    edges = {page: [*own[:_MOST_EDGES], *own[_MOST_EDGES:][-_MOST_EDGES:]] for page, own in pages.items()}
    counts = collections.Counter(form for own in edges.values() for form in {_form(line) for line in own})
    repeated = {id(line) for own in edges.values() for line in own if counts[_form(line)] > len(pages) / 2}
    return [line for line in lines if id(line) not in repeated]


def _form(line: _Line) -> str:
    return re.sub(r"\d+", "0", line.text)


def _with_whole_words(lines: list[_Line]) -> list[_Line]:
    """Returns lines without the hyphens that only the end of a line put into a word."""
    lines = list(_with_ends_of_words(lines))
    if not any(_HYPHEN in line.text for line in lines):
        return lines
    words = {word.lower() for line in lines for word in _WORD.findall(_BROKEN.sub(" ", line.text))}
    num_broken = sum(line.text.count(_HYPHEN) for line in lines)
    is_hyphenated = num_broken > _HYPHENATED * (len(lines) + num_broken)

    def whole(match: re.Match[str]) -> str:
        before, after = match.groups()
        parts, joined = (before.lower(), after.lower()), f"{before}{after}".lower()
        is_compound = "-".join(parts) in words or min(map(len, parts)) < 2 or not after[:1].islower()
        if joined not in words and (is_compound or words.issuperset(parts) or not is_hyphenated):
            return f"{before}-{after}"
        return before + after

    return [line._replace(text=_BROKEN.sub(whole, line.text)) for line in lines]


def _with_ends_of_words(lines: list[_Line]) -> Iterator[_Line]:
    """Yields lines that end with a hyphen with the first word of the next one, as PDFium often does by itself."""
    taken = ""
    for line, below in itertools.pairwise([*lines, None]):
        text = line.text[len(taken) :].lstrip()
        taken = ""
        if below and text.endswith("-") and below.text[:1].islower() and below.page == line.page:
            taken = below.text.split()[0]
            text = f"{text[:-1]}{_HYPHEN}{taken}"
        if text:
            yield line._replace(text=text)


def _usual_height(lines: Iterable[_Line]) -> float:
    """Returns the height of the letter in the middle, if all letters stand in the order of their height."""
    by_height = sorted((line.height, len(line.text)) for line in lines)
    middle = sum(size for _, size in by_height) / 2
    for (height, _), seen in zip(by_height, itertools.accumulate(size for _, size in by_height), strict=True):
        if seen >= middle:
            return height
    raise AssertionError("no line")


def _usual_pitch(lines: list[_Line]) -> float:
    """Returns the lower quartile of the distances of a line and the next one below it; 0 if there are none."""
    pairs = itertools.pairwise(lines)
    steps = [above.last_top - below.top for above, below in pairs if above.page == below.page]
    downwards = sorted(step for step in steps if step > 0)
    return downwards[len(downwards) // 4] if downwards else 0.0


def _groups(lines: list[_Line], usual: float, pitch: float) -> Iterator[list[_Line]]:
    """Yields the lines of each heading and of each paragraph."""
    group = lines[:1]
    for (above, line), margin in zip(itertools.pairwise(lines), _margins(lines, usual), strict=False):
        if _goes_on(above, line, usual, pitch, margin):
            group.append(line)
        else:
            yield group
            group = [line]
    yield group


def _margins(lines: list[_Line], usual: float) -> Iterator[float]:
    """Yields for each line where the full lines of its column end: a quarter of the lines goes further."""
    column = lines[:1]
    for above, line in itertools.pairwise([*lines, None]):
        if line is None or above.page != line.page or above.last_top - line.top < -usual:
            margin = sorted(each.right for each in column)[3 * len(column) // 4]
            yield from itertools.repeat(margin, len(column))
            column = []
        column.append(line)


def _goes_on(above: _Line, line: _Line, usual: float, pitch: float, margin: float) -> bool:
    """Returns whether a line belongs to the paragraph, or to the heading, of the line before."""
    if max(above.height, line.height) > _LARGER * min(above.height, line.height) or above.is_bold != line.is_bold:
        return False
    ends = _ENDS.search(above.text) is not None
    step = above.last_top - line.top
    if above.page != line.page or step < -usual:  # another page or column
        return not ends and line.text[:1].islower()
    if step > _GAP * pitch * max(1.0, line.height / usual) or _ITEM.match(line.text):
        return False
    if ends and not line.text[:1].islower() and above.right < _SHORT * margin:
        return False
    is_text = not above.is_bold and above.height <= _LARGER * usual
    return not (is_text and above.right + _width_of_first_word(line) < margin - _ROOM * (margin - above.left))


def _width_of_first_word(line: _Line) -> float:
    return (line.right - line.left) * len(line.text.split()[0]) / len(line.text)


def _levels(groups: list[list[_Line]], usual: float) -> dict[int, int]:
    """Returns the level of each group that is a heading, under its identity."""
    larger = {id(group): group[0].height for group in groups if group[0].height > _LARGER * usual and _is_short(group)}
    sizes: list[float] = []
    for height in sorted(set(larger.values()), reverse=True):
        if not sizes or sizes[-1] > _SAME * height:
            sizes.append(height)
    # What stands several times at the highest size are sections of a document without a title.
    above = [height for height in larger.values() if sizes and sizes[0] <= _SAME * height]
    first = 1 if len(above) == 1 else 2
    levels = {key: first + sum(size > _SAME * height for size in sizes) for key, height in larger.items()}
    bold = [group for group in groups if id(group) not in levels and group[0].is_bold and _is_short(group)]
    if 2 * len(bold) <= len(groups):  # otherwise most of the text is bold
        levels |= {id(group): first + len(sizes) for group in bold if not _ENDS.search(group[-1].text)}
    return levels


def _is_short(group: list[_Line]) -> bool:
    text = _joined(group)
    return len(text) <= _LONGEST_HEADING and any(map(str.isalpha, text)) and not _ITEM.match(text)


def _by_page(group: list[_Line]) -> Iterator[tuple[int, str]]:
    """Yields the text of a group on each of its pages, whole sentences."""
    page, text = 0, ""
    for next_page, own in itertools.groupby(group, lambda line: line.page):
        rest = _joined(list(own))
        if text:
            first, *others = split_sentences(rest)
            yield page, f"{text} {first}".rstrip()
            rest = "".join(others)
        page, text = next_page, rest
    if text:
        yield page, text


def _joined(group: list[_Line]) -> str:
    """Returns the lines of a group as one line."""
    text = group[0].text
    for line in group[1:]:
        text += line.text if _UNSPACED.match(text[-1]) else f" {line.text}"
    return text
