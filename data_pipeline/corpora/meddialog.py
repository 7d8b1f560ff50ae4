"""Reads MedDialog and COVID-Dialogue, English and Chinese: their raw text and their JSON.

    id=1
    https://...                  the page
    Doctor faculty               one line: hospital and department; in some years only
    Description                  the case in the patient's words; in Chinese with fields, such as 病情描述
    Dialogue                     "Patient:" (病人：) and "Doctor:" (医生：), each with its text on the next lines
    Diagnosis and suggestions    in some years only; left out

A pair is the first question with the first answer, as in the published pairs. Where the doctor speaks first, he answers
the description, which is the question then.

Source: https://github.com/UCSD-AI4H/Medical-Dialogue-System and COVID-Dialogue (Zeng et al., 2020).
"""

import itertools
import operator
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from data_pipeline.corpora import encodings, opening
from data_pipeline.corpora.json_scanner import Scanner, values
from data_pipeline.corpora.opening import open_text
from data_pipeline.corpora.reading import Format, Refusals, Start
from data_pipeline.rows import Pair

NO_ANSWER, NO_QUESTION = "no answer in the dialogue", "no question before the first answer"
NO_DIALOGUE = "the row holds no dialogue of patient and doctor"
ID_AGAIN = "an id does not follow the one before it: ids repeat"
_MAX_CHARACTERS = 2**23  # of a record
_BLOCK = 2**20  # characters read at once
_PATIENT, _DOCTOR = "patient", "doctor"
# Each begins with a line break, which the engine finds ten times as fast as "^".
_RECORD = re.compile(r"\n[ \t]*id[ \t]*=[ \t]*(\d+)[ \t\r]*(?=\n|$)")
_TURN = re.compile(r"\n[ \t]*(?:(Patient|病人|患者)|Doctor|医生)[ \t]*[:：][ \t\r]*(?=\n|$)")
_OF_PATIENT, _OF_DOCTOR = "\nPatient:\n", "\nDoctor:\n"  # as turns begin in the raw text
_SPEAKER = re.compile(r"\s*(?:(patient|病人|患者)|doctor|医生)\s*[:：]", re.IGNORECASE)  # of a turn in JSON
_FACULTY, _DESCRIPTION, _DIALOGUE, _DIAGNOSIS = _SECTIONS = (
    "Doctor faculty",
    "Description",
    "Dialogue",
    "Diagnosis and suggestions",
)
_SECTION = re.compile(rf"\n[ \t]*({'|'.join(_SECTIONS)})[ \t\r]*(?=\n|$)")
_URL = re.compile(r"\n[ \t]*(https?:\S+)")
_IS_RAW = re.compile(r"id\s*=\s*\d+\s*\n\s*(https?:|Doctor faculty\s|Description\s|Dialogue\s)")
_LISTS = ("Dialogue", "dialogue", "utterances")  # fields with the turns
_ESCAPED = r"\\u75c5\\u4eba|\\u60a3\\u8005|\\u533b\\u751f"  # 病人, 患者, 医生 as JSON may write them
_IS_JSON = re.compile(
    rf'\[?\s*(\[|\{{.*?"({"|".join(_LISTS)})"\s*:\s*\[)\s*"(patient|doctor|病人|患者|医生|{_ESCAPED})\s*([:：]|\\uff1a)',
    re.DOTALL | re.IGNORECASE,
)


class Consultation(NamedTuple):
    """A record: its place, page, department, description and dialogue."""

    where: str
    url: str
    department: str
    description: str
    dialogue: str

    def turns(self) -> Iterator[tuple[str, str]]:
        """Yields speaker and text of each turn that has a text."""
        speaker, start = "", 0
        for match in _TURN.finditer(self.dialogue):
            if speaker and (text := _trimmed(self.dialogue[start : match.start()])):
                yield speaker, text
            speaker, start = _PATIENT if match[1] else _DOCTOR, match.end()
        if speaker and (text := _trimmed(self.dialogue[start:])):
            yield speaker, text

    def spoken(self) -> Iterator[tuple[str, str]]:
        """Yields the turns; the description is the patient's first if the doctor would speak first."""
        turns = self.turns()
        first = next(turns, None)
        if first and first[0] == _DOCTOR and (description := _trimmed(self.description)):
            yield _PATIENT, description
        yield from itertools.chain([first] if first else [], turns)

    def messages(self) -> Iterator[str]:
        """Yields the messages of patient and doctor in turn."""
        is_asked = False
        for speaker, turns in itertools.groupby(self.spoken(), operator.itemgetter(0)):
            is_asked = is_asked or speaker == _PATIENT
            if is_asked:  # an answer to no question is left out
                yield "\n".join(text for _, text in turns)


