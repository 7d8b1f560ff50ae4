"""Layouts of public data sets: their columns, lists of answers, instructions, and JSON in its forms."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.corpora import Columns, Refusals, json_scanner, read_pairs

LARGE = 30_000  # rows: more than one block of the file


def read(path, content, columns=Columns()):
    if isinstance(content, str):
        path.write_text(content)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    refusals = Refusals()
    pairs = [(place.removeprefix(f"{path} "), pair) for place, pair in read_pairs(str(path), columns, refusals)]
    return [(pair.question, pair.answer) for _, pair in pairs], [place for place, _ in pairs], refusals


@pytest.mark.parametrize(
    ("header", "pair"),
    [
        ("id,Question ,ANSWER", ("b", "c")),
        ("Questions,Answers,n", ("a", "b")),
        ("queries,responses,n", ("a", "b")),
        ("n,prompt,response", ("b", "c")),
        ("prompt,completion,n", ("a", "b")),
        ("anchor,positive,negative", ("a", "b")),
        ("query,pos,neg", ("a", "b")),
        ("query,prompt,pos", ("a", "c")),  # the prefix of every query in some embedding data sets
        ("question,answer,answers", ("a", "b")),
        ("instruction,output,system", ("a", "b")),
        ("instruction,context,response", ("a\nb", "c")),
        ("question,context,answer", ("a", "c")),
    ],
)
def test_usual_column_names_are_recognized(tmp_path, header, pair):
    assert read(tmp_path / "a.csv", f"{header}\na,b,c\n")[0] == [pair]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("question,query,answer", r"for the question: question \(#1\), query \(#2\).*--question_column"),
        ("prompt,input,output", r"for the question: prompt \(#1\), input \(#2\)"),
        ("prompt,instruction,output", "several columns for the question"),
        ("instruction,input,prompt,output", "several columns for the question"),
        ("question,output,completion", "several columns for the answer"),
        ("question,answer,Answer", r"answer \(#2\), Answer \(#3\)"),
        ("question,label,n", "no column 'answer'. Columns found: question, label, n. .*--answer_column"),
    ],
)
def test_ambiguous_headers_are_refused(tmp_path, header, message):
    content = f"{header}\n{','.join('abcd'[: header.count(',') + 1])}\n"
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.csv", content)
    assert read(tmp_path / "a.csv", content, Columns("#1", "#3"))[0] == [("a", "c")]


def test_a_long_header_is_shown_in_short(tmp_path):
    with pytest.raises(ValueError, match=r"Columns found: c0, (.*, )?c29, \.\.\.\. Name") as error:
        read(tmp_path / "a.csv", ",".join(f"c{i}" for i in range(500)) + "\n")
    assert "c30" not in str(error.value)
    with pytest.raises(ValueError, match=r"x{60}\.\.\., y\."):
        read(tmp_path / "a.csv", f"{'x' * 99},y\n")


@pytest.mark.parametrize("delimiter", ["", ",,", "\n", '"'])
def test_invalid_delimiters_are_refused(delimiter):
    with pytest.raises(ValueError, match="expected one character"):
        Columns(delimiter=delimiter)


def test_a_first_row_that_repeats_the_header_is_left_out(tmp_path):
    columns = Columns(header=("question", "answer"))
    rows, places, refusals = read(tmp_path / "a.csv", "Question,Answer\nq,a\n", columns)
    assert (rows, places) == ([("q", "a")], ["line 2"])
    note = {"times": 1, "first": f"{tmp_path}/a.csv line 1"}
    assert refusals.notes() == {"the first row repeats --header, and is left out": note}


@pytest.mark.parametrize(
    "answers", [["a", "b"], [{"text": "a"}, {"text": "b", "score": 3}], {"text": ["a", "b"], "answer_start": [1, 2]}]
)
@pytest.mark.parametrize("form", ["jsonl", "json", "parquet"])
def test_several_answers_are_several_rows_with_their_places(tmp_path, answers, form):
    rows = [{"question": "q", "answers": answers}, {"question": "r", "answers": answers}]
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a")
        refusals = Refusals()
        received = [(place, pair.answer) for place, pair in read_pairs(str(tmp_path / "a"), Columns(), refusals)]
    else:
        pairs, places, refusals = read(tmp_path / "a", json.dumps(rows) if form == "json" else rows)
        received = [(f"{tmp_path}/a {place}", pair[1]) for place, pair in zip(places, pairs, strict=True)]
    unit = {"jsonl": "line", "json": "item", "parquet": "row"}[form]
    assert received == [(f"{tmp_path}/a {unit} {i} answer {j}", "ab"[j - 1]) for i in (1, 2) for j in (1, 2)]
    note = {"times": 2, "first": f"{tmp_path}/a {unit} 1"}
    assert refusals.notes() == {"several answers in a row: each is a pair": note}


def test_lists_that_are_no_pairs_are_counted(tmp_path):
    rows = [
        {"query": "q", "pos": ["a"]},
        {"query": "q", "pos": []},
        {"query": "q", "pos": ["a", None, 3]},
        {"query": ["q", "r"], "pos": ["a", "b"]},
        {"query": ["q", "r"], "pos": "a"},
        {"query": "q", "pos": {"no": "text"}},
    ]
    pairs, places, refusals = read(tmp_path / "a", rows)
    assert pairs == [("q", "a"), ("q", "a"), ("q", "a"), ("r", "a")]
    assert places == ["line 1", "line 3 answer 1", "line 5 question 1", "line 5 question 2"]
    assert refusals.counts == {
        "empty answer": 1,
        "question or answer is not a text": 3,
        "several questions with several answers": 1,
    }


def test_rows_that_are_lists_need_names(tmp_path):
    rows = [["q", "a"], ["r", "b", "c"], ["s", "d"]]
    for content in (rows, json.dumps(rows), json.dumps(rows, indent=1)):
        with pytest.raises(ValueError, match="holds no object.*--header=question,answer"):
            read(tmp_path / "a", content)
        pairs, _, refusals = read(tmp_path / "a", content, Columns(header=("question", "answer")))
        assert pairs == [("q", "a"), ("s", "d")]
        assert refusals.counts == {"another number of fields than the header": 1}


@pytest.mark.parametrize("size", [3, LARGE])
@pytest.mark.parametrize("indent", [None, 1])
def test_an_object_with_its_rows_in_a_field(tmp_path, size, indent):
    rows = [{"question": f"q{i}", "answer": "a" * 50} for i in range(size)]
    content = {"version": "1", "tags": ["x"], "data": rows, "license": {"name": "y"}}
    pairs, places, _ = read(tmp_path / "a", json.dumps(content, indent=indent))
    assert pairs == [(f"q{i}", "a" * 50) for i in range(size)]
    assert places[-1] == f"item {size}"
    broken = json.dumps(content, indent=indent).replace(f'"q{size - 1}"', f'"q{size - 1}" "x"')
    with pytest.raises(ValueError, match=rf"line {1 if indent is None else 6 + 4 * size - 2} is not valid JSON"):
        read(tmp_path / "a", broken)
    content["more"] = [{"question": "q", "answer": "a"}]
    with pytest.raises(ValueError, match="several lists of objects"):
        read(tmp_path / "a", json.dumps(content, indent=indent))
    with pytest.raises(ValueError, match="line 1 is not valid JSON|more text follows"):
        read(tmp_path / "a", json.dumps({"data": rows}) + "]")


def test_rows_under_their_ids(tmp_path):
    content = {f"id{i}": {"QUESTION": f"q{i}", "LONG_ANSWER": "a"} for i in range(3)}
    columns = Columns("QUESTION", "LONG_ANSWER")
    assert read(tmp_path / "a", json.dumps(content), columns)[0] == [(f"q{i}", "a") for i in range(3)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[\n{"question": "q",\n "answer": "a"},\n{"question": "q" "answer": "a"}\n]', "line 4 is .*Expecting ','"),
        (
            '[\n{"question": "q", "answer": "a"}\n{"question": "r"}]',
            "line 3 is not valid JSON: '{' where one of ',]' was expected",
        ),
        ('[\n{"question": "q", "answer": "a"},\n]', r"line 3 is not valid JSON"),
        ('[\n{"question": "q", "answer": "a"}', "line 2 is not valid JSON: the end of the file"),
        ('[{"question": "q", "answer": "a\n"}]', "line 1 is not valid JSON .Invalid control character"),
        ('{"question": "q", "answer": "a"}\n\n{"question": \'q\'}\n', "line 3 is not valid JSON"),
        (
            '[{"question": "q", "answer": "a"}]\n\nx',
            "line 3 is not valid JSON: more text follows its end",
        ),
        ("[{'question': 'q'}]", "line 1 is not valid JSON .Expecting property name enclosed in double quotes"),
    ],
)
def test_errors_name_the_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"a.json {message}"):
        read(tmp_path / "a.json", content)


def test_an_error_far_from_the_end_of_a_large_file_is_named_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(json_scanner, "MAX_ROW_BYTES", 4 * 2**20)  # the file is longer: it is not read to its end
    rows = ",\n".join(json.dumps({"question": f"q{i}", "answer": "a" * 900}) for i in range(LARGE))
    with pytest.raises(ValueError, match="a.json line 3 is not valid JSON .Expecting ',' delimiter"):
        read(tmp_path / "a.json", "[" + rows.replace('"q2"', '"q2" 3', 1) + "]")


@pytest.mark.parametrize("form", ["jsonl", "json", "wrapped", "indented"])
def test_what_json_dump_writes_is_read(tmp_path, form):
    # Outside the JSON standard: NaN and infinity, and half a surrogate pair, which cleaning removes.
    rows = [
        {"question": f"q{i} \ud83d", "answer": "a", "score": float(s)} for i, s in enumerate(("nan", "inf", "-inf"))
    ]
    rows += [{"question": "NaN, Infinity", "answer": "a", "score": 2**70}]
    texts = {"json": json.dumps(rows), "wrapped": json.dumps({"data": rows}), "indented": json.dumps(rows, indent=2)}
    pairs, _, refusals = read(tmp_path / "a.json", texts.get(form, rows))
    assert pairs == [("q0 \ud83d", "a"), ("q1 \ud83d", "a"), ("q2 \ud83d", "a"), ("NaN, Infinity", "a")]
    assert not refusals.counts


@pytest.mark.parametrize("form", ["jsonl", "json", "wrapped", "csv", "parquet"])
def test_instructions(tmp_path, form):
    def table(rows):
        objects = [
            {name: text for name, text in zip(("instruction", "input", "output"), row, strict=True) if text is not None}
            for row in rows
        ]
        if form == "parquet":
            pq.write_table(pa.table(list(zip(*rows, strict=True)), ["instruction", "input", "output"]), tmp_path / "a")
            content = None
        elif form == "csv":
            lines = [",".join(f'"{text or ""}"' for text in row) for row in rows]
            content = "\n".join(["instruction,input,output", *lines])
        else:
            content = {"jsonl": objects, "json": json.dumps(objects), "wrapped": json.dumps({"data": objects})}[form]
        if content is not None:
            return read(tmp_path / "a", content)[::2]
        refusals = Refusals()
        return [(p.question, p.answer) for _, p in read_pairs(str(tmp_path / "a"), Columns(), refusals)], refusals

    # A first row without an input does not hide the input of the second row.
    assert table([("Name three.", None, "x"), ("Translate.", "cat", "chat")])[0] == [
        ("Name three.", "x"),
        ("Translate.\ncat", "chat"),
    ]
    pairs, refusals = table(
        [("Be kind.", "q", "a"), ("Be kind.", None, "b"), ("Be kind.", " ", "c"), ("Be kind. ", "r", "d")]
    )
    # The common instruction is left out, except where the input is empty.
    assert pairs == [("q", "a"), ("Be kind.", "b"), ("Be kind.", "c"), ("r", "d")]
    note = {"times": 1, "first": f"{tmp_path}/a"}
    assert refusals.notes() == {"the instruction is the same in every row, and left out": note}
    assert not refusals.counts
    pairs, refusals = table([("Be kind.", None, "a"), ("Be kind.", "", "b")])  # no input at all
    assert pairs == [("Be kind.", "a"), ("Be kind.", "b")]
    assert refusals.notes() == {}
    assert table([("Be kind.", "q", "a")])[0] == [("Be kind.\nq", "a")]  # one row


def test_a_column_flag_overrides_the_instruction(tmp_path):
    content = "instruction,input,output\ni,q,a\nj,r,b\n"
    assert read(tmp_path / "a.csv", content, Columns("input"))[0] == [("q", "a"), ("r", "b")]
    assert read(tmp_path / "a.csv", content, Columns("instruction"))[0] == [("i", "a"), ("j", "b")]
