"""Row types: a type that only this test declares is prepared from its schema and a reader."""

import collections
import dataclasses
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from data_pipeline import batches, rows
from data_pipeline.corpora import Reader
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.schemas import ENCODER, LABEL, NUMBER, TEXT, TEXTS, Field, Schema
from tests.conftest import VOCAB


@dataclasses.dataclass(frozen=True)
class Note:
    body: str
    topic: str = ""
    year: int = 0
    source: str = ""


BODY = Field("body", TEXT, "body_ids", ENCODER, grouped=True)
OTHER_FIELDS = (Field("topic", LABEL, "topic_class"), Field("year", NUMBER, "year"), Field("source", LABEL))
NOTE = Schema(Note, (BODY, *OTHER_FIELDS), key="body")
# Ten bodies, each in three spellings with one normal form; then a duplicate, an empty body and an empty topic.
BODIES = [f"what is {'ab'[i % 2]}{i}" for i in range(10)]
NOTES = [
    Note(text, "xyz"[i % 3], 2000 + i) for i, body in enumerate(BODIES) for text in (body, f"{body}.", body.upper())
]
NOTES += [NOTES[0], Note(" ", "x"), Note("the a", "")]


def read_notes(path, columns, refusals):
    del columns, refusals
    for number, line in enumerate(pathlib.Path(path).read_text().splitlines(), 1):
        body, topic, year = line.split("\t")
        yield f"{path} line {number}", Note(body, topic, int(year))


@pytest.fixture(scope="module")
def folder(vocab_file, tmp_path_factory):
    path = tmp_path_factory.mktemp("notes")
    (path / "notes.txt").write_text("".join(f"{note.body}\t{note.topic}\t{note.year}\n" for note in NOTES))
    settings = PrepareSettings(
        (str(path / "notes.txt"),), vocab_file, max_tokens={"body": 6}, dev_share=0.4, num_shards=2
    )
    prepare(settings, str(path / "out"), num_workers=0, reader=Reader(NOTE, read_notes))
    return PreparedFolder(str(path / "out"), NOTE)


def test_refusals_name_the_row_type(folder):
    source = folder.manifest["inputs"][0]["path"]
    assert folder.manifest["refused"] == {
        "empty body": {"rows": 1, "first": f"{source} line 32"},
        "empty topic": {"rows": 1, "first": f"{source} line 33"},
        "the same note occurs before": {"rows": 1, "first": f"{source} line 31"},
    }
    counts = folder.manifest["counts"]
    assert counts["train"]["notes"] + counts["dev"]["notes"] == 30
    assert folder.manifest["kind"] == "docproduct prepared notes"


def test_parquet_has_the_declared_columns(folder):
    table = pq.read_table(pathlib.Path(folder.path, "notes.parquet"))
    strings, numbers = ("body", "split", "topic", "source"), ("note_id", "year", "body_group")
    assert table.column_names == ["note_id", "body", "year", "body_group", "split", "topic", "source"]
    assert all(table.schema.field(name).type == pa.string() for name in strings)
    assert all(table.schema.field(name).type == pa.int64() for name in numbers)
    notes = sorted((row["body"], row["topic"], row["year"]) for row in table.to_pylist())
    assert notes == sorted((note.body, note.topic, note.year) for note in NOTES[:30])
    assert set(table["source"].to_pylist()) == {"notes.txt"}
    assert len(set(table["note_id"].to_pylist())) == 30


def test_equal_keys_are_in_one_split(folder):
    splits_of = collections.defaultdict(set)
    for row in folder.table(["body", "split", "body_group"]).to_pylist():
        splits_of[row["body"].lower().rstrip(".")].add((row["body_group"], row["split"]))
    assert sorted(splits_of) == sorted(BODIES)
    assert all(len(groups) == 1 for groups in splits_of.values())
    assert {split for groups in splits_of.values() for _, split in groups} == {"train", "dev"}


def ids_by_hand(body):
    """Returns ids: "what is a1." -> [CLS] what is a ##1 [SEP]; six tokens leave no room for the full stop."""
    letter, digit = body.lower().split()[2][:2]
    return [VOCAB.index(token) for token in ("[CLS]", "what", "is", letter, f"##{digit}", "[SEP]")]


