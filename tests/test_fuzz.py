"""1,000 damaged files: every one gives pairs or an error that names it; none hangs or leaves half a folder."""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from data_pipeline.corpora import Columns, Refusals, json_scanner, opening, read_pairs
from data_pipeline.prepare import PrepareSettings, prepare
from tests.test_file_kinds import workbook

PAIRS = [{"question": f"what is {i}, “x”?", "answer": f'an "answer" {i}\nwith\tlines é 中 {i}'} for i in range(40)]
TABLE = "question,answer\n" + "".join(
    '"{}","{}"\n'.format(*(text.replace('"', '""') for text in pair.values())) for pair in PAIRS
)
WHOLE = {
    "a.csv": TABLE,
    "a.tsv": TABLE.replace(",", "\t"),
    "a.json": json.dumps(PAIRS),
    "a.jsonl": "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in PAIRS),
}
FILES = 60  # damaged files of each other kind
NESTED = [None, 3, True, [], {}, [None, [None]], {"a": {"b": [None]}}, 1e999, "\ud800", "", "\x00", "x" * 10_000]


def mutated(content: bytes, name: str, dice: random.Random) -> bytes:
    kind = dice.choice(["cut", "flip", "splice", "encoding", "types", "repeat", "gzip"])
    if kind == "encoding":
        return content.decode(errors="ignore").encode(dice.choice(["utf-16", "latin-1", "gb18030", "utf-32"]), "ignore")
    if kind == "types" and "json" in name:
        rows = [{key: dice.choice([value, *NESTED]) for key, value in pair.items()} for pair in PAIRS]
        rows[dice.randrange(len(rows))] = dice.choice(NESTED)
        lines = [json.dumps(row) for row in rows]
        return ("\n".join(lines) if name.endswith("l") else f"[{','.join(lines)}]").encode()
    if kind == "cut":
        return content[: dice.randrange(len(content))]
    if kind == "repeat":
        start = dice.randrange(len(content))
        return content[:start] + content[start : start + 9] * dice.randrange(1, 5_000) + content[start:]
    if kind == "gzip":
        zipped = bytearray(gzip.compress(content, mtime=0))
        zipped[dice.randrange(len(zipped))] ^= 1 << dice.randrange(8)
        return bytes(zipped)
    damaged = bytearray(content)
    for _ in range(dice.randrange(1, 9)):
        position = dice.randrange(len(damaged))
        if kind == "flip":
            damaged[position] ^= 1 << dice.randrange(8)
        else:
            damaged[position:position] = bytes(dice.randrange(256) for _ in range(dice.randrange(9)))
    return bytes(damaged)


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("zipped", [False, True])
def test_125_damaged_files(tmp_path, name, zipped):
    dice = random.Random(f"{name} {zipped}")
    path = tmp_path / (name + ".gz" * zipped)
    errors = 0
    for _ in range(125):
        damaged = mutated(WHOLE[name].encode(), name, dice)
        path.write_bytes(gzip.compress(damaged) if zipped and not damaged.startswith(b"\x1f\x8b") else damaged)
        try:
            rows, error = list(read_pairs(str(path), Columns(), Refusals())), None
        except ValueError as raised:
            rows, error = [], raised
        errors += error is not None
        assert all(isinstance(text, str) for _, pair in rows for text in (pair.question, pair.answer))
        assert error is None or (str(path) in str(error) and not isinstance(error, UnicodeError))
    assert 10 < errors < 125


def parquet():
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{**pair, "pos": [pair["answer"]] * 2} for pair in PAIRS]), file)
    return file.getvalue()


