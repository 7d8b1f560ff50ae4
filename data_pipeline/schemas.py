"""Schemas: what tells how the rows of a type are prepared.

A row type is a dataclass with a schema. Preparing, records, batches and prepared folders follow the schema, so a new
type needs these two and a reader:

    @dataclasses.dataclass(frozen=True)
    class Note:
        body: str
        topic: str = ""

    NOTE = Schema(
        Note,
        (Field("body", feature="body_ids", tokenizer=ENCODER, grouped=True), Field("topic", LABEL, "topic_class")),
        key="body",
    )

A prepared row has these columns in Parquet: its id (a hash of its texts), its texts and numbers, the groups, the split,
its labels. A record has the features, the id and the groups.
"""

import dataclasses

import pyarrow as pa

TEXT, TEXTS, LABEL, LABELS = "text", "list of texts", "label", "list of labels"  # kinds of fields
NUMBER, NUMBERS = "number", "list of numbers"
IDS = "ids"  # kind of feature: [T] token ids; the other kind is NUMBER, a 64-bit number
ENCODER = "encoder"
QUESTION, ANSWER = SIDES = ("question", "answer")
SOURCE = "source"

_ARROW_TYPES = {
    TEXT: pa.string(),
    TEXTS: pa.list_(pa.string()),
    LABEL: pa.string(),
    NUMBER: pa.int64(),
    NUMBERS: pa.list_(pa.int64()),
    LABELS: pa.list_(pa.string()),
}


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a row type.

    Attributes:
      name: the attribute of a row, and the column in Parquet.
      kind: TEXT or TEXTS are cleaned, and a row without them is refused; LABEL is a short text, which may be empty
        unless it has a feature; LABELS are several of a fixed set, such as roles; NUMBER is a 64-bit number; NUMBERS
        are several, such as places.
      feature: its name in records and batches: the token ids of a TEXT, the class of a LABEL (its place among the
        sorted labels in the manifest), a NUMBER itself. Empty: it is only in Parquet.
      tokenizer: whose tokenizer makes the ids: ENCODER, or empty for a field without ids. What a generator reads is
        tokenized in its prompt, in token_rows.
      grouped: for a TEXT or TEXTS: whether NAME_group holds the 64-bit hash of the text in normal form; of TEXTS, that
        of the first one.
      side: QUESTION or ANSWER: the encoder's prompt for this side precedes the text, and set phrases are removed
        from answers. Empty: neither.
      optional: whether a text may be empty; a row is kept without it.
      any_word: whether words for "no value", such as None, are texts like others.
      paragraphs: whether blank lines between paragraphs stay.
    """

    name: str
    kind: str = TEXT
    feature: str = ""
    tokenizer: str = ""
    grouped: bool = False
    side: str = ""
    optional: bool = False
    any_word: bool = False
    paragraphs: bool = False

    def __post_init__(self) -> None:
        """Raises a ValueError for a declaration that does not fit together."""
        if self.kind not in _ARROW_TYPES:
            raise ValueError(f"The kind of {self.name} is {self.kind!r}; expected one of {', '.join(_ARROW_TYPES)}.")
        if self.kind in (TEXTS, LABELS, NUMBERS) and self.feature:
            raise ValueError(f"{self.name} is a {self.kind} with a feature. Expected none: lists stand in Parquet.")
        if self.tokenizer != (ENCODER if self.kind == TEXT and self.feature else ""):
            raise ValueError(
                f"The tokenizer of {self.name} is {self.tokenizer!r}. Expected {ENCODER!r} for a text with a feature, "
                "and none for other fields."
            )
        if self.grouped and not self.is_content:
            raise ValueError(
                f"{self.name} is a grouped {self.kind}. Expected a text or a list of texts: a group is a text's hash."
            )
        if self.side not in ("", *SIDES):
            raise ValueError(f"The side of {self.name} is {self.side!r}; expected {' or '.join(SIDES)}, or none.")
        if self.optional and (self.kind != TEXT or self.tokenizer or self.grouped):
            raise ValueError(
                f"{self.name} is optional. Expected that of a text only, without token ids and without a group."
            )

    @property
    def is_content(self) -> bool:
        """Whether it is a text or a list of texts: what the id of a row is made of."""
        return self.kind in (TEXT, TEXTS)

    @property
    def group(self) -> str:
        """Name of the column and feature with its hash."""
        return f"{self.name}_group"

    @property
    def plural(self) -> str:
        """Its name for several, in messages."""
        return _plural(self.name)


@dataclasses.dataclass(frozen=True)
class Schema:
    """How a row type is prepared.

    Attributes:
      row: the dataclass of its rows.
      fields: one for each of its attributes, in their order.
      key: the grouped field that decides the split: rows with an equal group are never in two splits.
      stratify: a label of which each split gets its share of every value; empty: the hash of the key alone decides.
      either: fields that may be empty, but not all of them in one row.
    """

    row: type
    fields: tuple[Field, ...]
    key: str
    stratify: str = ""
    either: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises a ValueError if the fields are not those of the dataclass, or one named here is of another kind."""
        names = tuple(field.name for field in dataclasses.fields(self.row))
        declared = tuple(field.name for field in self.fields)
        if names != declared:
            raise ValueError(f"The fields of {self.row.__name__} are {names}; its schema declares {declared}.")
        if self.key not in (field.name for field in self.grouped):
            raise ValueError(f"The key of {self.row.__name__} is {self.key!r}; expected a field that is grouped.")
        if self.stratify and self.stratify not in (field.name for field in self.labels):
            raise ValueError(f"{self.row.__name__} is stratified by {self.stratify!r}; expected a label.")
        may_be_empty = [field.name for field in self.fields if field.optional or field.kind == LABEL]
        if others := sorted(set(self.either) - set(may_be_empty)):
            raise ValueError(
                f"{others[0]!r} is in `either` of {self.row.__name__}; expected {', '.join(may_be_empty)}."
            )

    @property
    def name(self) -> str:
        """The type in messages, and the first part of its id's name."""
        return self.row.__name__.lower()

    @property
    def plural(self) -> str:
        """The type for several, in messages and file names."""
        return _plural(self.name)

    @property
    def id_name(self) -> str:
        """Name of the column and feature with the id."""
        return f"{self.name}_id"

    @property
    def key_group(self) -> str:
        """Name of the column with the group that decides the split."""
        return f"{self.key}_group"

    @property
    def content(self) -> tuple[Field, ...]:
        """The texts and lists of texts."""
        return tuple(field for field in self.fields if field.is_content)

    @property
    def tokenized(self) -> tuple[Field, ...]:
        """The texts whose token ids stand in records."""
        return tuple(field for field in self.fields if field.tokenizer)

    def tokenized_field(self, name: str) -> Field:
        """Returns a tokenized field by its name.

        Raises:
          ValueError: no field of this name is tokenized.
        """
        fields = {field.name: field for field in self.tokenized}
        if name not in fields:
            raise ValueError(
                f"{name!r} is not a tokenized field of {self.plural}. "
                f"Fields with token ids: {', '.join(fields) or 'none'}."
            )
        return fields[name]

    @property
    def grouped(self) -> tuple[Field, ...]:
        """The texts whose groups stand in records."""
        return tuple(field for field in self.fields if field.grouped)

    @property
    def labels(self) -> tuple[Field, ...]:
        """The labels."""
        return tuple(field for field in self.fields if field.kind == LABEL)

    @property
    def classes(self) -> tuple[Field, ...]:
        """The labels whose class stands in records."""
        return tuple(field for field in self.labels if field.feature)

    @property
    def numbers(self) -> dict[str, str]:
        """The name of the column of each feature that is a number."""
        columns = {self.id_name: self.id_name} | {field.group: field.group for field in self.grouped}
        return columns | {f.feature: f.name for f in self.fields if f.feature and not f.tokenizer}

    @property
    def features(self) -> dict[str, str]:
        """The kind of each feature of a record, IDS or NUMBER."""
        return {field.feature: IDS for field in self.tokenized} | dict.fromkeys(self.numbers, NUMBER)

    @property
    def parquet(self) -> pa.Schema:
        """The columns in Parquet."""
        first = [(field.name, _ARROW_TYPES[field.kind]) for field in self.fields if field.kind != LABEL]
        groups = [(field.group, pa.int64()) for field in self.grouped]
        labels = [(field.name, _ARROW_TYPES[LABEL]) for field in self.labels]
        return pa.schema([(self.id_name, pa.int64()), *first, *groups, ("split", pa.string()), *labels])


def _plural(name: str) -> str:
    if name.endswith("s"):
        return name
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"