def test_records_have_the_declared_features(folder):
    table = {
        row["note_id"]: row for row in folder.table(["note_id", "body", "body_group", "topic", "year"]).to_pylist()
    }
    assert folder.manifest["labels"] == {"topic": ["x", "y", "z"]}
    note_ids = []
    for split in ("train", "dev"):
        for raw in tf.data.TFRecordDataset(folder.shards(split)).as_numpy_iterator():
            features = tf.train.Example.FromString(raw).features.feature
            record = {name: list(feature.int64_list.value) for name, feature in features.items()}
            (note_id,) = record.pop("note_id")
            note_ids.append(note_id)
            row = table[note_id]
            assert record == {
                "body_ids": ids_by_hand(row["body"]),
                "body_group": [row["body_group"]],
                "topic_class": ["xyz".index(row["topic"])],
                "year": [row["year"]],
            }
    assert sorted(note_ids) == sorted(table)


def test_batches_are_padded(folder):
    note_batches = list(batches.training_batches(folder, "train", batches.BatchSettings(4, 1), 0, 0))
    ids = [row for batch in note_batches for row in batch["note_id"].numpy().tolist()]
    assert sorted(ids) == sorted(folder.table(["note_id"], "train")["note_id"].to_pylist())
    bodies = dict(zip(*folder.table(["note_id", "body"]).to_pydict().values(), strict=True))
    for batch in note_batches:
        assert set(batch) == {"body_ids", "note_id", "body_group", "topic_class", "year"}
        expected = [ids_by_hand(bodies[i]) for i in batch["note_id"].numpy().tolist()]
        np.testing.assert_array_equal(batch["body_ids"].numpy(), expected)
    # One side of all rows, in the order of the table.
    assert batches.side_ids(folder, "body").to_list() == [ids_by_hand(body) for body in bodies.values()]


def test_a_folder_of_another_type_is_refused(folder, prepared):
    with pytest.raises(ValueError, match="docproduct prepared notes.*expected .*docproduct prepared pairs"):
        PreparedFolder(folder.path)
    with pytest.raises(ValueError, match="docproduct prepared pairs.*expected .*docproduct prepared notes"):
        PreparedFolder(prepared.path, NOTE)


def test_lists_and_numbers_are_stored_in_parquet(tmp_path):
    question = rows.Choices("What  is a?", ("a cold", " the  flu"), (0, 1), 1, "", "What is a?")
    questions = [question, dataclasses.replace(question, choices=("the flu", "NULL"), correct=(1,))]
    questions += [dataclasses.replace(question, choices=choices) for choices in ((), ("the flu", " "))]
    (tmp_path / "c.txt").write_text("not read")

    def read(path, columns, refusals):
        del columns, refusals
        yield from ((f"{path} {i}", row) for i, row in enumerate(questions))

    settings = PrepareSettings((str(tmp_path / "c.txt"),), dev_share=0)
    manifest = prepare(settings, str(tmp_path / "out"), reader=Reader(rows.CHOICES, read))
    table = PreparedFolder(str(tmp_path / "out"), rows.CHOICES).table(["question", "choices", "correct"])
    assert sorted(table.to_pylist(), key=lambda row: row["choices"]) == [
        {"question": "What is a?", "choices": ["a cold", "the flu"], "correct": [0, 1]},
        {"question": "What is a?", "choices": ["the flu", "NULL"], "correct": [1]},  # None may be a choice
    ]
    assert {reason: entry["rows"] for reason, entry in manifest["refused"].items()} == {"empty choices": 2}


@pytest.fixture(scope="module")
def without_ids(folder, tmp_path_factory):
    """The notes with a body that is not tokenized."""
    schema = Schema(Note, (Field("body", TEXT, grouped=True), *OTHER_FIELDS), key="body")
    out = str(tmp_path_factory.mktemp("without_ids") / "out")
    prepare(
        PrepareSettings(folder.settings.inputs, dev_share=0.4), out, num_workers=0, reader=Reader(schema, read_notes)
    )
    return PreparedFolder(out, schema)


def test_rows_without_tokenized_fields_need_no_tokenizer(without_ids):
    assert (without_ids.manifest["tokenizer"], without_ids.settings.tokenizer) == (None, None)
    assert without_ids.longest() == 0
    epoch = batches.training_batches(without_ids, "train", batches.BatchSettings(2), 0, epoch=0)
    years = [year for batch in epoch for year in batch["year"].numpy().tolist()]
    assert sorted(years) == sorted(without_ids.table(["year"], "train")["year"].to_pylist())


