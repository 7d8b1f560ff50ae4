"""Files are read by what they hold, whatever they are called; what holds no table is named."""

import bz2
import gzip
import io
import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from data_pipeline.corpora import Columns, Refusals, find_inputs, read_pairs

ROWS = [("what is é?", "the 中文, “x”"), ("q2", 'a "b"')]
TABLE = 'question,answer\nwhat is é?,"the 中文, “x”"\nq2,"a ""b"""\n'


def read(path, columns=Columns()):
    refusals = Refusals()
    return [(pair.question, pair.answer) for _, pair in read_pairs(str(path), columns, refusals)], refusals


def written(tmp_path, content, name="a.csv"):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, zstandard.compress])
def test_encodings_and_packings(tmp_path, encoding, pack):
    for content in (TABLE, json.dumps([dict(zip(("question", "answer"), row, strict=True)) for row in ROWS])):
        assert read(written(tmp_path, pack(content.encode(encoding)), "table.anything"))[0] == ROWS


def test_names_do_not_count(tmp_path):
    objects = [dict(zip(("question", "answer"), row, strict=True)) for row in ROWS]
    lines = "".join(json.dumps(row) + "\n" for row in objects)
    for name in ("a.csv", "A.CSV", "a.json", "a.jsonl", "a.txt", "a", "a.csv.gz"):
        for content in (
            TABLE,
            lines,
            json.dumps(objects),
            json.dumps(objects, indent=2),
            json.dumps({"data": objects}),
        ):
            assert read(written(tmp_path, content, name))[0] == ROWS


def test_objects_over_several_lines_one_after_the_other(tmp_path):
    content = '{\n "question": "q",\n "answer": "a"\n}\n{"question": "r",\n "answer": "b"}'
    assert read(written(tmp_path, content))[0] == [("q", "a"), ("r", "b")]


@pytest.mark.parametrize("cut", [20, -3])
def test_a_packed_file_that_was_cut_off_is_damaged(tmp_path, cut):
    content = (TABLE * 500).encode()
    for pack, kind in ((gzip.compress, "gzip"), (bz2.compress, "bzip2"), (zstandard.compress, "zstandard")):
        with pytest.raises(ValueError, match=f"a.csv is a damaged or truncated {kind} file"):
            read(written(tmp_path, pack(content)[:cut]))


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
def test_delimiters_are_found(tmp_path, delimiter):
    content = f'id{delimiter}Question{delimiter}Answer\n1{delimiter}q; a, b{delimiter}"x{delimiter}y"\n'
    content = content.replace("q; a, b", "q" if delimiter in ";," else "q; a, b")
    rows, refusals = read(written(tmp_path, content))
    assert rows == [("q" if delimiter in ";," else "q; a, b", f"x{delimiter}y")]
    assert list(refusals.notes()) == ([] if delimiter == "," else [f"fields stand between {delimiter!r}"])
    path = written(tmp_path, content, "a.tsv")
    assert list(read(path)[1].notes()) == ([] if delimiter == "\t" else [f"fields stand between {delimiter!r}"])


def test_delimiters_by_the_file_and_by_flag(tmp_path):
    for first in ("sep=;\r\n", '"sep=;"\n'):
        assert read(written(tmp_path, f"{first}question;answer\r\nq, r;a\r\n"))[0] == [("q, r", "a")]
    content = "question;answer,x\nq;a,b\n"
    assert read(written(tmp_path, content), Columns(delimiter=";", answer="answer,x"))[0] == [("q", "a,b")]
    with pytest.raises(ValueError, match="no column 'question'. Columns found: question:answer. .*--delimiter"):
        read(written(tmp_path, "question:answer\nq:a\n"))


def test_tables_without_a_header(tmp_path):
    columns = Columns(header=("question", "answer"))
    assert read(written(tmp_path, "what?,this\nwho?,that\n"), columns)[0] == [("what?", "this"), ("who?", "that")]
    assert read(written(tmp_path, "what, sir?\tthis\n"), columns)[0] == [("what, sir?", "this")]
    rows = read(written(tmp_path, "1;q;a\n2;r;b\n"), Columns(header=("id", "question", "answer")))[0]
    assert rows == [("q", "a"), ("r", "b")]


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("Questions,Answers", Columns()),
        ("query,response", Columns()),
        ("prompt,completion", Columns()),
        ("anchor,positive", Columns()),
        ("input,output", Columns()),
        ("frage,antwort", Columns("frage", "antwort")),
        ("x,y", Columns("#1", "#2")),
    ],
)
def test_columns(tmp_path, header, columns):
    assert read(written(tmp_path, f"{header}\nq,a\n"), columns)[0] == [("q", "a")]


def test_a_header_that_stands_twice(tmp_path):
    path = written(tmp_path, "question,answer,answer\nq,a,b\n")
    with pytest.raises(ValueError, match=r"several columns for the answer: answer \(#2\), answer \(#3\).*#2"):
        read(path)
    assert read(path, Columns(answer="#3"))[0] == [("q", "b")]
    with pytest.raises(ValueError, match="no column '#4'"):
        read(path, Columns(answer="#4"))
    with pytest.raises(ValueError, match="one column for question and answer"):
        read(path, Columns("question", "question"))