def read_pairs(path: str, columns: Any, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields the first question with the first answer of each dialogue; the department is its focus."""
    del columns
    is_json = Start.of(path).text.startswith(("[", "{"))
    for record in (_of_json if is_json else _of_text)(path, refusals):
        question, answer, *_ = [*itertools.islice(record.messages(), 2), "", ""]
        if question and answer:
            yield record.where, Pair(question, answer, focus=record.department, url=record.url)
        else:
            has_doctor = any(speaker == _DOCTOR for speaker, _ in record.turns())
            refusals.add(NO_QUESTION if has_doctor else NO_ANSWER, record.where)


def read_consultations(path: str) -> Iterator[Consultation]:
    """Yields the records of a raw text; one without a dialogue has no turns.

    Raises:
      ValueError: while reading, if the file has another encoding, or a line or dialogue without end.
    """
    return _of_text(path, Refusals())


def is_meddialog(path: str) -> bool:
    """Returns whether a file begins as the raw texts do."""
    return _IS_RAW.match(Start.of(path).text) is not None


def _trimmed(text: str) -> str:
    """Returns the lines of a text without blanks at their ends, and without empty ones."""
    text = text.strip()
    return "\n".join(filter(None, map(str.strip, text.split("\n")))) if "\n" in text else text


def _of_text(path: str, refusals: Refusals) -> Iterator[Consultation]:
    """Yields the records of a raw text. A carriage return inside a line is white space."""
    last = None
    for line, number, text in _records(path):
        where = f"{path} line {line} id {number}"
        if last is not None and number != last + 1:
            refusals.note(ID_AGAIN, where)
        last = number
        yield _record(where, text)


def _records(path: str) -> Iterator[tuple[int, int, str]]:
    """Yields line, id and text of each record."""
    encoding = "gb18030" if encodings.is_chinese(opening.head(path)) else None
    rest, line, more = "\n", 0, True
    with open_text(path, newline="\n", encoding=encoding) as file:
        while more:
            more = bool(block := file.read(_BLOCK))
            text, at = rest + block, 0
            starts = list(_RECORD.finditer(text))
            ends = [match.start() for match in starts[1:]] + ([] if more else [len(text)])
            for start, end in zip(starts, ends, strict=False):  # the last record may go on in the next block
                line, at = line + text.count("\n", at, start.start()), start.start()
                yield line + 1, int(start[1][:18]), text[start.end() : end]
            kept = ends[-1] if ends else 0
            line += text.count("\n", at, kept)
            rest = text[kept:]
            if len(rest) > _MAX_CHARACTERS + _BLOCK:
                raise ValueError(
                    f"{path} line {line + 1} has a dialogue of more than {_MAX_CHARACTERS:,} characters. Expected "
                    "MedDialog's records, each of which begins with a line such as id=1."
                )


def _record(where: str, text: str) -> Consultation:
    sections: dict[str, str] = {}
    name, start = "", 0
    for match in _SECTION.finditer(text):
        if name != _DIALOGUE or match[1] == _DIAGNOSIS:  # in a dialogue, the other names are text
            sections.setdefault(name, text[start : match.start()])
            name, start = match[1], match.end()
    sections.setdefault(name, text[start:])
    url = _URL.search(sections[""])
    department = sections.get(_FACULTY, "").split()[-1:]
    return Consultation(
        where,
        url[1] if url else "",
        department[0] if department else "",
        sections.get(_DESCRIPTION, ""),
        sections.get(_DIALOGUE, ""),
    )


def _begun(speaker: re.Match[str]) -> str:
    return _OF_PATIENT if speaker[1] else _OF_DOCTOR


def _of_json(path: str, refusals: Refusals) -> Iterator[Consultation]:
    """Yields the dialogues of JSON: lists of turns, or objects with such a list; a turn begins with its speaker."""
    with open_text(path, bounded=False) as file:
        for where, value in values(Scanner(file, path)):
            fields = value if isinstance(value, dict) else {"utterances": value}
            turns = next((fields[name] for name in _LISTS if isinstance(fields.get(name), list)), None)
            if turns is None or not all(isinstance(turn, str) for turn in turns):
                refusals.add(NO_DIALOGUE, where)
                continue
            description = fields.get("description")
            description = description if isinstance(description, str) else ""
            dialogue = "".join(_SPEAKER.sub(_begun, turn, count=1) for turn in turns)
            yield Consultation(where, "", "", description, dialogue)


MEDDIALOG = Format(
    "meddialog",
    "dialogues of MedDialog or COVID-Dialogue",
    "id=1 / https://... / Description / Dialogue / Patient: / My throat is sore. / Doctor: / Since when?",
    {"pairs": read_pairs},
    lambda start: is_meddialog(start.path) or _IS_JSON.match(start.text) is not None,
)
