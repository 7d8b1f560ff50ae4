"""Tables as programs export them: spreadsheets, R, pandas, databases, forums, and concatenated files."""

import io
import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline import cleaning
from data_pipeline.corpora import Columns, Refusals, doubts, quotes, read_pairs
from data_pipeline.prepare import PrepareSettings, prepare
from tests.test_file_kinds import workbook

PAIRS = [("q1?", "a1"), ("q2?", "a2")]


def read(path, content, columns=Columns()):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    refusals = Refusals()
    return [(pair.question, pair.answer) for _, pair in read_pairs(str(path), columns, refusals)], refusals


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("question,answer\nq1?,a1\nquestion,answer\nq2?,a2\n", Columns()),
        ("\ufeffQuestion,Answer\r\nq1?,a1\r\n\ufeffquestion,ANSWER \r\nq2?,a2\r\n", Columns()),  # cat a.csv b.csv
        ("ask\treply\nq1?\ta1\nask\treply\nq2?\ta2\n", Columns("ask", "#2")),
        (
            '["question","answer"]\n["q1?","a1"]\n["question","answer"]\n["q2?","a2"]\n',
            Columns(header=("question", "answer")),
        ),
        (workbook([("Question", "Answer"), PAIRS[0], ("question", "answer"), PAIRS[1]]), Columns()),
    ],
)
def test_repeated_headers_are_not_pairs(tmp_path, content, columns):
    pairs, refusals = read(tmp_path / "a", content, columns)
    assert pairs == PAIRS
    assert refusals.counts == {"a row repeats the header": 1}


def test_a_repeated_header_is_not_another_instruction(tmp_path):
    table = "instruction,input,output\nBe kind.,q1?,a1\n"
    pairs, refusals = read(tmp_path / "a", table + table.replace("1", "2"))
    assert pairs == PAIRS
    assert refusals.counts == {"a row repeats the header": 1}


def test_markdown_and_psql_tables_are_read(tmp_path):
    markdown = "| Question | Answer |\n|:---|---:|\n| q1? | a1 |\n| q2? | a2 |\n"
    pairs, refusals = read(tmp_path / "a", markdown)
    assert [tuple(map(cleaning.clean, pair)) for pair in pairs] == PAIRS
    assert refusals.counts == {"a row is a drawn line": 1}
    pairs, refusals = read(tmp_path / "a", " question | answer\n----------+-------\n q1?      | a1\n(1 row)\n")
    assert [tuple(map(cleaning.clean, pair)) for pair in pairs] == PAIRS[:1]
    assert refusals.counts == {"another number of fields than the header": 2}


def test_blanks_after_delimiters(tmp_path):
    table = '"question", "answer"\n"q1?", "a, 1"\n"q2?", "a\n""2"""\nq3?, "no" and "yes"\nq4?, "open\nq5?, a5\n'
    pairs, refusals = read(tmp_path / "a", table)
    assert [tuple(map(cleaning.clean, pair)) for pair in pairs] == [
        ("q1?", "a, 1"),
        ("q2?", 'a\n"2"'),
        ("q3?", '"no" and "yes"'),
        ("q4?", '"open'),
        ("q5?", "a5"),
    ]
    assert not refusals.counts
    assert refusals.notes()[quotes.AS_TEXT]["times"] == 2


def test_a_comma_and_a_quote_inside_a_quoted_field(tmp_path):
    pairs, refusals = read(tmp_path / "a", 'question,answer\n"he said, ""hi"", twice","x\ny, ""z"""\n')
    assert pairs == [('he said, "hi", twice', 'x\ny, "z"')]
    assert not refusals.counts


def test_text_after_the_named_columns_is_noted(tmp_path):
    pairs, refusals = read(tmp_path / "a", 'question,answer,,\nq1?,a1,,\nq2?,a2, and more,\nq3?,"a3", x\n')
    assert pairs == [*PAIRS, ("q3?", "a3")]
    assert refusals.notes() == {quotes.UNNAMED: {"times": 2, "first": f"{tmp_path}/a line 3"}}


