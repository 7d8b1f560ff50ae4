import gzip
import json
import os
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

from data_pipeline import cleaning, records
from data_pipeline.prepare import Settings, prepare
from data_pipeline.prepared import PreparedFolder
from tests.conftest import write_csv


def parsed(prepared, split):
    raw = list(tf.data.TFRecordDataset(prepared.shards(split)).as_numpy_iterator())
    return records.parse(raw, records.PAIR)


def test_every_pair_is_kept_once_and_its_ids_are_those_of_its_text(prepared, tokenizer):
    table = prepared.pairs(["pair_id", "question", "answer", "split", "question_group"]).to_pylist()
    assert len(table) == 61
    for split in ("train", "dev"):
        rows = {row["pair_id"]: row for row in table if row["split"] == split}
        batch = parsed(prepared, split)
        assert sorted(batch["pair_id"].numpy()) == sorted(rows)
        assert len(rows) == prepared.num_pairs(split)
        for i, pair_id in enumerate(batch["pair_id"].numpy().tolist()):
            row = rows[pair_id]
            assert pair_id == cleaning.pair_id(row["question"], row["answer"])
            assert batch["question_group"][i].numpy() == row["question_group"]
            for side in ("question", "answer"):
                assert batch[f"{side}_ids"][i].numpy().tolist() == tokenizer.encode([row[side]], 256).to_list()[0]


def test_no_question_is_in_two_splits(prepared):
    rows = prepared.pairs(["question", "question_group", "split"]).to_pylist()
    splits_of = {}
    for row in rows:
        splits_of.setdefault(row["question_group"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits_of.values())
    assert {row["split"] for row in rows} == {"train", "dev"}
    # "what is shared?" and "What is  shared" are one question.
    assert len({row["question_group"] for row in rows if "shared" in row["question"]}) == 1
    assert len(splits_of) == 60


def test_equal_answers_are_one_group(prepared):
    rows = prepared.pairs(["answer", "answer_group"]).to_pylist()
    assert len({row["answer_group"] for row in rows if row["answer"].lower().startswith("a1 first")}) == 1


def test_two_runs_write_the_same_bytes(corpus, vocab_file, tmp_path):
    for name in ("a", "b"):
        prepare(Settings((corpus,), vocab_file, dev_share=0.2), str(tmp_path / name))
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_what_is_refused_is_counted(tmp_path, vocab_file):
    rows = [("q1?", "a1"), ("q2?", " \u200b"), ("&nbsp;", "a"), ("q1?", "a1"), ("Q1", "a2"), ("\u200b\u2060", "a")]
    path = write_csv(tmp_path / "p.csv", rows)
    manifest = prepare(Settings((path,), vocab_file, dev_share=0), str(tmp_path / "out"))
    assert manifest["refused"] == {
        "empty answer": {"rows": 1, "first": f"{path} line 3"},
        "empty question": {"rows": 2, "first": f"{path} line 4"},
        "the same pair stands before": {"rows": 1, "first": f"{path} line 5"},
    }
    assert manifest["counts"]["train"]["pairs"] == 2


def test_questions_of_a_dev_file_are_kept_out_of_train(tmp_path, vocab_file):
    train = write_csv(tmp_path / "train.csv", [("What is A?", "a1"), ("what is b", "b1")])
    dev = write_csv(tmp_path / "dev.csv", [("what is a", "a2")])
    manifest = prepare(Settings((train,), vocab_file, dev_inputs=(dev,), dev_share=0), str(tmp_path / "out"))
    assert manifest["refused"] == {"its question is in a dev file": {"rows": 1, "first": f"{train} line 2"}}
    rows = PreparedFolder(str(tmp_path / "out")).pairs(["answer", "split"]).to_pylist()
    assert rows == [{"answer": "a2", "split": "dev"}, {"answer": "b1", "split": "train"}]


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
        prepare(Settings((str(path),), vocab_file), str(tmp_path / "out"))
    assert os.listdir(tmp_path) == ["p.csv"]


MANY = "question,answer\n" + "".join(f"what is a{i}?,the b{i}.\n" for i in range(2_500))  # more than one chunk


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv.gz", gzip.compress(MANY.encode())[:-20], "damaged or truncated gzip"),
        ("p.csv", MANY.encode() + b"what is \xe9?,x\n", "not UTF-8: byte 0xe9"),
        ("p.csv", MANY.encode() + b'what is "x"?,"x\n', "line 2502 is no valid table row"),
    ],
)
def test_an_error_after_many_rows_leaves_nothing_half_written(tmp_path, corpus, vocab_file, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    settings = Settings((str(path),), vocab_file)
    with pytest.raises(ValueError, match=f"{path} .*{message}"):
        prepare(settings, str(tmp_path / "out"))
    assert os.listdir(tmp_path) == [name]
    prepare(Settings((corpus,), vocab_file), str(tmp_path / "out"))
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    with pytest.raises(ValueError, match=message):
        prepare(settings, str(tmp_path / "out"), overwrite=True)
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
    assert sorted(os.listdir(tmp_path)) == sorted([name, "out"])


def test_the_script(tmp_path, corpus, vocab_file):
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
    done = subprocess.run([*command, f"--input={corpus}"], cwd=top, capture_output=True, text=True)
    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert "Traceback" not in done.stderr
