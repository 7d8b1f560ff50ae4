"""Files are read by their content, whatever their names; an error names the kind of a file without a table."""

import bz2
import gzip
import io
import json
import lzma
import sys
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from data_pipeline.corpora import Columns, Refusals, read_pairs

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
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_encodings_and_packings(tmp_path, encoding, pack):
    for content in (TABLE, json.dumps([dict(zip(("question", "answer"), row, strict=True)) for row in ROWS])):
        assert read(written(tmp_path, pack(content.encode(encoding)), "table.anything"))[0] == ROWS


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_chinese_in_wide_encodings_without_a_byte_order_mark(tmp_path, encoding):
    # U+4E00 and U+6700 have a zero byte, as ASCII has, and are "N" and "g" in the other byte order.
    table = "问题\t答案\n" + "一一\t最一，最\n" * 900
    rows, _ = read(written(tmp_path, table.encode(encoding)), Columns("问题", "答案"))
    assert rows == [("一一", "最一，最")] * 900


def test_the_error_names_the_likely_encoding(tmp_path):
    for encoding, text in (("GB18030", "夜里干咳,多喝水"), ("WINDOWS-1252", "wie hoch, für Größe")):
        with pytest.raises(ValueError, match=f"not UTF-8: byte 0x.* iconv -f {encoding} -t UTF-8"):
            read(written(tmp_path, f"question,answer\n{text}\n".encode(encoding)))


def test_a_stray_zero_byte_is_text(tmp_path):
    rows, _ = read(written(tmp_path, "question,answer\nq\0,a\n" + "q,a\n" * 300))
    assert rows[0] == ("q\0", "a")


def test_zstandard_with_frames_to_skip_and_a_large_window(tmp_path):
    skipped = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    long = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    ).compressobj()
    parts = TABLE.encode()[:25], TABLE.encode()[25:]
    packed = skipped + zstandard.compress(parts[0]) + skipped + long.compress(parts[1]) + long.flush() + skipped
    assert read(written(tmp_path, packed))[0] == ROWS


def test_file_names_do_not_matter(tmp_path):
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
def test_truncated_compressed_files_are_named(tmp_path, cut):
    content = (TABLE * 500).encode()
    for pack, kind in ((gzip.compress, "gzip"), (bz2.compress, "bzip2"), (zstandard.compress, "zstandard")):
        with pytest.raises(ValueError, match=f"a.csv is a damaged or truncated {kind} file"):
            read(written(tmp_path, pack(content)[:cut]))


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
def test_delimiters_are_detected(tmp_path, delimiter):
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
    "names", ["Questions,Answers", "query,response", "prompt,completion", "anchor,positive", "input,output"]
)
def test_usual_column_names_are_recognized(tmp_path, names):
    assert read(written(tmp_path, f"{names}\nq,a\n"))[0] == [("q", "a")]


def test_columns_are_named_by_name_and_by_place(tmp_path):
    assert read(written(tmp_path, "frage,antwort\nq,a\n"), Columns("frage", "antwort"))[0] == [("q", "a")]
    assert read(written(tmp_path, "x,y\nq,a\n"), Columns("#1", "#2"))[0] == [("q", "a")]


def test_duplicate_columns_are_refused_unless_chosen_by_place(tmp_path):
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


def workbook(*sheets):
    """Returns the bytes of a minimal .xlsx file."""
    main, rel = "http://schemas.openxmlformats.org/spreadsheetml/2006/main", "http://schemas.openxmlformats.org"
    relations = f'<Relationships xmlns="{rel}/package/2006/relationships">'
    kind = f'Type="{rel}/officeDocument/2006/relationships'
    numbers = range(1, len(sheets) + 1)
    named = "".join(f'<sheet name="S{i}" sheetId="{i}" r:id="r{i}"/>' for i in numbers)
    links = "".join(f'<Relationship Id="r{i}" {kind}/worksheet" Target="worksheets/sheet{i}.xml"/>' for i in numbers)
    parts = {
        "_rels/.rels": f'{relations}<Relationship Id="r1" Target="xl/workbook.xml" {kind}/officeDocument"/>'
        "</Relationships>",
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{rel}/officeDocument/2006/relationships">'
        f"<sheets>{named}</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f"{relations}{links}</Relationships>",
    }
    for i, rows in enumerate(sheets, 1):
        cells = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
        parts[f"xl/worksheets/sheet{i}.xml"] = f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>'
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def cell(content):
    return f"<c><v>{content}</v></c>" if isinstance(content, int) else f'<c t="str"><v>{content}</v></c>'


def test_excel(tmp_path):
    path = written(tmp_path, workbook([("Question", "Answer"), ("q, 1", "a\nb"), ("how many?", 5)]), "a.dat")
    assert read(path)[0] == [("q, 1", "a\nb"), ("how many?", "5")]
    assert read(path, Columns(header=("answer", "question")))[0][0] == ("Answer", "Question")
    assert read(path, Columns(header=("question", "answer")))[0][0] == ("q, 1", "a\nb")  # the header is no row
    with pytest.raises(ValueError, match="damaged Excel workbook"):
        read(written(tmp_path, workbook([("Question", "Answer")]).replace(b"<row>", b"<r<<>")))


