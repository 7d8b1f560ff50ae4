"""Reads the text files of MedDialog and COVID-Dialogue, English and Chinese.

    id=1
    https://...
    Description
    ...
    Dialogue
    Patient:
    text on the next lines
    Doctor:
    ...

A file may have further sections before and behind the dialogue. Only the dialogues are read.
"""

import re
from collections.abc import Iterator

from data_pipeline.corpora import encodings, opening
from data_pipeline.corpora.opening import open_text

_RECORD = re.compile(r"\ufeff?id\s*=\s*\d+\s*")
_DIALOGUE = "Dialogue"
_OTHER_SECTIONS = ("Description", "Doctor faculty", "Diagnosis and suggestions")
_SPEAKER = re.compile(r"(Patient|Doctor|病人|患者|医生)\s*[:：]\s*")

Messages = list[tuple[str, str]]  # (speaker, text)


def is_meddialog(path: str) -> bool:
    """Returns whether a file begins as these do."""
    lines = (opening.decoded(opening.head(path)) or "").split("\n")
    return bool(_RECORD.fullmatch(next((line for line in lines if line.strip()), "")))


def read_messages(path: str) -> Iterator[tuple[str, Messages]]:
    """Yields the place and the messages of each record; none for a record without a dialogue.

    Raises:
      ValueError: while reading, if the file has another encoding, or a line without end.
    """
    encoding = "gb18030" if encodings.is_chinese(opening.head(path)) else None
    place, messages, inside = "", list[tuple[str, str]](), False
    with open_text(path, newline="\n", encoding=encoding) as file:  # a carriage return inside a text is a part of it
        for number, line in enumerate(file, 1):
            line = line.strip()
            if _RECORD.fullmatch(line):
                if place:
                    yield place, messages
                place, messages, inside = f"{path} line {number}", [], False
            elif line == _DIALOGUE or line in _OTHER_SECTIONS:
                inside = line == _DIALOGUE
            elif inside and (speaker := _SPEAKER.fullmatch(line)):
                messages.append((speaker[1], ""))
            elif inside and messages:
                name, text = messages[-1]
                messages[-1] = name, f"{text}\n{line}"
    if place:
        yield place, messages
