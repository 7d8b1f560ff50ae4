"""Reads databases with a row for each disease, drug or the like, and makes a pair of each fact.

    disease, Symptom, reason, TestsAndProcedures, commonMedications        ChatDoctor's disease database

    Asthma, "['Cough', 'Wheezing']", ...   ->   What are the symptoms of Asthma?
                                                Symptoms of Asthma: Cough, Wheezing.

A fact is a text, a number, or a list: of JSON or Parquet, or written as in Python. The name is the focus of the pairs.
"""

import ast
import contextlib
import dataclasses
import operator
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from data_pipeline import cleaning
from data_pipeline.corpora import Reader, formats, kinds, opened
from data_pipeline.corpora.columns import Columns, Roles, UsualNames, plain_name
from data_pipeline.corpora.pairs import data_rows
from data_pipeline.corpora.reading import NotATableError, Refusals
from data_pipeline.rows import PAIR, Pair

NO_NAME = "the row has no name"
NO_FACT = "the row has no fact"
_NUMBERS = ("idx", "id", "index", "no", "number", "#", "")  # names of columns that count the rows

_BYTES = re.compile(r"(?:\\x[0-9a-f]{2})+")  # written out, as in ChatDoctor's database


class _Fact(NamedTuple):
    """How a fact is asked for, and how it is said."""

    question: str
    answer: str


# By the letters of a column's name.
_KNOWN = (
    (r"(signsand)?symptoms?", _Fact("What are the symptoms of {name}?", "Symptoms of {name}: {text}")),
    (
        r"(medical)?tests?|(tests|examinations)andprocedures|testsperformed|procedures",
        _Fact("Which tests are done for {name}?", "Tests for {name}: {text}"),
    ),
    (
        r"(common)?(medications?|medicines?|drugs?)",
        _Fact("Which medications are used for {name}?", "Medications for {name}: {text}"),
    ),
    (r"reason|description|about|definition|summary|overview", _Fact("What is {name}?", "{text}")),
)
_OTHER = "What is the {label} of {name}?", "{Label} of {name}: {text}"


@dataclasses.dataclass(frozen=True)
class FactColumns(Columns):
    """The columns of a database: `focus` names that with the names, and `facts` those with facts."""

    usual_names: ClassVar[UsualNames] = {
        "focus": (("disease", "name"), ("condition", "disorder", "drug", "medicine", "topic", "focus", "title")),
        "source": (("source",),),
    }
    content: ClassVar[tuple[str, ...]] = ("focus",)
    required: ClassVar[tuple[str, ...]] = ()
    instructed: ClassVar[bool] = False
    row: ClassVar[str] = "row"
    fields: ClassVar[str] = "name and facts"
    lists: ClassVar[str] = "a list of all names and others of their facts"
    one_a_row: ClassVar[str] = "one name a row, with its facts"

    @classmethod
    def of(cls, columns: Columns) -> "FactColumns":
        """Returns the columns of a database that these settings describe."""
        return cls(**{field.name: getattr(columns, field.name) for field in dataclasses.fields(Columns)})

    def find(self, path: str, header: Sequence[str]) -> Roles:
        """Returns the places of the columns of each role: focus, facts, and source if there is one.

        The name is in the column named by flag, in one with a usual name, or in the first that does not count the rows.

        Raises:
          ValueError: A column that is named by flag is missing, or there is no column with names or none with facts.
        """
        if unused := next((name for name in ("question", "answer", "label", "title") if getattr(self, name)), None):
            raise ValueError(
                f"--{unused}_column is given. Expected --name_column and --facts_columns with --rows=facts."
            )
        names = list(map(plain_name, header))
        roles = self._roles(path, header)
        others = [place for place, name in enumerate(names) if name not in _NUMBERS]
        if "focus" not in roles and others:
            roles["focus"] = (others[0],)
        taken = {place for places in roles.values() for place in places}
        facts = [self._place(path, header, name) for name in self.facts] or [i for i in others if i not in taken]
        if "focus" not in roles or not facts:
            problem = "no column with facts beside the names" if "focus" in roles else "no column with names"
            flag = "--facts_columns" if "focus" in roles else "--name_column"
            raise NotATableError(self._missing(path, header, problem, flag))
        return roles | {"facts": tuple(facts)}

    def _place(self, path: str, header: Sequence[str], name: str) -> int:
        roles = dataclasses.replace(self, focus=name, facts=())._roles(path, header)
        return roles["focus"][0]


def read_facts(path: str, columns: Columns, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields a pair for each fact of a database, with its place; see `corpora.read_pairs` for the formats.

    Args:
      path: the file.
      columns: `focus` names the column with the names, `facts` those with facts.
      refusals: counts the rows without a name or without facts.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: the file is empty, damaged, of another kind, or lacks a column; the message names it.
    """
    formats.find(path, columns, "facts")  # no layout holds facts: raises its error if columns.format names one
    other = formats.find(path, columns, PAIR.plural) if columns.format == formats.AUTO else None
    if other and not other.is_table:
        rows = " or ".join(f"--rows={name}" for name in other.read)
        raise NotATableError(
            f"{path} is no database of facts. Expected one name a row, found {other.contents}. Give {rows}."
        )
    columns = FactColumns.of(columns)
    with opened(path, kinds.kind_of(path, columns.format), columns, refusals) as table:
        roles, value = columns.find(path, table.header), table.value or operator.getitem
        (name_place,), facts = roles["focus"], {place: _fact(table.header[place]) for place in roles["facts"]}
        for where, row in data_rows(table, name_place, roles["facts"][0], refusals):
            name = _text(value(row, name_place))
            if not name:
                refusals.add(NO_NAME, where)
                continue
            source = _text(value(row, roles["source"][0])) if "source" in roles else ""
            pairs = [
                _pair(fact, name, text, source) for place, fact in facts.items() if (text := _text(value(row, place)))
            ]
            if not pairs:
                refusals.add(NO_FACT, where)
            for number, pair in enumerate(pairs, 1):
                yield f"{where} fact {number}", pair


FACTS = Reader(PAIR, read_facts, "names with facts")


def _pair(fact: _Fact, name: str, text: str, source: str) -> Pair:
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    return Pair(fact.question.format(name=name), fact.answer.format(name=name, text=text), source, name)


def _fact(column: str) -> _Fact:
    """Returns how the facts of a column are asked for and said."""
    letters = re.sub(r"[\W_]+", "", column).casefold()
    for pattern, fact in _KNOWN:
        if re.fullmatch(pattern, letters):
            return fact
    label = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column).replace("_", " ").strip()
    label = (label if label.isupper() else label.lower()).replace("{", "{{").replace("}", "}}")
    question, answer = (
        part.replace("{label}", label).replace("{Label}", label[:1].upper() + label[1:]) for part in _OTHER
    )
    return _Fact(question, answer)


def _text(value: Any) -> str:
    """Returns a fact as a text: a list with commas between, a missing value as an empty text."""
    if isinstance(value, str) and value.strip().startswith("["):
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            value = ast.literal_eval(value.strip())
    if isinstance(value, list):
        return ", ".join(filter(None, map(_text, value)))
    if value is None or isinstance(value, bool) or value != value:
        return ""
    text = _BYTES.sub(lambda found: bytes.fromhex(found[0].replace("\\x", "")).decode(errors="replace"), str(value))
    text = cleaning.clean(text).strip(" ,;")
    return "" if cleaning.is_null_word(text) else text