@pytest.mark.parametrize("name", ["\ufeffquestion", "\u200bquestion\u200b", " question \u00a0"])
def test_invisible_marks_around_a_name(tmp_path, name):
    for content in (f"\ufeff{name},answer\nq1?,a1\n", workbook([(name, "answer"), PAIRS[0]])):
        assert read(tmp_path / "a", content)[0] == PAIRS[:1]
        assert read(tmp_path / "a", content, Columns("question"))[0] == PAIRS[:1]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("['a', 'b']", doubts.LISTED),
        ('["a"]', doubts.LISTED),
        (" [['a'], ['b']] ", doubts.LISTED),
        ("{'text': array(['a'], dtype=object), 'answer_start': array([5], dtype=int32)}", doubts.LISTED),
        ('{"text": "a"}', doubts.LISTED),
        ("caf\ufffd", doubts.LOST),
        ("café don’t “x” ü".encode().decode("cp1252", "replace"), doubts.WRONG_ENCODING),
        ("don’t".encode().decode("cp1252"), doubts.WRONG_ENCODING),
        ("Größe".encode().decode("cp1252"), doubts.WRONG_ENCODING),
    ],
)
@pytest.mark.parametrize("form", ["csv", "json"])
def test_damaged_texts_are_noted(tmp_path, text, note, form):
    row = {"question": "q", "answer": text}
    field = text.replace('"', '""')
    content = f'question,answer\nq1?,a1\nq,"{field}"\n' if form == "csv" else json.dumps([row, row])
    pairs, refusals = read(tmp_path / "a", content)
    assert pairs[-1] == ("q", text)
    assert note in refusals.notes()


@pytest.mark.parametrize(
    "text",
    [
        "[1] first",
        "[a, b]",
        "{x}",
        "[]",
        "SÃO PAULO, NÃO",
        "Â",
        "['a'] is a list",
        "'tis",
        "a = b",
        "",
        "{name}",
        "[x](y)",
    ],
)
def test_ordinary_texts_are_not_noted(text):
    refusals = Refusals()
    doubts.note(text, text, "here", refusals)
    assert refusals.notes() == {}


def test_pairs_in_single_quotes_are_noted(tmp_path):
    for row in ("'q','a'", '="q",="a"'):
        assert doubts.QUOTED in read(tmp_path / "a", f"question,answer\n{row}\n")[1].notes()
    assert read(tmp_path / "a", "question,answer\n'q',a\n")[1].notes() == {}


@pytest.mark.parametrize(
    "word",
    [
        "#REF!",
        "#NAME?",
        "#VALUE!",
        "#DIV/0!",
        "#NUM!",
        "#NULL!",
        "#ERROR!",
        "[deleted]",
        "[removed]",
        "[object Object]",
    ],
)
def test_null_words_of_spreadsheets_and_forums(word):
    assert cleaning.is_null_word(word)
    assert not cleaning.is_null_word(f"{word} x")
    assert not cleaning.is_null_word(word[1:])


@pytest.mark.parametrize("name", ["input", "Input", "context", "inputs"])
def test_an_input_that_only_later_objects_have(tmp_path, name):
    rows = [{"instruction": "i1", "response": "a1"}, {"instruction": "i2", name: "c2", "response": "a2"}]
    assert read(tmp_path / "a", "\n".join(map(json.dumps, rows)))[0] == [("i1", "a1"), ("i2\nc2", "a2")]


@pytest.mark.parametrize("size", [3, 3_000])
def test_objects_of_rows_are_read_and_objects_of_columns_refused(tmp_path, size):
    rows = {f"id{i}": {"question": f"q{i}", "answer": "a" * 500} for i in range(size)}
    assert read(tmp_path / "a", json.dumps(rows))[0] == [(f"q{i}", "a" * 500) for i in range(size)]
    columns = {name: [row[name] for row in rows.values()] for name in ("question", "answer")}
    for content in (columns, {name: dict(enumerate(texts)) for name, texts in columns.items()}):
        with pytest.raises(ValueError, match="list of all questions.*orient='records'"):
            read(tmp_path / "a", json.dumps(content))


