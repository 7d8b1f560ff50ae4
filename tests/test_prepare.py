import gzip
import json
import os
import pathlib
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from data_pipeline import batches, cleaning
from data_pipeline.corpora import Columns
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, chunks, prepare, shards
from data_pipeline.rows import PAIR
from data_pipeline.scrubbing import BOILERPLATE_FILE, ScrubSettings
from tests.conftest import write_csv


def parsed(prepared, split):
    raw = list(tf.data.TFRecordDataset(prepared.shards(split)).as_numpy_iterator())
    return batches.parse(raw, PAIR.features)


def test_every_pair_is_stored_once_with_the_ids_of_its_text(prepared, tokenizer):
    table = prepared.table(["pair_id", "question", "answer", "split", "question_group"]).to_pylist()
    assert len(table) == 61
    for split in ("train", "dev"):
        rows = {row["pair_id"]: row for row in table if row["split"] == split}
        batch = parsed(prepared, split)
        assert sorted(batch["pair_id"].numpy()) == sorted(rows)
        assert len(rows) == prepared.num_rows(split)
        for i, pair_id in enumerate(batch["pair_id"].numpy().tolist()):
            row = rows[pair_id]
            assert pair_id == cleaning.pair_id(row["question"], row["answer"])
            assert batch["question_group"][i].numpy() == row["question_group"]
            for side in ("question", "answer"):
                assert batch[f"{side}_ids"][i].numpy().tolist() == tokenizer.encode([row[side]], 256).to_list()[0]


def test_no_question_is_in_two_splits(prepared):
    rows = prepared.table(["question", "question_group", "split"]).to_pylist()
    splits_of = {}
    for row in rows:
        splits_of.setdefault(row["question_group"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in splits_of.values())
    assert {row["split"] for row in rows} == {"train", "dev"}
    # "what is shared?" and "What is  shared" are one question.
    assert len({row["question_group"] for row in rows if "shared" in row["question"]}) == 1
    assert len(splits_of) == 60


def test_equal_answers_are_one_group(prepared):
    rows = prepared.table(["answer", "answer_group"]).to_pylist()
    assert len({row["answer_group"] for row in rows if row["answer"].lower().startswith("a1 first")}) == 1


def test_two_runs_write_the_same_bytes(corpus, vocab_file, tmp_path):
    for name in ("a", "b"):
        prepare(PrepareSettings((corpus,), vocab_file, dev_share=0.2), str(tmp_path / name))
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_refused_rows_are_counted(tmp_path, vocab_file):
    rows = [("q1?", "a1"), ("q2?", " \u200b"), ("&nbsp;", "a"), ("q1?", "a1"), ("Q1", "a2"), ("\u200b\u2060", "a")]
    path = write_csv(tmp_path / "p.csv", rows)
    manifest = prepare(PrepareSettings((path,), vocab_file, dev_share=0), str(tmp_path / "out"))
    assert manifest["refused"] == {
        "empty question": {"rows": 2, "first": f"{path} line 4"},
        "empty answer": {"rows": 1, "first": f"{path} line 3"},
        "the same pair occurs before": {"rows": 1, "first": f"{path} line 5"},
    }
    assert manifest["counts"]["train"]["pairs"] == 2


def test_questions_of_a_dev_file_are_kept_out_of_train(tmp_path, vocab_file):
    train = write_csv(tmp_path / "train.csv", [("What is A?", "a1"), ("what is b", "b1")])
    dev = write_csv(tmp_path / "dev.csv", [("what is a", "a2")])
    manifest = prepare(PrepareSettings((train,), vocab_file, dev_inputs=(dev,), dev_share=0), str(tmp_path / "out"))
    assert manifest["refused"] == {"its question is in a dev file": {"rows": 1, "first": f"{train} line 2"}}
    rows = PreparedFolder(str(tmp_path / "out")).table(["answer", "split"]).to_pylist()
    assert {row["answer"]: row["split"] for row in rows} == {"a2": "dev", "b1": "train"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,text\n1,2\n", "Columns found: id, text"),
        ("", "is empty"),
        ("question,answer\n", "No pair is left"),
        ("question,answer\nq,\n", "No pair is left.*empty answer"),
    ],
)
def test_bad_input_leaves_nothing_behind(tmp_path, vocab_file, content, message):
    path = tmp_path / "p.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        prepare(PrepareSettings((str(path),), vocab_file), str(tmp_path / "out"))
    assert os.listdir(tmp_path) == ["p.csv"]


