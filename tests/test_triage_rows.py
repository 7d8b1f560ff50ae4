"""The reader of tables for triage."""

import csv
import gzip
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.corpora import PAIRS, Columns, Refusals, read_pairs
from data_pipeline.corpora.paths import find_inputs
from data_pipeline.corpora.triage import NO_LABEL, NO_REPLY, TRIAGES, read_triages
from data_pipeline.rows import Triage

DEPARTMENTS = [
    ("department", "title", "ask", "answer"),
    ("心血管科", "能吃党参吗？", "我有高血压，可以吃党参吗？", "可以口服党参的。"),
    ("消化科", "胃疼", "最近胃疼,怎么办", "请做胃镜。"),
]


def write(path, rows, encoding="utf-8"):
    with open(path, "w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def read(path, columns=Columns()):
    refusals = Refusals()
    return [row for _, row in read_triages(str(path), columns, refusals)], refusals


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_department_table_is_read_in_its_usual_encodings(tmp_path, encoding, is_packed):
    path = pathlib.Path(write(tmp_path / "a.csv", DEPARTMENTS, encoding))
    if is_packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    rows, refusals = read(path)
    assert rows == [
        Triage("我有高血压，可以吃党参吗？", "心血管科", "可以口服党参的。"),
        Triage("最近胃疼,怎么办", "消化科", "请做胃镜。"),
    ]
    assert not refusals.counts
    is_chinese = encoding == "gb18030"
    assert (
        list(refusals.noted)
        == ["the file is no UTF-8, and is read as GB18030 (or GBK): look at its texts"] * is_chinese
    )


def test_an_encoding_that_is_neither_is_named(tmp_path):
    path = write(tmp_path / "a.csv", [("text", "label"), ("wie hoch, für Größe", "x")], "windows-1252")
    with pytest.raises(ValueError, match="not UTF-8: byte 0xfc.*iconv -f WINDOWS-1252"):
        read(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("text,label\nt,l\n", Triage("t", "l")),
        ("Label;Text\nl;t\n", Triage("t", "l")),
        ("question\tqtype\tcategory\tresponse\nt\tno\tl\tr\n", Triage("t", "l", "r")),
        ("id,description,medical_specialty,source\n1,t,l,s\n", Triage("t", "l", "", "s")),
        ("instruction,input,output\nanswer as a doctor,t,r\n", Triage("t", "", "r")),
    ],
)
def test_usual_names_are_recognised(tmp_path, text, expected):
    (tmp_path / "a.csv").write_text(text)
    assert read(tmp_path / "a.csv")[0] == [expected]


def test_columns_are_named_by_flag(tmp_path):
    (tmp_path / "a.csv").write_text("question,answer,qtype,focus,title\nt,r,l,no,head\n")
    assert read(tmp_path / "a.csv", Columns(label="qtype"))[0] == [Triage("t", "l", "r")]
    columns = Columns(question="focus", answer="#1", label="#2", title="title")
    assert read(tmp_path / "a.csv", columns)[0] == [Triage("head\nno", "r", "t")]
    (tmp_path / "b.csv").write_text("t1;l1\nt2;l2\n")
    rows, _ = read(tmp_path / "b.csv", Columns(header=("text", "label")))
    assert rows == [Triage("t1", "l1"), Triage("t2", "l2")]


