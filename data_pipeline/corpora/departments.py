"""Reads Chinese-medical-dialogue-data as pairs, in UTF-8 and in GB18030: its tables and its texts.

    department,title,ask,answer        the header of a table
    title,ask / answer / two blank lines        a text

The title stands before the question, and the department is the focus. `--rows=triage` reads the tables with departments
as labels.

Source: https://github.com/Toyhom/Chinese-medical-dialogue-data.
"""

import dataclasses
import itertools
import operator
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from data_pipeline.corpora import encodings, kinds
from data_pipeline.corpora.any_table import opened
from data_pipeline.corpora.columns import Columns, Roles, UsualNames
from data_pipeline.corpora.opening import open_text
from data_pipeline.corpora.reading import Format, Refusals, Start
from data_pipeline.rows import Pair

NO_ANSWER = "a question without an answer"
_MAX_CHARACTERS = 2**23  # of a block
_IS_TABLE = re.compile(r'"?department"?[,\t]"?title"?[,\t]"?ask"?[,\t]"?answer"?\s', re.IGNORECASE)
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


@dataclasses.dataclass(frozen=True)
class _Departments(Columns):
    usual_names: ClassVar[UsualNames] = {name: ((name,),) for name in ("department", "title", "ask", "answer")}
    content: ClassVar[tuple[str, ...]] = ("ask", "answer")
    required: ClassVar[tuple[str, ...]] = ("department", "title", "ask", "answer")
    instructed: ClassVar[bool] = False
    chinese: ClassVar[bool] = True

    def find(self, path: str, header: Sequence[str]) -> Roles:
        return self._roles(path, header)


def read_pairs(path: str, columns: Any, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields the pairs of a table or of a text."""
    del columns
    start = Start.of(path)
    if _IS_TABLE.match(start.text):
        yield from _of_table(path, refusals)
    else:
        yield from _of_text(path, "gb18030" if encodings.is_chinese(start.content) else None, refusals)


def _of_table(path: str, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    with opened(path, kinds.TABLE, _Departments(), refusals) as table:
        roles = {role: place for role, (place,) in _Departments().find(path, table.header).items()}
        value = table.value or operator.getitem
        for where, row in table.rows:
            texts = {role: value(row, place) for role, place in roles.items()}
            yield where, Pair(_question(texts["title"], texts["ask"]), texts["answer"], focus=texts["department"])


def _of_text(path: str, encoding: str | None, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    question, answer, where, size = "", list[str](), path, 0
    with open_text(path, newline="\n", encoding=encoding) as file:
        for number, line in enumerate(itertools.chain(file, "\n"), 1):
            text = line.strip()
            size += len(text)
            if size > _MAX_CHARACTERS:
                raise ValueError(f"{path} line {number} has a pair of more than {_MAX_CHARACTERS:,} characters.")
            if text and question:
                answer.append(text)
            elif text:
                question, where = _question(*text.partition(",")[::2]), f"{path} line {number}"
            elif question:
                if answer:
                    yield where, Pair(question, "\n".join(answer))
                else:
                    refusals.add(NO_ANSWER, where)
                question, answer, size = "", [], 0


def _question(title: str, text: str) -> str:
    return "\n".join(filter(None, dict.fromkeys((title.strip(), text.strip()))))


def _is_text(text: str) -> bool:
    """Returns whether a text begins with a title and a question, an answer, and two blank lines."""
    lines = [line.strip() for line in text.split("\n")]
    end = lines.index("") if "" in lines else len(lines)
    first = lines[0]
    return 2 <= end < len(lines) - 1 and not lines[end + 1] and "," in first and _CHINESE.search(first) is not None


def _is_file(start: Start) -> bool:
    text = start.text
    if encodings.is_chinese(start.content):
        text = start.content.decode("gb18030", "ignore")
    return _IS_TABLE.match(text) is not None or _is_text(text.lstrip("\ufeff \t\r\n"))


DEPARTMENTS = Format(
    "departments",
    "Chinese-medical-dialogue-data",
    "department,title,ask,answer / 呼吸科,夜里干咳,干咳一周，怎么办？,多喝水。",
    {"pairs": read_pairs},
    _is_file,
    is_table=True,
)