@pytest.mark.parametrize(
    "answers", [["a", "b"], [{"text": "a"}, {"text": "b"}]]
)  # fmt: skip
def test_several_answers_are_several_rows(tmp_path, answers):
    row = {"query": "q", "pos": answers, "neg": ["c"]}
    rows, refusals = read(written(tmp_path, json.dumps(row) + "\n"))
    assert rows == [("q", "a"), ("q", "b")]
    assert "several answers in a row: each is a pair" in refusals.notes()
    pq.write_table(pa.Table.from_pylist([row, {"query": "r", "pos": [], "neg": []}]), tmp_path / "a.parquet")
    rows, refusals = read(tmp_path / "a.parquet")
    assert rows == [("q", "a"), ("q", "b")]
    assert refusals.counts == {"empty answer": 1}


def test_parquet(tmp_path):
    table = pa.table({"id": [1, 2, 3], "question": ["q", None, "r"], "answer": ["a", "b", "c"], "source": ["s"] * 3})
    pq.write_table(table, tmp_path / "a.bin", row_group_size=2)
    rows, refusals = read(tmp_path / "a.bin")
    assert rows == [("q", "a"), ("r", "c")]
    assert refusals.report()["question or answer is not a text"]["first"] == f"{tmp_path}/a.bin row 2"
    whole = (tmp_path / "a.bin").read_bytes()
    with pytest.raises(ValueError, match="damaged Parquet file"):
        read(written(tmp_path, whole[: len(whole) // 2]))


def workbook(rows):
    """The least that an .xlsx file is."""
    cells = "".join(
        "<row>"
        + "".join(f"<c><v>{c}</v></c>" if isinstance(c, int) else f'<c t="str"><v>{c}</v></c>' for c in row)
        + "</row>"
        for row in rows
    )
    main, rel = "http://schemas.openxmlformats.org/spreadsheetml/2006/main", "http://schemas.openxmlformats.org"
    relations = f'<Relationships xmlns="{rel}/package/2006/relationships">'
    parts = {
        "_rels/.rels": f'{relations}<Relationship Id="r1" Target="xl/workbook.xml" '
        f'Type="{rel}/officeDocument/2006/relationships/officeDocument"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{rel}/officeDocument/2006/relationships"><sheets>'
        '<sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'{relations}<Relationship Id="r1" '
        f'Type="{rel}/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>',
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def test_excel(tmp_path):
    path = written(tmp_path, workbook([("Question", "Answer"), ("q, 1", "a\nb"), ("how many?", 5)]), "a.dat")
    assert read(path)[0] == [("q, 1", "a\nb"), ("how many?", "5")]
    assert read(path, Columns(header=("answer", "question")))[0][0] == ("Answer", "Question")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps({"version": "1", "data": [{"title": "t", "paragraphs": []}]}), "holds SQuAD's paragraphs"),
        (json.dumps([{"conversations": [{"from": "human", "value": "q"}]}]), "ShareGPT conversations"),
        (json.dumps({"messages": [{"role": "user", "content": "q"}]}) + "\n", "chat messages"),
        ('<?xml version="1.0"?>\n<posts><row Id="1"/></posts>', "StackExchange dump"),
        ('<?xml version="1.0"?>\n<Document id="1"/>', "is XML"),
        ("<!DOCTYPE html><html><body>404", "HTML, perhaps an error"),
        (b"\xef\xbb\xbf <HTML><body>404", "HTML, perhaps an error"),
        (b"%PDF-1.7\n\x00", "is a PDF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Office file"),
        (b"SQLite format 3\x00abc", "SQLite"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"\x00\x01\x02\x03" * 40, "no text"),
        (b"", "is empty"),
        (b" \n\n", "is empty"),
    ],
)
def test_what_is_something_else_is_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"a.csv.*{message}"):
        read(written(tmp_path, content))


def test_archives_are_named(tmp_path):
    for entry, message in (("a.csv", "zip archive. Unpack"), ("word/document.xml", "Word document")):
        with zipfile.ZipFile(tmp_path / "a.csv", "w") as archive:
            archive.writestr(entry, "question,answer\nq,a\n")
        with pytest.raises(ValueError, match=f"a.csv is a {message}"):
            read(tmp_path / "a.csv")


def test_errors_in_json_name_the_line_of_the_file(tmp_path):
    rows = [{"question": f"q{i}", "answer": "a" * 500} for i in range(5_000)]
    text = json.dumps(rows, indent=1)  # each row is four lines, the first "{" on line 2
    broken = text.replace('"question": "q4000"', '"question" "q4000"')
    with pytest.raises(ValueError, match=f"line {2 + 4 * 4_000 + 1} is not valid JSON .*Expecting ':'"):
        read(written(tmp_path, broken))
    lines = [json.dumps(row) for row in rows]
    lines[4_321] = lines[4_321][:-1]
    with pytest.raises(ValueError, match=r"line 432[23] is not valid JSON"):
        read(written(tmp_path, "\n".join(lines)))