@pytest.mark.parametrize(("place", "answer"), [("#2", "first"), ("#4", "second")])
def test_duplicate_parquet_columns_are_chosen_by_place(tmp_path, place, answer):
    columns = [pa.array([text]) for text in ("q", "first", "no", "second", "s")]
    pq.write_table(pa.table(columns, ["question", "answer", "x", "answer", "source"]), tmp_path / "a")
    (pair,) = read_pairs(str(tmp_path / "a"), Columns(answer=place), Refusals())
    assert (pair[1].question, pair[1].answer, pair[1].source) == ("q", answer, "s")


def test_delimiters_of_tables_without_usual_names(tmp_path):
    columns = Columns(header=("question", "answer"))
    pairs, refusals = read(tmp_path / "a", "q1?;a, b\nq2?;c\nq3?;d, e, f\n", columns)
    assert pairs == [("q1?", "a, b"), ("q2?", "c"), ("q3?", "d, e, f")]
    assert list(refusals.notes()) == ["fields stand between ';'"]
    pairs, refusals = read(tmp_path / "a", "q1?;a,b\nq2?;c,d\n", columns)  # ambiguous
    assert pairs == [("q1?;a", "b"), ("q2?;c", "d")]
    assert list(refusals.notes()) == ["fields could stand between ';', too: if they do, give --delimiter"]
    pairs, _ = read(tmp_path / "a", "Frage;Antwort, lang\nq1?;a1\nq2?;a2\n", Columns("#1", "#2"))
    assert pairs == PAIRS


def test_a_hidden_sheet_is_noted(tmp_path):
    content = io.BytesIO()
    source = io.BytesIO(workbook([("question", "answer"), PAIRS[0]]))
    with zipfile.ZipFile(source) as shown, zipfile.ZipFile(content, "w") as hidden:
        for name in shown.namelist():
            hidden.writestr(name, shown.read(name).replace(b'sheetId="1"', b'sheetId="1" state="hidden"'))
    pairs, refusals = read(tmp_path / "a", content.getvalue())
    assert pairs == PAIRS[:1]
    assert refusals.notes() == {"a hidden sheet is read, too": {"times": 1, "first": f"{tmp_path}/a sheet 'S1'"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- question: q1?\n  answer: a1\n", "looks like YAML"),
        ("faq:\n  - question: q1?\n", "looks like YAML"),
        ("Q: q1?\nA: a1\n", "looks like a text: write each question"),
        ("Question 1: q1?\nAnswer: a1\n", "looks like a text"),
        ("-- MySQL dump 10.13\nCREATE TABLE faq (question text);\n", "looks like SQL"),
        ("INSERT INTO `faq` (question, answer) VALUES\n('q1?', 'a1');\n", "looks like SQL"),
        ("+----------+--------+\n| question | answer |\n", "looks like a drawn table.*mysql --batch"),
        ('const faq = [{"question": "q", "answer": "a"}];\n', "looks like JavaScript"),
        ('"question,answer"\n"q1?,a1"\n', "stand in quotes as a whole"),
        ("question^answer\nq1?^a1\n", r"between '\^', say so with --delimiter"),
        (
            ("question,answer\n質問,答え\n" + "a long text in English,and so on\n" * 99).encode("iso-2022-jp"),
            "ISO-2022-JP. Convert it first",
        ),
    ],
)
def test_other_kinds_of_files_are_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.csv", content)


def test_tables_of_r_are_refused_with_a_remedy(tmp_path, vocab_file):
    (tmp_path / "a.csv").write_text('"question","answer"\n"1","q1?","a1"\n')
    with pytest.raises(ValueError, match="row.names=FALSE"):
        prepare(PrepareSettings((str(tmp_path / "a.csv"),), vocab_file), str(tmp_path / "out"))
