import gzip
import json

import pytest

from data_pipeline.corpora import Columns, Refusals, read_pairs


def read(path, columns=Columns()):
    refusals = Refusals()
    return [(pair.question, pair.answer) for _, pair in read_pairs(str(path), columns, refusals)], refusals


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'question,answer\nq1,"a, ""1""\nline"\nq2,a2\n'),
        ("a.csv", ',Focus,Question,Answer\n0,f,q1,"a, ""1""\nline"\n1,f,q2,a2\n'),  # an unnamed index column
        ("a.csv", '\ufeffQuestion,Answer\r\nq1,"a, ""1""\nline"\r\n\r\nq2,a2\r\n'),  # as a spreadsheet writes it
        ("a.tsv", 'question\tanswer\nq1\t"a, ""1""\nline"\nq2\ta2\n'),
        ("a.json", json.dumps([{"question": "q1", "answer": 'a, "1"\nline'}, {"question": "q2", "answer": "a2"}])),
        ("a.jsonl", '{"question": "q1", "answer": "a, \\"1\\"\\nline"}\n\n{"answer": "a2", "question": "q2"}\n'),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_reads_each_format(tmp_path, name, text, zipped):
    path = tmp_path / (name + ".gz" * zipped)
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    assert read(path)[0] == [("q1", 'a, "1"\nline'), ("q2", "a2")]


def test_named_columns_focus_and_source_are_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ask,reply,question,topic,source\nq,a,no,t,s\n")
    columns = Columns(question="ask", answer="reply")
    place, pair = next(read_pairs(str(path), columns, Refusals()))
    assert place == f"{path} line 2"
    assert (pair.question, pair.answer, pair.focus, pair.source) == ("q", "a", "t", "s")


def test_rows_that_are_no_pair_are_counted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("question,answer\nq,a\nonly one field\nq,a,b\n")
    rows, refusals = read(path)
    assert rows == [("q", "a")]
    reason = {"rows": 2, "first": f"{path} line 3", "position": 0}
    assert refusals.report() == {"another number of fields than the header": reason}

    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "q", "answer": "a"}\n[1]\n{"question": 3, "answer": "a"}\n{"question": "q"}\n')
    rows, refusals = read(path)
    assert rows == [("q", "a")]
    assert refusals.counts == {"not an object": 1, "question or answer is not a text": 2}


GZIP = gzip.compress(b"question,answer\n" + b"q,a\n" * 5_000, mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty. Expected a header"),
        ("a.csv", b"id,text\n1,2\n", r"no column 'question'. Columns found: id, text.*--question_column"),
        ("a.csv", b"question,Question,answer\n1,2,3\n", "several columns for the question"),
        ("a.csv", "question,answer\nqué,a\n".encode("latin-1"), "not UTF-8: byte 0xe9.*Convert"),
        ("a.csv.gz", GZIP[:60], "truncated gzip"),
        ("a.json", b"", "is empty"),
        ("a.json", b'{"question": "q"}', "no column 'answer'. Columns found: question"),
        ("a.json", b"[1]", "holds no object"),
        ("a.json", b"[" * 100_000, "is not valid JSON"),
        ("a.jsonl", b'{"question": "q", "answer": "a"}\n{"questi', "line 2 is not valid JSON"),
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b'{"q": 1}\n', r"no column 'question'. Columns found: q\."),
        ("a.txt", b"x", "no column 'question'. Columns found: x"),
    ],
)
def test_bad_files_are_named_with_a_remedy(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"(?s){name}.*{message}"):
        read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="No file at"):
        read(tmp_path / "none.csv")


def test_a_column_named_by_flag_must_be_there(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("question,answer\nq,a\n")
    with pytest.raises(ValueError, match="no column 'frage'.*Name the right one with --question_column"):
        read(path, Columns(question="frage"))
