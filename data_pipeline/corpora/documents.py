"""Reads documents as passages: text, Markdown, HTML, PDF and Word (.docx), cut at headings, pages and paragraphs.

trafilatura finds the text of a page of the web, pypdfium2 that of a PDF; both are in the extra `documents`.
"""

import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from data_pipeline.corpora import docx_files, pdf_files, web_pages
from data_pipeline.corpora.opening import MAX_ROW_BYTES, open_text, too_long
from data_pipeline.corpora.reading import Block, Format, Refusals, Start, files_of
from data_pipeline.rows import Passage
from data_pipeline.sentences import split_sentences

NO_TEXT = "the document holds no text"
QUESTIONS = "the page holds only questions with answers: read it with --rows=pairs"
_MAX_CHARACTERS = 1_000  # of a passage: some 250 tokens, as many as most encoders read
_MIN_CHARACTERS = 200  # a shorter passage ends at headings and pages only
_LONGEST_HEADING = 80
_ENDS = (".", "!", "?", "。", "！", "？")  # of sentences
_TEXT_ENDINGS = (".txt", ".text", ".md", ".markdown")
_ENDINGS = (*_TEXT_ENDINGS, *web_pages.ENDINGS, ".pdf", ".docx")
_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*")
_FENCE = re.compile(r"(```|~~~)")


class _Document(NamedTuple):
    title: str
    blocks: Iterator[Block]


def read_passages(path: str, columns: Any, refusals: Refusals) -> Iterator[tuple[str, Passage]]:
    """Yields the passages of a file, or of all documents in a folder; the source is the name of the file.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: the file is damaged or has a password, or a package is missing; the message names it.
    """
    del columns
    for file in _files(path):
        title, blocks = _opened(file)
        number = 0
        for passage in _passages(title, os.path.basename(file), blocks):
            number += 1
            yield f"{file} passage {number}", passage
        if not number:
            refusals.add(QUESTIONS if web_pages.holds_questions(Start.of(file)) else NO_TEXT, file)


def _opened(path: str) -> _Document:
    start = Start.of(path)
    if start.content.startswith(b"%PDF-"):
        return _pdf(path)
    if docx_files.is_docx(start):
        return _Document("", docx_files.blocks(path))
    if web_pages.is_html(start):
        return _page(path)
    return _Document("", _of_text(path))


def _passages(title: str, source: str, blocks: Iterator[Block]) -> Iterator[Passage]:
    """Yields passages of whole paragraphs; none goes on behind a heading or a page."""
    above: dict[int, str] = {}
    texts: list[str] = []
    page, is_named = "", bool(title)

    def taken(num_kept: int = 0) -> Iterator[Passage]:
        whole = texts[: len(texts) - num_kept]
        if whole:
            yield Passage("\n\n".join(whole), title, source, "", " > ".join(above.values()), page)
            del texts[: len(whole)]

    for block in blocks:
        size = sum(map(len, texts))
        if block.level:
            yield from taken()
        elif block.page != page:
            yield from taken(num_kept=int(_introduces(texts)))
        elif size + len(block.text) > _MAX_CHARACTERS and size >= _MIN_CHARACTERS:
            yield from taken(num_kept=int(_introduces(texts) or _ends_with_heading(texts)))
        page = block.page
        if block.level == 1 and (not is_named or title == block.text):
            title, above = block.text, {}
        elif block.level:
            above = {level: text for level, text in above.items() if level < block.level} | {block.level: block.text}
        else:
            *whole, last = _pieces(block.text, _MAX_CHARACTERS - sum(map(len, texts)))
            for piece in whole:
                texts.append(piece)
                yield from taken()
            texts.append(last)
    yield from taken()


def _introduces(texts: list[str]) -> bool:
    """Returns whether the last paragraph is the beginning of a list, such as "Symptoms are:"."""
    return bool(texts) and len(texts[-1]) <= _MAX_CHARACTERS / 2 and texts[-1].endswith((":", "："))