def test_sheets_of_a_workbook(tmp_path):
    header = ("question", "answer")
    sheets = (
        [("Notes",)],
        [("Our FAQ",), header, ("q1", "a1")],
        [header, ("q2", "a2")],
        [("x", *header), (1, "q3", "a3")],
    )
    rows, refusals = read(written(tmp_path, workbook(*sheets)))
    assert rows == [("q1", "a1"), ("q2", "a2")]
    assert refusals.notes() == {
        "a sheet with other columns is left out": {"times": 2, "first": f"{tmp_path}/a.csv sheet 'S1'"},
        "rows above the header are left out": {"times": 1, "first": f"{tmp_path}/a.csv sheet 'S2' row 1"},
    }
    with pytest.raises(ValueError, match="no column 'question'. Columns found: Notes"):
        read(written(tmp_path, workbook(*sheets[:1])))


def test_excel_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(ValueError, match="a.csv is an Excel workbook.* pip install python-calamine"):
        read(written(tmp_path, workbook([("question", "answer")])))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps({"data": [{"title": "t", "qas": []}]}), "holds SQuAD's questions"),
        (json.dumps([{"conversations": [{"from": "human", "value": "q"}]}]), "ShareGPT conversations"),
        (json.dumps({"messages": [{"role": "user", "content": "q"}]}) + "\n", "chat messages"),
        ('<?xml version="1.0"?>\n<row Id="1"/>', "StackExchange dump"),
        ('<?xml version="1.0"?>\n<Document id="1"/>', "is XML"),
        ("<!DOCTYPE html><html><body>404", "HTML, perhaps an error"),
        (b"\xef\xbb\xbf <HTML><body>404", "HTML, perhaps an error"),
        (b"%PDF-1.7\n\x00", "is a PDF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Office file"),
        (b"SQLite format 3\x00abc", "SQLite"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"\x00\x01\x02\x03" * 40, "no text"),
        (bytes(range(1, 32)) * 40, "no text"),
        (b"ARROW1\x00\x00", "damaged Arrow file"),
        (b"\x80\x04\x95\x10\x00", "pickle"),
        (b"\x89PNG\r\n\x1a\n", "an image"),
        (r"{\rtf1 q}", "RTF"),
        ("<!-- x -->\n<html><body>", "HTML"),
        ("<root><q/></root>", "no column 'question'.*looks like HTML or XML"),
        ('{"Turn": 1, "Dialogue": ["q", "a"]}', "holds dialogues"),
        ('{"columns": ["question", "answer"], "data": [["q", "a"]]}', "orient='records'"),
        ('{"question": {"0": "q"}, "answer": {"0": "a"}}', "orient='records'"),
        ('{"question": ["q", "r"], "answer": ["a", "b"]}', "orient='records'"),
        ('{"train": [{"question": "q", "answer": "a"}], "test": [{"question": "r"}]}', "several lists of objects"),
        (b"", "is empty"),
        (b" \n\n", "is empty"),
    ],
)
def test_other_kinds_of_files_are_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"a.csv.*{message}"):
        read(written(tmp_path, content))


@pytest.mark.parametrize("header", ["ORCID", "PARENT", "PAR1", "[id]", "[none]", "{x}", "<id>", "Obj", "RIFF", "GIF8"])
def test_headers_that_begin_like_other_kinds(tmp_path, header):
    assert read(written(tmp_path, f"{header},question,answer\n1,q,a\n"))[0] == [("q", "a")]


def test_packed_files_of_other_kinds_are_named(tmp_path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.csv"))
    with pytest.raises(ValueError, match="is a tar archive"):
        read(written(tmp_path, file.getvalue()))
    pq.write_table(pa.table({"question": ["q"], "answer": ["a"]}), tmp_path / "p")
    with pytest.raises(ValueError, match="a parquet file packed with gzip"):
        read(written(tmp_path, gzip.compress((tmp_path / "p").read_bytes())))


def test_archives_are_named(tmp_path):
    for entry, message in (
        ("b.csv", "zip archive. Unpack it first.* It holds b.csv"),
        ("word/document.xml", "Word document"),
        ("content.xml", "OpenDocument"),
    ):
        with zipfile.ZipFile(tmp_path / "a.csv", "w") as archive:
            archive.writestr(entry, "question,answer\nq,a\n")
        with pytest.raises(ValueError, match=f"a.csv is an? {message}"):
            read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("entry", "damaged"),
    [  # in the archive's directory, bytes 6 and 7 are the version that is needed, 8 and 9 flags, 0x0800 for UTF-8
        (b"PK\x01\x02\x14\x03\x14\x00", b"PK\x01\x02\x14\x03\x94\x00"),
        (b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x00\x08"),
    ],
)
def test_archives_of_an_unknown_version_or_with_broken_names_are_damaged(tmp_path, entry, damaged):
    content = workbook([("question", "answer"), ("q", "a")]).replace(entry, damaged).replace(b"xl/w", b"xl/\xff")
    assert damaged in content
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match=f"{path} is a zip archive"):
        read(path)
    with pytest.raises(ValueError, match=f"{path} is a damaged Excel workbook"):
        read(path, Columns(format="excel"))


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
    assert table([("Say it", "x", "y")])[0] == [("Say it\nx", "y")]  # one row does not tell
    assert table([("Say it", "", "y"), ("Say it", "", "z")])[0] == [("Say it", "y"), ("Say it", "z")]