MANY = "question,answer\n" + "".join(f"what is a{i}?,the b{i}.\n" for i in range(9_000))  # more than one chunk


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv.gz", gzip.compress(MANY.encode(), mtime=0)[:-20], "damaged or truncated gzip"),
        ("p.csv", MANY.encode() + b"what is \xe9?,x\n", "not UTF-8: byte 0xe9"),
    ],
)
def test_an_error_after_many_rows_leaves_nothing_half_written(tmp_path, corpus, vocab_file, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    settings = PrepareSettings((str(path),), vocab_file)
    with pytest.raises(ValueError, match=f"{path} .*{message}"):
        prepare(settings, str(tmp_path / "out"))
    assert os.listdir(tmp_path) == [name]
    prepare(PrepareSettings((corpus,), vocab_file), str(tmp_path / "out"))
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    with pytest.raises(ValueError, match=message):
        prepare(settings, str(tmp_path / "out"), overwrite=True)
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
    assert sorted(os.listdir(tmp_path)) == sorted([name, "out"])


def test_the_command(tmp_path, corpus, vocab_file):
    command = [
        sys.executable,
        "-m",
        "data_pipeline.prepare",
        f"--tokenizer={vocab_file}",
        f"--output_dir={tmp_path}/out",
    ]
    top = pathlib.Path(__file__).parents[1]
    done = subprocess.run([*command, f"--input={corpus}"], cwd=top, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["counts"] == PreparedFolder(f"{tmp_path}/out").manifest["counts"]
    again = subprocess.run([*command, f"--input={corpus}"], cwd=top, capture_output=True, text=True, check=True)
    assert again.stdout == done.stdout  # nothing changed: nothing to do
    done = subprocess.run([*command, f"--input={corpus}", "--seed=7"], cwd=top, capture_output=True, text=True)
    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_row_is_accounted_for(tmp_path, corpus, vocab_file, monkeypatch):
    filter_rows = shards._accepted
    monkeypatch.setattr(shards, "_accepted", lambda *args: filter_rows(*args).slice(1))
    with pytest.raises(RuntimeError, match="61 rows were read; 5[0-9] pairs and {} do not account for all"):
        prepare(PrepareSettings((corpus,), vocab_file), str(tmp_path / "out"))


def test_an_unreadable_second_file_is_reported_before_the_work(tmp_path, corpus, vocab_file, monkeypatch):
    monkeypatch.setattr(chunks, "write", None)
    (tmp_path / "b.csv").write_text("a,b\n1,2\n")
    for path, message in (("b.csv", "no column 'question'"), ("c.txt", "No file at"), ("", "is a folder")):
        with pytest.raises((ValueError, OSError), match=message):
            prepare(PrepareSettings((corpus, str(tmp_path / path)), vocab_file), str(tmp_path / "out"))


def test_near_duplicates_are_refused_by_flag(tmp_path, vocab_file):
    words = [f"w{i}" for i in range(60)]
    other = [*words[:30], "else", *words[31:]]  # 3 of 58 triples change on each side: Jaccard 57 / 63
    rows = [("q one?", " ".join(words)), ("q one?", " ".join(other)), ("q two?", " ".join(words[::-1]))]
    path = write_csv(tmp_path / "p.csv", [*rows, rows[0]])
    manifests = {}
    for duplicates in ("exact", "near"):
        settings = PrepareSettings((path,), vocab_file, dev_share=0, duplicates=duplicates)
        manifests[duplicates] = prepare(settings, str(tmp_path / duplicates))
    assert manifests["exact"]["counts"]["train"]["pairs"] == 3
    assert manifests["near"]["counts"]["train"]["pairs"] == 2
    assert manifests["near"]["refused"] == {
        "nearly the same pair occurs before": {"rows": 1, "first": f"{path} line 3"},
        "the same pair occurs before": {"rows": 1, "first": f"{path} line 5"},
    }
    assert pq.ParquetFile(tmp_path / "near/pairs.parquet").metadata.num_rows == 2
    strict = PrepareSettings((path,), vocab_file, dev_share=0, duplicates="near", near_threshold=0.99)
    assert prepare(strict, str(tmp_path / "strict"))["counts"]["train"]["pairs"] == 3


def test_texts_are_scrubbed_by_flag(tmp_path, vocab_file):
    path = write_csv(tmp_path / "p.csv", [("see www.a.org?", "Hello. Call 555-123-4567. Hope this helps. Regards.")])
    scrub = ScrubSettings(BOILERPLATE_FILE, mask_links=True, mask_personal=True)
    manifest = prepare(PrepareSettings((path,), vocab_file, dev_share=0, scrub=scrub), str(tmp_path / "out"))
    assert PreparedFolder(str(tmp_path / "out")).table(["question", "answer"]).to_pylist() == [
        {"question": "see [link]?", "answer": "Call [phone]."}
    ]
    assert manifest["changed"] == {
        "links masked": 1, "telephone numbers masked": 1, "openings removed": 1, "sign-offs removed": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_shards": -1}, "expected 0 or more"),
        ({"max_tokens": {"answer": 2}}, "max_answer_tokens is 2; expected 3 or more"),
        ({"duplicates": "all"}, "expected exact or near"),
        ({"near_threshold": 0}, "expected more than 0"),
        ({"dev_share": 1}, "less than 1 together"),
    ],
)
def test_invalid_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        PrepareSettings(("a.csv",), "vocab", **wrong)


def test_a_sample_is_the_first_rows_of_each_input(tmp_path, vocab_file):
    names = []
    for name in "ab":
        rows = [(f"question {name} {number}", f"answer {name} {number}") for number in range(9)]
        names.append(write_csv(tmp_path / f"{name}.csv", rows))
    settings = PrepareSettings(inputs=tuple(names), tokenizer=vocab_file, columns=Columns(sample=4))
    prepare(settings, str(tmp_path / "p"))
    questions = PreparedFolder(str(tmp_path / "p")).table(["question"])["question"].to_pylist()
    assert sorted(questions) == [f"question {name} {number}" for name in "ab" for number in range(4)]


def test_a_pair_refused_for_its_question_makes_no_near_duplicate(tmp_path, vocab_file):
    answer = " ".join(f"w{i}" for i in range(60))
    dev = write_csv(tmp_path / "dev.csv", [("what is fever", "short")])
    train = write_csv(tmp_path / "train.csv", [("what is fever?", answer), ("what is the fever?", answer)])
    settings = PrepareSettings((train,), vocab_file, dev_inputs=(dev,), dev_share=0, duplicates="near")
    manifest = prepare(settings, str(tmp_path / "out"))
    assert manifest["refused"] == {"its question is in a dev file": {"rows": 1, "first": f"{train} line 2"}}
    assert manifest["counts"]["train"]["pairs"] == 1