def _ends_with_heading(texts: list[str]) -> bool:
    """Returns whether the last paragraph is a line like a heading behind a whole sentence."""
    *_, before, last = ["", "", *texts]
    is_line = len(last) <= _LONGEST_HEADING and last[:1].isupper() and not last.endswith(_ENDS)
    return is_line and before.endswith(_ENDS)


def _pieces(text: str, room: int) -> list[str]:
    """Returns a paragraph, or one that is too long in pieces of whole sentences, the first of which fills the room."""
    if len(text) <= room:
        return [text]
    pieces = [""]
    for sentence in split_sentences(text):
        if pieces[-1] and len(pieces[-1]) + len(sentence) > (room if len(pieces) == 1 else _MAX_CHARACTERS):
            pieces.append("")
        pieces[-1] += sentence
    return [piece.strip() for piece in pieces]


def _of_text(path: str) -> Iterator[Block]:
    """Yields the paragraphs and headings of a text file."""
    with open_text(path, newline=None) as file:
        yield from _of_lines(file, path)


def _of_lines(lines: Any, path: str) -> Iterator[Block]:
    """Yields the headings of Markdown and the paragraphs, between which blank lines stand."""
    texts, size, fenced = list[str](), 0, False
    for line in lines:
        text = line.rstrip()
        size += len(text)
        if size > MAX_ROW_BYTES:
            raise ValueError(too_long(path, "a paragraph"))
        fenced ^= _FENCE.match(text) is not None
        heading = None if fenced else _HEADING.fullmatch(text)
        if text and not heading:
            texts.append(text)
            continue
        if texts:
            yield Block("\n".join(texts))
            texts, size = [], 0
        if heading and heading[2]:
            yield Block(heading[2], len(heading[1]))
    if texts:
        yield Block("\n".join(texts))


def _page(path: str) -> _Document:
    try:
        from data_pipeline.corpora import page_texts  # trafilatura is an extra
    except ImportError as error:
        raise _missing(path, "a web page", "trafilatura") from error
    page = web_pages.read_html(path)
    if not page.strip():
        return _Document("", iter(()))
    title, lines = page_texts.read(page)
    return _Document(title, _of_lines(lines, path))


def _pdf(path: str) -> _Document:
    try:
        import pypdfium2  # an extra
    except ImportError as error:
        raise _missing(path, "a PDF", "pypdfium2") from error
    try:
        document = pypdfium2.PdfDocument(path)
        title = pdf_files.title_of(document)
    except pypdfium2.PdfiumError as error:
        raise ValueError(
            f"{path} is a damaged PDF, or one with a password ({error}). Fetch or save it again."
        ) from error

    def blocks() -> Iterator[Block]:
        try:
            yield from pdf_files.blocks(document)
        except pypdfium2.PdfiumError as error:
            raise ValueError(f"{path} has a damaged page ({error}). Fetch or save it again.") from error
        finally:
            document.close()

    return _Document(title, blocks())


def _missing(path: str, kind: str, package: str) -> ValueError:
    return ValueError(
        f"{path} is {kind}, which needs another package. Install it with: pip install {package} "
        "(docproduct's extra documents)."
    )


def _files(path: str) -> list[str]:
    return files_of(path, _ENDINGS)


def _is_file(start: Start) -> bool:
    name = re.sub(r"\.(gz|bz2|xz|zst)$", "", start.path.lower())
    is_text = bool(start.text) and name.endswith(_TEXT_ENDINGS)
    return start.content.startswith(b"%PDF-") or docx_files.is_docx(start) or web_pages.is_html(start) or is_text


DOCUMENTS = Format(
    "documents",
    "documents: text, Markdown, HTML, PDF, Word",
    "guide.md: # Cough / ## Treatment / Honey eases a dry cough.",
    {"passages": read_passages},
    _is_file,
    lambda path: len(_files(path)) > len(files_of(path)) / 2,
    _files,
    is_table=True,
)