@pytest.mark.parametrize("delimiter", ["\t", ","])
@pytest.mark.parametrize(
    ("row", "rows"),
    [
        ('q|"a|b"', [("q", "a|b")]),
        ('q|"line 1\nline 2"', [("q", "line 1\nline 2")]),
        ('"say ""x"""|a', [('say "x"', "a")]),
        ('q 5" nail|a', [('q 5" nail', "a")]),
        ('"Tall" people|a', [('"Tall" people', "a")]),
        ('"open|a', [('"open', "a")]),
        ('q|"open', [("q", '"open')]),
        ('"open|a\nr|say "x"', [('"open', "a"), ("r", 'say "x"')]),
        ('"open|a\nr|"x"', [('"open', "a"), ("r", "x")]),
        ("q|a|", [("q", "a")]),
        ('"q"|"a"|', [("q", "a")]),
        ('q|"a\rb"', [("q", "a\rb")]),
    ],
)
def test_quotes(tmp_path, delimiter, row, rows):
    content = f"question|answer\n{row}\nlast|row\n".replace("|", delimiter)
    expected = [tuple(text.replace("|", delimiter) for text in pair) for pair in [*rows, ("last", "row")]]
    assert read(written(tmp_path, content, "a.tsv"))[0] == expected


def test_what_quotes_leave_open_is_noted_with_its_line(tmp_path):
    rows, refusals = read(written(tmp_path, 'question,answer\nq,a\n"open,b\nr,c\n'))
    assert rows == [("q", "a"), ('"open', "b"), ("r", "c")]
    note = {"times": 1, "first": f"{tmp_path}/a.csv line 3"}
    assert refusals.notes() == {"a quote is text, as quoting does not fit": note}
    rows, refusals = read(written(tmp_path, 'question,answer\nq,"one\nand, two"\n'))
    assert rows == [("q", "one\nand, two")]
    note = {"times": 1, "first": f"{tmp_path}/a.csv line 2"}
    assert refusals.notes() == {"lines were read as one quoted field, and would be rows, too": note}


@pytest.mark.parametrize("form", ["csv", "json", "jsonl", "parquet"])
def test_instruction_tables(tmp_path, form):
    def table(rows):
        objects = [dict(zip(("instruction", "input", "output"), row, strict=True)) for row in rows]
        if form == "parquet":
            pq.write_table(pa.Table.from_pylist(objects), tmp_path / "a")
        elif form == "csv":
            lines = [",".join(f'"{text}"' for text in row) for row in rows]
            (tmp_path / "a").write_text("\n".join(["instruction,input,output", *lines]))
        else:
            lines = map(json.dumps, objects)
            (tmp_path / "a").write_text("\n".join(lines) if form == "jsonl" else json.dumps(objects))
        return read(tmp_path / "a")

    rows, refusals = table([("Answer as a doctor.", "i cough", "rest"), ("Answer as a doctor.", "i sneeze", "wait")])
    assert rows == [("i cough", "rest"), ("i sneeze", "wait")]
    assert list(refusals.notes()) == ["the instruction is the same in every row, and left out"]
    rows, refusals = table([("Translate", "chat", "cat"), ("What is a cold?", "", "an infection")])
    assert rows == [("Translate\nchat", "cat"), ("What is a cold?", "an infection")]
    assert refusals.notes() == {}
    assert table([("Say it", "x", "y")])[0] == [("Say it\nx", "y")]  # one row: nobody knows
    assert table([("Say it", "", "y"), ("Say it", "", "z")])[0] == [("Say it", "y"), ("Say it", "z")]


def test_inputs_by_folder_pattern_and_with_commas(tmp_path, caplog):
    (tmp_path / "d").mkdir()
    for name in ("b.csv", "a.jsonl.gz", "c.XLSX", "notes.md", ".hidden.csv"):
        (tmp_path / "d" / name).touch()
    found = find_inputs([str(tmp_path / "d")])
    assert [path.rpartition("/")[2] for path in found] == ["a.jsonl.gz", "b.csv", "c.XLSX"]
    assert "not read: notes.md" in caplog.text
    assert find_inputs([f"{tmp_path}/d/*.csv"]) == (f"{tmp_path}/d/b.csv",)
    for name in ("x, y.csv", "x", "z.csv"):
        (tmp_path / name).touch()
    both = f"{tmp_path}/x, y.csv,{tmp_path}/z.csv"
    assert find_inputs([both]) == (f"{tmp_path}/x, y.csv", f"{tmp_path}/z.csv")
    with pytest.raises(FileNotFoundError, match="No file at .*none.csv"):
        find_inputs([f"{tmp_path}/z.csv,{tmp_path}/none.csv"])
    with pytest.raises(ValueError, match="z.csv is given twice"):
        find_inputs([f"{tmp_path}/z.csv", f"{tmp_path}/z.csv"])
    (tmp_path / "e").mkdir()
    with pytest.raises(ValueError, match="holds no table. Expected files that end in one of .csv"):
        find_inputs([str(tmp_path / "e")])
