"""What kind of file it is, by its content; files that hold no table are named, with what to do."""

import re
import zipfile

from data_pipeline.corpora import opening

TABLE, JSON, PARQUET, EXCEL = "table", "json", "parquet", "excel"

_EXPORT = "Export question and answer as CSV or JSON Lines."
_OTHER_BYTES = {
    b"%PDF-": f"a PDF. {_EXPORT}",
    b"\xd0\xcf\x11\xe0": "an old Office file (.xls, .doc). Save it as .xlsx or CSV.",
    b"SQLite format 3\x00": f"an SQLite database. {_EXPORT}",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself. Fetch it with: git lfs pull",
    b"ARROW1": "an Arrow file. Write it as Parquet.",
    b"7z\xbc\xaf": "a 7z archive. Unpack it first.",
    b"Rar!": "a RAR archive. Unpack it first.",
    b"\xfd7zXZ": "packed with xz. Unpack it first: unxz",
    b"PK\x03\x04": "a zip archive. Unpack it first, and give the files in it.",
    b"\x80\x04\x95": f"a pickle of Python. {_EXPORT}",
}
_OTHER_TEXTS = (
    (re.compile(r"<\?xml.*<(posts|row)\b|<posts\b", re.DOTALL), f"a StackExchange dump in XML. {_EXPORT}"),
    (re.compile(r"<\?xml"), f"XML. {_EXPORT}"),
    (re.compile(r"<(!doctype html|html|head|body)\b", re.IGNORECASE), "a page in HTML, perhaps an error of the site "
     "that it was fetched from. Fetch the file again, and look at it."),
)  # fmt: skip
_MARKUP = {b"word/": "a Word document (.docx)", b"ppt/": "a presentation (.pptx)"}


def kind_of(path: str) -> str:
    """Returns TABLE, JSON, PARQUET or EXCEL.

    Raises:
      FileNotFoundError: no such file.
      ValueError: the file is empty, or of another kind, which the message names.
    """
    start = opening.head(path)
    if start.startswith(b"PAR1"):
        return PARQUET
    if start.startswith(b"PK\x03\x04") and (inside := _inside_zip(path)):
        if "xl/workbook.xml" in inside:
            return EXCEL
        for folder, name in _MARKUP.items():
            if any(entry.startswith(folder.decode()) for entry in inside):
                raise ValueError(f"{path} is {name}. Expected a table of questions and answers. {_EXPORT}")
    for mark, what in _OTHER_BYTES.items():
        if start.startswith(mark):
            raise ValueError(f"{path} is {what}")
    encoding = opening.encoding_of(start)
    text = start.decode(encoding, "ignore").lstrip()
    if b"\x00" in start and encoding == "utf-8":
        raise ValueError(
            f"{path} holds bytes that are no text. Expected CSV, TSV, JSON, JSON Lines, Parquet or Excel (.xlsx), "
            "plain or packed with gzip, bzip2 or zstandard."
        )
    for pattern, what in _OTHER_TEXTS:
        if pattern.match(text):
            raise ValueError(f"{path} is {what}")
    return JSON if re.match(r"[\[{]", text) and not _is_table_line(text) else TABLE


def _is_table_line(text: str) -> bool:
    """Returns whether what begins like JSON is a table's header, such as `[id],question,answer`."""
    return not re.match(r"""[\[{]\s*([\[{"\]}0-9tfn-]|$)""", text)


def _inside_zip(path: str) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return []
