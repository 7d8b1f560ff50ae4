"""Reads the headings and paragraphs of Word documents (.docx).

Source: ECMA-376: w:p is a paragraph, w:t a text in it; the English name of a style tells a heading in every language.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator

from data_pipeline.corpora.packings import ZIP_ERRORS, names_in_zip
from data_pipeline.corpora.reading import Block, Start
from data_pipeline.corpora.xml_files import elements_of

_DOCUMENT, _STYLES = "word/document.xml", "word/styles.xml"
_MAX_BYTES = 2**28  # unpacked
_HEADING = re.compile(r"(?:heading (\d)|(title))", re.IGNORECASE)
_BREAKS = {"w:tab": "\t", "w:br": "\n", "w:cr": "\n"}


def is_docx(start: Start) -> bool:
    """Returns whether a file is a Word document."""
    return start.content.startswith(b"PK\x03\x04") and _DOCUMENT in names_in_zip(start.path)


def blocks(path: str) -> Iterator[Block]:
    """Yields the headings and paragraphs; pages are those that Word noted when it saved the document.

    Raises:
      ValueError: the document is damaged, has a password, or unpacks to more than 256 MiB.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo(_DOCUMENT).file_size
            if size > _MAX_BYTES:
                raise ValueError(f"{path} unpacks to {size:,} bytes. Save it in parts.")
            levels = _levels(archive, path)
            with archive.open(_DOCUMENT) as file:
                yield from _paragraphs(file, path, levels)
    except (*ZIP_ERRORS, zlib.error, EOFError, LookupError, RuntimeError) as error:
        raise ValueError(f"{path} is a damaged Word document ({error}). Save or fetch it again.") from error


def _levels(archive: zipfile.ZipFile, path: str) -> dict[str, int]:
    """Returns the level of each style that is a heading; that of titles is 1."""
    levels: dict[str, int] = {}
    if _STYLES not in archive.namelist() or archive.getinfo(_STYLES).file_size > _MAX_BYTES:
        return levels
    style = ""
    with archive.open(_STYLES) as file:
        for element in elements_of(file, path):
            attributes = element.attributes or {}
            if element.name == "w:style" and attributes:
                style = attributes.get("w:styleId", "")
            elif element.name == "w:name" and (match := _HEADING.fullmatch(attributes.get("w:val", ""))):
                levels[style] = 1 if match[2] else int(match[1]) + 1
    return levels


def _paragraphs(file: zipfile.ZipExtFile, path: str, levels: dict[str, int]) -> Iterator[Block]:
    """Yields the paragraphs, each with the page that it begins on."""
    parts, level, page, begun = list[str](), 0, 1, 0
    is_behind_break = False  # there, Word notes the page that the break has begun already
    for element in elements_of(file, path):
        attributes = element.attributes
        if element.name == "w:t" and attributes is None:
            parts.append(element.text)
            if element.text.strip():
                begun, is_behind_break = begun or page, False
        elif element.name == "w:p" and attributes is None:
            if text := "".join(parts).strip():
                yield Block(text, level, str(begun))
            parts, level, begun = [], 0, 0
        elif attributes is not None and element.name == "w:pStyle":
            level = levels.get(attributes.get("w:val", ""), 0)
        elif attributes is not None and element.name == "w:lastRenderedPageBreak":
            page, is_behind_break = page + (not is_behind_break), False
        elif attributes is not None and attributes.get("w:type") == "page":
            page, is_behind_break = page + 1, True
            parts.append("\n")
        elif attributes is not None and element.name in _BREAKS:
            parts.append(_BREAKS[element.name])