@pytest.mark.parametrize("read", [PreparedFolder.cut_at, PreparedFolder.tokenizer])
def test_reading_token_ids_of_rows_without_them_is_refused(without_ids, read):
    with pytest.raises(ValueError, match="holds notes without token ids. Expected rows with a tokenized field"):
        read(without_ids)


def test_fields_without_token_ids_are_named(folder, without_ids):
    with pytest.raises(ValueError, match="'topic' is not a tokenized field of notes. Fields with token ids: body"):
        folder.longest("topic")
    with pytest.raises(ValueError, match="'body' is not a tokenized field of notes. Fields with token ids: none"):
        without_ids.longest("body")
    with pytest.raises(ValueError, match="'topic' is not a tokenized field of notes"):
        batches.side_ids(folder, "topic")


def test_a_tokenizer_is_given_exactly_for_tokenized_fields(vocab_file, corpus, tmp_path):
    with pytest.raises(
        ValueError, match="tokenizer is missing.*because question, answer of pairs are stored as token ids"
    ):
        prepare(PrepareSettings((corpus,)), str(tmp_path / "out"))
    with pytest.raises(
        ValueError, match="tokenizer is .*expected none, because no field of choices is tokenized. Leave it out"
    ):
        PrepareSettings((corpus,), vocab_file).completed(rows.CHOICES)


def test_max_tokens_of_an_undeclared_text_is_refused(vocab_file, corpus, tmp_path):
    settings = PrepareSettings((corpus,), vocab_file, max_tokens={"body": 6})
    with pytest.raises(ValueError, match="max_tokens names 'body'; expected question, answer"):
        prepare(settings, str(tmp_path / "out"))


@pytest.mark.parametrize("schema", [rows.PAIR, rows.DIALOGUE, rows.CHOICES, rows.PASSAGE, rows.TRIAGE])
def test_declared_types_name_their_columns(schema):
    assert schema.parquet.names[0] == schema.id_name
    assert set(schema.parquet.names) > {field.name for field in dataclasses.fields(schema.row)} | {schema.key_group}
    assert set(schema.features) >= {schema.id_name, schema.key_group}


def test_columns_and_features_of_a_pair_stay_the_same():
    assert rows.PAIR.parquet.names == [
        "pair_id", "question", "answer", "question_group", "answer_group", "split", "source", "focus",
        "url", "synonyms", "cui", "semantic_type", "semantic_group",
    ]  # fmt: skip
    assert rows.PAIR.features == {
        "question_ids": "ids", "answer_ids": "ids", "pair_id": "number", "question_group": "number",
        "answer_group": "number",
    }  # fmt: skip


def test_columns_of_a_triage():
    assert rows.TRIAGE.parquet.names == ["triage_id", "text", "reply", "text_group", "split", "label", "source"]
    assert rows.TRIAGE.features == {"triage_id": "number", "text_group": "number"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stratify": "year"}, "Note is stratified by 'year'; expected a label"),
        ({"either": ("topic", "body")}, "'body' is in `either` of Note; expected topic, source"),
    ],
)
def test_fields_of_another_kind_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Schema(Note, (BODY, *OTHER_FIELDS), "body", **arguments)


@pytest.mark.parametrize(
    ("fields", "key", "message"),
    [
        ((BODY,), "body", "fields of Note are .*topic.* declares"),
        ((BODY, *OTHER_FIELDS), "topic", "key of Note is 'topic'; expected a field that is grouped"),
    ],
)
def test_inconsistent_schemas_are_refused(fields, key, message):
    with pytest.raises(ValueError, match=message):
        Schema(Note, fields, key)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("body", "txt"), "kind of body is 'txt'; expected one of text, list of texts, label, number"),
        (("turns", TEXTS, "turn_ids"), "turns is a list of texts with a feature"),
        (("body", TEXT, "body_ids"), "tokenizer of body is ''. Expected 'encoder'"),
        (("topic", LABEL, "topic_class", ENCODER), "tokenizer of topic is 'encoder'. Expected"),
        (("topic", LABEL, "", "", True), "topic is a grouped label. Expected a text"),
        (("year", NUMBER, "year", "", True), "year is a grouped number. Expected a text"),
        (
            ("body", TEXT, "body_ids", ENCODER, True, "answers"),
            "side of body is 'answers'; expected question or answer",
        ),
        (("body", TEXT, "", "", True, "", True), "body is optional. Expected that of a text only"),
        (("topic", LABEL, "", "", False, "", True), "topic is optional. Expected that of a text only"),
    ],
)
def test_inconsistent_fields_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Field(*arguments)
