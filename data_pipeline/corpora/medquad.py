"""Reads MedQuAD's XML files, a document with questions and answers each, as pairs.

Answers of three collections were removed by the authors; their pairs are refused with the reason "empty answer".

Source: https://github.com/abachaa/MedQuAD (Ben Abacha and Demner-Fushman, 2019).
"""

import os
import re
from collections.abc import Iterator
from typing import Any

from data_pipeline.corpora.reading import Format, Refusals, Start, files_of
from data_pipeline.corpora.xml_files import elements
from data_pipeline.rows import Pair

_IS_DOCUMENT = re.compile(
    r"<\?xml[^>]*>\s*(<!--.*?-->\s*)*<Document\s[^>]*\bsource=|<Document\s[^>]*\bsource=", re.DOTALL
)
_FIELDS = {"CUI": "cui", "SemanticType": "semantic_type", "Synonym": "synonyms", "SemanticGroup": "semantic_group"}
NO_ANSWER = "empty answer"


def read_pairs(path: str, columns: Any, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields the pairs of a file, or of all XML files of a folder; the source is the name of the file's folder."""
    del columns
    for file in _files(path):
        yield from _pairs(file, refusals)


def _pairs(path: str, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    source = os.path.basename(os.path.dirname(os.path.abspath(path)))
    about: dict[str, list[str]] = {name: [] for name in ("focus", *_FIELDS.values())}
    url, question, where = "", "", path
    for name, attributes, text, _ in elements(path):
        if name == "Document" and attributes is not None:
            url = attributes.get("url", "")
        elif name == "QAPair" and attributes is not None:
            where, question = f"{path} pair {attributes.get('pid', '')}", ""
        elif attributes is None and name == "Focus":
            about["focus"].append(text.strip())
        elif attributes is None and name in _FIELDS and text.strip():
            about[_FIELDS[name]].append(text.strip())
        elif attributes is None and name == "Question":
            question = text
        elif attributes is None and name == "Answer":
            if text.strip():
                labels = {field: "|".join(values) for field, values in about.items()}
                yield where, Pair(question, text, source, url=url, **labels)
            else:
                refusals.add(NO_ANSWER, where)


def _files(path: str) -> list[str]:
    return files_of(path, (".xml",))


def _is_folder(path: str) -> bool:
    """Returns whether the XML files of a folder, the first of which decides, are MedQuAD's."""
    files = _files(path)
    return bool(files) and len(files) > len(files_of(path)) / 2 and _is_document(Start.of(files[0]))


def _is_document(start: Start) -> bool:
    return _IS_DOCUMENT.match(start.text) is not None


MEDQUAD = Format(
    "medquad",
    "MedQuAD (XML)",
    '<Document id="1" source="GARD" url="..."><Focus>Cough</Focus>... <QAPair><Question>...</Question><Answer>...',
    {"pairs": read_pairs},
    _is_document,
    _is_folder,
    _files,
)