def test_rows_of_json_may_lack_label_or_reply(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"text": "t1", "reply": "r1"}, {"text": "t2", "label": 3}, {"text": "t3", "label": None, "reply": "r3"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert read(path)[0] == [Triage("t1", "", "r1"), Triage("t2", "3"), Triage("t3", "", "r3")]


def test_an_instruction_is_no_text_of_a_patient(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"instruction": "answer as a doctor", "output": "r"}\n')
    with pytest.raises(ValueError, match="no column 'text'. Columns found: instruction, output"):
        read(path)


def test_numbers_are_labels_in_parquet(tmp_path):
    table = {"text": ["a", "b", None], "label": [2, None, 0], "class": ["no", "no", "no"]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[0] == [Triage("a", "2"), Triage("b"), Triage("", "0")]
    pq.write_table(pa.table({"text": ["a", "b"], "label": [2.0, float("nan")]}), tmp_path / "b.parquet")
    assert read(tmp_path / "b.parquet")[0] == [Triage("a", "2"), Triage("b")]


def test_a_table_for_one_task_is_noted(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nt,l\n")
    (tmp_path / "b.csv").write_text("text,reply\nt,r\n")
    rows, refusals = read(tmp_path / "b.csv")
    assert (rows, list(refusals.noted)) == ([Triage("t", "", "r")], [NO_LABEL])
    assert list(read(tmp_path / "a.csv")[1].noted) == [NO_REPLY]


def test_rows_of_another_kind_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n---,---\nt,l\ntext,label\nt,l,x\n")
    rows, refusals = read(tmp_path / "a.csv")
    assert rows == [Triage("t", "l")]
    assert refusals.counts == {
        "a row is a drawn line": 1, "a row repeats the header": 1, "another number of fields than the header": 1,
    }  # fmt: skip
    (tmp_path / "a.jsonl").write_text('{"text": "t", "label": ["l"]}\n{"text": 3, "label": "l"}\n')
    rows, refusals = read(tmp_path / "a.jsonl")
    assert (rows, refusals.counts) == ([], {"text, label or reply is of another type than text": 2})


def test_a_title_is_put_before_the_text(tmp_path):
    rows = [
        ("title", "ask", "label"),
        ("Fever?", "It is high.", "x"),
        ("", "No title", "x"),
        ("NULL", "null title", "x"),
    ]
    rows += [("Title only", " ", "x"), ("Title of null", "nan", "x")]
    texts = [row.text for row in read(write(tmp_path / "a.csv", rows), Columns(title="title"))[0]]
    # A text that is missing stays so: preparing refuses it.
    assert texts == ["Fever?\nIt is high.", "No title", "null title", " ", "nan"]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("id,label\n1,l\n", {}, "no column 'text'. Columns found: id, label.*--text_column"),
        ("text,id\nt,1\n", {}, "neither a column with a label nor one with a reply.*--label_column or --reply_column"),
        ("text,label\nt,l\n", {"label": "class"}, "no column 'class'.*--label_column"),
        ("text,label\nt,l\n", {"answer": "doctor"}, "no column 'doctor'.*--reply_column"),
        ("text,label\nt,l\n", {"title": "head"}, "no column 'head'.*--title_column"),
        ("text,department,category\nt,l,m\n", {}, "several columns for the label: department.*--label_column=#2"),
        ("text,label\nt,l\n", {"answer": "label"}, "one column for label and reply.*--label_column and --reply_column"),
        ("text,label\nt,l\n", {"focus": "label"}, "--focus_column is given.*--rows=pairs"),
        ("<record>", {}, "no column 'text'.*export text, label and reply as CSV"),
        ("messages\n[]\n", {}, "holds chat messages. Expected one text a row"),
    ],
)
def test_unreadable_tables_are_named_with_a_remedy(tmp_path, text, columns, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        read(tmp_path / "a.csv", Columns(**columns))


def test_an_object_of_lists_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"text": ["a", "b"], "label": ["x", "y"]}')
    with pytest.raises(ValueError, match="a list of all texts and others of all labels or replies"):
        read(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["label", "title"])
def test_columns_of_triage_are_refused_for_pairs(tmp_path, name):
    (tmp_path / "a.csv").write_text("question,answer,label,title\nq,a,l,t\n")
    with pytest.raises(ValueError, match=f"--{name}_column is given. Expected it with --rows=triage only"):
        list(read_pairs(str(tmp_path / "a.csv"), Columns(**{name: name}), Refusals()))


def test_tables_of_a_folder_are_those_of_the_reader(tmp_path):
    (tmp_path / "pairs.csv").write_text("frage,answer\nq,a\n")
    triages = write(tmp_path / "triages.csv", [("text", "label"), ("t", "l")])
    refusals = Refusals()
    assert find_inputs([str(tmp_path)], Columns(), refusals, TRIAGES) == (triages,)
    assert list(refusals.noted) == [
        "a file of a folder is left out, as it holds no table of texts with labels or replies"
    ]


def test_readers_say_what_their_files_hold():
    assert (PAIRS.contents, TRIAGES.contents) == ("questions and answers", "texts with labels or replies")
