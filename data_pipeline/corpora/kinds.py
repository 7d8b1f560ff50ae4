"""Tells the kind of a file by its content; names files that hold no table, with a remedy."""

import re

from data_pipeline.corpora import arrow_files, opening, packings
from data_pipeline.corpora.reading import NotATableError

TABLE, JSON, PARQUET, ARROW, EXCEL = KINDS = ("table", "json", "parquet", "arrow", "excel")

_EXPORT = "Export question and answer as CSV or JSON Lines."
_UNPACK = "Unpack it first, and give the files in it."
_FETCH = "perhaps an error of the site that it was fetched from. Look at it, and fetch the file again"
# How files of other kinds begin, as bytes or as text after white space, and what they are.
_OTHER_BYTES = (
    (rb"\s*%PDF-", f"a PDF. {_EXPORT}"),
    (rb"\xd0\xcf\x11\xe0", "an old Office file (.xls, .doc) or one with a password. Save it as .xlsx or CSV."),
    (rb"SQLite format 3\x00", f"an SQLite database. {_EXPORT}"),
    (rb"version https://git-lfs", "a pointer of Git LFS, not the file itself. Fetch it with: git lfs pull"),
    (rb"FEA1\x00", "a Feather file of an early version. Write it as Parquet."),
    (rb"PARE[^ -~\s]", "an encrypted Parquet file. Write it without encryption."),
    (rb"ORC[\x00-\x08]|Obj\x01", "an ORC or Avro file. Write it as Parquet."),
    (rb"7z\xbc\xaf", f"a 7z archive. {_UNPACK}"),
    (rb"Rar!\x1a", f"a RAR archive. {_UNPACK}"),
    (rb"(?s).{257}ustar", f"a tar archive. {_UNPACK}"),
    (rb"PK(\x03\x04|\x05\x06)", f"a zip archive. {_UNPACK}"),
    (rb"\x80[\x02-\x05][\x8c\x95c}\](]", f"a pickle of Python. {_EXPORT}"),
    (rb"\x89HDF|\x93NUMPY", f"an HDF5 or NumPy file. {_EXPORT}"),
    (
        rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|RIFF.{4}(WAVE|WEBP|AVI )",
        f"an image or a recording. {_EXPORT}",
    ),
    (rb"\{\\rtf", f"a text in RTF. {_EXPORT}"),
)
_STARTS = ((rb"PAR1[^ -~\s]", PARQUET), (rb"ARROW1\x00|\xff\xff\xff\xff.{3}\x00", ARROW))
_OTHER_TEXTS = (
    (r"(<\?xml[^>]*>\s*|<!--.*?-->\s*)*<(posts|row)\b", f"a StackExchange dump in XML. {_EXPORT}"),
    (
        r"(<!--.*?-->\s*)*<(!doctype html|html|head|body)\b",
        f"a page in HTML, {_FETCH}, or read documents with --rows=passages.",
    ),
    (r"<(\?xml|!doctype)\b", f"XML. {_EXPORT}"),
    (r".*\x1b\$[@B]", "a text in ISO-2022-JP. Convert it first, with: iconv -f ISO-2022-JP -t UTF-8"),
)
_ZIPPED = (  # an entry of a zip archive, and what this makes of the archive
    ("word/", f"a Word document (.docx). {_EXPORT}"),
    ("ppt/", f"a presentation (.pptx). {_EXPORT}"),
    ("xl/workbook.bin", "a binary Excel workbook (.xlsb). Save it as .xlsx or CSV."),
    ("content.xml", "an OpenDocument file (.ods, .odt). Save it as .xlsx or CSV."),
)


def kind_of(path: str, named: str = "auto") -> str:
    """Returns TABLE, JSON, PARQUET, ARROW (also for a folder of Hugging Face datasets) or EXCEL.

    Args:
      path: the file.
      named: one of these, which is returned; any other name: the content decides.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: the file is of another kind, which the message names.
    """
    if named in KINDS:
        return named
    if arrow_files.is_dataset(path):
        return ARROW
    start = opening.head(path)
    inside = packings.names_in_zip(path) if start.startswith(b"PK\x03\x04") else []
    starts = (kind for pattern, kind in _STARTS if re.match(pattern, start, re.DOTALL))
    kind = next(starts, EXCEL if "xl/workbook.xml" in inside else None)
    if kind and (packing := packings.packing_of(path)):
        raise ValueError(f"{path} is a {kind} file packed with {packing}. Unpack it first.")
    if kind:
        return kind
    other = next((name for entry, name in _ZIPPED if any(path.startswith(entry) for path in inside)), None)
    other = other or next((name for pattern, name in _OTHER_BYTES if re.match(pattern, start)), None)
    text = opening.decoded(start)
    if not other and text is not None:
        text = text.lstrip("\ufeff \t\r\n")
        flags = re.IGNORECASE | re.DOTALL
        other = next((name for pattern, name in _OTHER_TEXTS if re.match(pattern, text, flags)), None)
    if other:
        raise NotATableError(f"{path} is {other}{_names(inside)}")
    if text is None:
        raise NotATableError(
            f"{path} holds bytes that are no text. Expected CSV, TSV, JSON, JSON Lines, Parquet or Excel (.xlsx); the "
            "first four also packed with gzip, bzip2, xz or zstandard."
        )
    return JSON if _is_json(text, path) else TABLE


def _is_json(text: str, path: str) -> bool:
    """Returns whether a text is JSON rather than a table such as `[id],question,answer`."""
    if re.search(r"\.(json|jsonl|ndjson)(\.\w+)?$", path, re.IGNORECASE):
        return text[:1] in ("{", "[")
    return bool(re.match(r"""\{\s*(["'}]|$)|\[\s*([\[{"\]0-9-]|true|false|null|$)""", text))


def _names(inside: list[str]) -> str:
    return f" It holds {', '.join(inside[:3])}{' and more' * (len(inside) > 3)}." if inside else ""