BINARY = {
    "parquet": parquet,
    "xlsx": lambda: workbook([("question", "answer"), *((f"q{i}", f"a {i}") for i in range(40))]),
    "zst": lambda: zstandard.compress(TABLE.encode() * 9),
    "bz2": lambda: bz2.compress(TABLE.encode() * 9),
    "xz": lambda: lzma.compress(TABLE.encode() * 9),
    "utf-16": lambda: TABLE.encode("utf-16-le"),
    "utf-32": lambda: WHOLE["a.json"].encode("utf-32-be"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BINARY)
def test_damaged_files_of_other_kinds(tmp_path, kind):
    dice = random.Random(kind)
    path, whole, errors = tmp_path / "a", BINARY[kind](), 0
    for _ in range(FILES):
        path.write_bytes(mutated(whole, "a", dice))
        try:
            rows, error = list(read_pairs(str(path), Columns(), Refusals())), None
        except ValueError as raised:
            rows, error = [], raised
        errors += error is not None
        assert all(isinstance(text, str) for _, pair in rows for text in (pair.question, pair.answer))
        assert error is None or (str(path) in str(error) and not isinstance(error, UnicodeError))
    assert errors > FILES / 20


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl"])
def test_a_damaged_file_prepares_nothing(tmp_path, vocab_file, name):
    dice = random.Random(name)
    path, errors = tmp_path / name, 0
    for i in range(30):
        path.write_bytes(mutated(WHOLE[name].encode(), name, dice))
        out = tmp_path / f"out{i}"
        try:
            prepare(PrepareSettings((str(path),), vocab_file), str(out), num_workers=0)
            error = None
        except ValueError as raised:
            error = raised
        errors += error is not None
        assert error is None or str(path) in str(error)
        remaining = [entry for entry in os.listdir(tmp_path) if entry.startswith(f"out{i}")]
        assert remaining == ([] if error else [f"out{i}"])
    assert 3 < errors < 30


def bomb(path, head, filling, megabytes):
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(megabytes):
            file.write(filling * (2**20 // len(filling)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "head", "filling"),
    [
        ("a.csv.gz", b"question,answer\nq,", b"x"),
        ("a.jsonl.gz", b'{"question": "', b"x"),
        ("a.json.gz", b'[{"question": "', b"x"),
        ("a.json.gz", b"[", b"["),
        ("a.json.gz", b"[", b" "),
    ],
)
def test_an_endless_row_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch, name, head, filling):
    limit = 4 * 2**20
    for module in (opening, json_scanner):
        monkeypatch.setattr(module, "MAX_ROW_BYTES", limit)
    path = tmp_path / name
    bomb(path, head, filling, 100)
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    with pytest.raises(ValueError, match=name):
        list(read_pairs(str(path), Columns(), Refusals()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * limit  # the limit counts bytes; many short Python strings take more


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.csv", "a.json"])
def test_a_zstandard_bomb_is_refused(tmp_path, monkeypatch, name):
    limit = 4 * 2**20
    for module in (opening, json_scanner):
        monkeypatch.setattr(module, "MAX_ROW_BYTES", limit)
    head = {"a.csv": b"question,answer\nq,", "a.json": b'[{"question": "'}[name]
    # A frame of stored bytes, and blocks that say: 128 KiB of "x".
    block = (2**17 << 3 | 1 << 1).to_bytes(3, "little") + b"x"
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + (len(head) << 3).to_bytes(3, "little") + head + block * 20_000
    (tmp_path / name).write_bytes(frame)
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"{name} has an? (line|item) of more than"):
        list(read_pairs(str(tmp_path / name), Columns(), Refusals()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * limit  # 128 of 2,500 MiB


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "filling"),
    [
        (b'question,answer\nq,"', b"x" * 1_000 + b"\n"),  # one field of endless lines
        (b"question,answer\n", b'"a\n",'),  # one row of endless fields
        (b"question,answer\n", b'"a,b\n'),  # an unclosed quote on every line
    ],
)
def test_unclosed_quotes_swallow_no_other_rows(tmp_path, head, filling):
    path, refusals = tmp_path / "a.csv.gz", Refusals()
    bomb(path, head, filling, 1)
    rows = sum(1 for _ in read_pairs(str(path), Columns(), refusals))
    lines = (head + filling * (2**20 // len(filling))).rstrip(b"\n").count(b"\n")
    assert rows + sum(refusals.counts.values()) == lines  # each line is a row, but for the header


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_a_line_of_50_mb_is_read(tmp_path, name):
    path = tmp_path / name
    long = "x" * (50 * 10**6)
    row = json.dumps({"question": "q", "answer": long})
    comma = "\t" if name == "a.tsv" else ","
    path.write_text({"a.json": f"[{row}]", "a.jsonl": row}.get(name, f"question{comma}answer\nq{comma}{long}\n"))
    ((_, pair),) = read_pairs(str(path), Columns(), Refusals())
    assert (pair.question, len(pair.answer)) == ("q", len(long))
