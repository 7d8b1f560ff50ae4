"""2,000 damaged files over all formats: each gives rows, or an error that names a file; memory stays bounded."""

import dataclasses
import gzip
import random
import tracemalloc

import pytest

from data_pipeline.corpora import Columns
from data_pipeline.corpora.formats import FORMATS
from tests.test_documents import MARKDOWN, PAGE, docx, pdf
from tests.test_format_folders import JSON_LD, MICRODATA, beir, dataset, json_ld
from tests.test_format_folders import PAGE as QUESTION_PAGE
from tests.test_formats import (
    CHINESE,
    COMMENTS,
    DEPARTMENTS,
    ENGLISH,
    MEDQUAD,
    POSTS,
    SUBMISSIONS,
    TITLED,
    lines,
    read,
    written,
)

QUESTIONS = '[{"question": "Q", "answers": [{"text": "A"}]}]'
SQUAD = f'{{"data": [{{"title": "T", "paragraphs": [{{"context": "C", "qas": {QUESTIONS}}}]}}]}}'
TURNS = '[{"Turn": 2, "Dialogue": ["病人：干咳。", "医生：多喝水。"]}, ["patient: a", "doctor: b"]]'
# Name of a format, row type, name of the file, content.
WHOLE = [
    ("medquad", "pairs", "a.xml", MEDQUAD),
    ("meddialog", "pairs", "a.txt", ENGLISH),
    ("meddialog", "pairs", "a.txt", CHINESE),
    ("meddialog", "pairs", "a.json", TURNS),
    ("departments", "pairs", "a.csv", DEPARTMENTS),
    ("departments", "pairs", "a.txt", TITLED.encode("gb18030")),
    ("squad", "pairs", "a.json", SQUAD),
    ("squad", "passages", "a.json", SQUAD),
    ("stackexchange", "pairs", "Posts.xml", POSTS),
    ("reddit", "pairs", "x_comments.ndjson", lines(COMMENTS)),
    ("reddit", "pairs", "x_submissions.ndjson", lines(SUBMISSIONS)),
    ("qapage", "pairs", "a.html", QUESTION_PAGE.format("utf-8", json_ld(JSON_LD), MICRODATA)),
    ("beir", "pairs", "qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n"),
    ("documents", "passages", "a.md", MARKDOWN),
    ("documents", "passages", "a.html", PAGE),
    ("documents", "passages", "a.pdf", pdf("A reflex.", "Honey.")),
    ("documents", "passages", "a.docx", docx()),
    ("arrow", "pairs", "set/data-00000-of-00001.arrow", b""),
    ("arrow", "pairs", "set/state.json", b""),
    ("beir", "passages", "corpus.jsonl", b""),
]
FILES = 100  # damaged ones of each
MAX_BYTES = 64 * 2**20  # of memory, for files of at most 50 KB


def mutated(content, dice):
    kind = dice.choice(["cut", "flip", "splice", "repeat", "encoding", "gzip", "lines"])
    if kind == "cut":
        return content[: dice.randrange(len(content))]
    if kind == "repeat":
        start = dice.randrange(len(content))
        return content[:start] + content[start : start + 9] * dice.randrange(1, 5_000) + content[start:]
    if kind == "encoding":
        return content.decode(errors="ignore").encode(dice.choice(["utf-16", "latin-1", "gb18030", "utf-32"]), "ignore")
    if kind == "lines":
        parts = content.splitlines(keepends=True)
        dice.shuffle(parts)
        return b"".join(parts)
    damaged = bytearray(gzip.compress(content, mtime=0) if kind == "gzip" else content)
    for _ in range(dice.randrange(1, 9)):
        position = dice.randrange(len(damaged))
        if kind == "splice":
            damaged[position:position] = dice.randbytes(dice.randrange(9))
        else:
            damaged[position] ^= 1 << dice.randrange(8)
    return bytes(damaged)


def prepared(folder, name, content):
    """Writes the files of a format; returns the damaged one's path, its content, and the path that is read."""
    if name.startswith("set/"):
        dataset(folder / "set", [{"question": f"q{n}", "answer": f"a{n}"} for n in range(40)], num_files=1)
    if "jsonl" in name or "qrels" in name:
        beir(folder)
    for other, rows in (("x_comments.ndjson", COMMENTS), ("x_submissions.ndjson", SUBMISSIONS)):
        if name.startswith("x_"):
            written(folder / other, lines(rows))
    path = folder / name
    content = content.encode() if isinstance(content, str) else content or path.read_bytes()
    read_path = {"set": folder / "set", "x_submissions.ndjson": folder / "x_comments.ndjson"}
    is_part = name == "corpus.jsonl"
    return path, content, folder if is_part else read_path.get(name.split("/")[0], path)


def test_every_format_is_damaged():
    damaged = {(name, rows) for name, rows, *_ in WHOLE}
    assert {(known.name, rows) for known in FORMATS for rows in known.read} <= damaged
    assert len(WHOLE) * FILES == 2_000


@pytest.mark.slow
@pytest.mark.parametrize(("form", "rows", "name", "content"), WHOLE)
@pytest.mark.parametrize("forced", [False, True])
def test_damaged_files(tmp_path, form, rows, name, content, forced):
    dice = random.Random(f"{name} {form} {rows} {forced}")
    path, whole, read_path = prepared(tmp_path, name, content)
    columns = Columns(format=form if forced else "auto")
    kept = 0
    tracemalloc.start()
    try:
        for _ in range(FILES // 2):
            written(path, mutated(whole, dice))
            try:
                result, error = read(read_path, columns, rows)[0], None
            except (ValueError, FileNotFoundError) as raised:
                result, error = [], raised
            kept += bool(result)
            for row in result:
                values = dataclasses.asdict(row).values()
                assert all(isinstance(value, str) for value in values), row
            assert error is None or (str(tmp_path) in str(error) and not isinstance(error, UnicodeError)), error
        assert kept or not content or isinstance(content, bytes)  # checksums find nearly all damage of binary files
        assert tracemalloc.get_traced_memory()[1] < MAX_BYTES
    finally:
        tracemalloc.stop()
