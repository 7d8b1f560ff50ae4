"""Preparing again: runs that were killed, finished folders, damaged ones, changed inputs."""

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, chunks, prepare, shards
from tests.conftest import write_csv


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).iterdir())}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """24,000 pairs, three chunks; every tenth repeats the pair before it, every seventh repeats its question."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(24_000):
        question = rows[-1][0] if i % 10 == 9 or i % 7 == 6 else f"what is x{i}?"
        answer = rows[-1][1] if i % 10 == 9 else " ".join(map(str, random.integers(0, 999, random.integers(1, 90))))
        rows.append((question, answer))
    return write_csv(tmp_path_factory.mktemp("large") / "large.csv", rows)


@pytest.fixture(scope="module")
def undisturbed(large, vocab_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "out"
    manifest = prepare(PrepareSettings((large,), vocab_file), str(folder), num_workers=0)
    assert manifest["refused"] == {"the same pair occurs before": {"rows": 2_400, "first": f"{large} line 11"}}
    assert sum(count["pairs"] for count in manifest["counts"].values()) == 21_600
    return contents(folder)


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(large, vocab_file, tmp_path, undisturbed):
    prepare(PrepareSettings((large,), vocab_file), str(tmp_path / "out"), num_workers=2)
    assert contents(tmp_path / "out") == undisturbed
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bytes(large, vocab_file, tmp_path, undisturbed):
    random = np.random.default_rng(1)
    command = [sys.executable, "-m", "data_pipeline.prepare", f"--input={large}", f"--tokenizer={vocab_file}"]
    command += [f"--output_dir={tmp_path}/out", "--num_workers=2"]
    top = pathlib.Path(__file__).parents[1]
    for _ in range(10):
        process = subprocess.Popen(command, cwd=top, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0.3, 2.5))
        process.kill()
        process.wait()
    subprocess.run(command, cwd=top, capture_output=True, check=True)
    assert contents(tmp_path / "out") == undisturbed
    assert os.listdir(tmp_path) == ["out"]


def test_finished_work_is_not_repeated(large, vocab_file, tmp_path, undisturbed, monkeypatch):
    settings, out = PrepareSettings((large,), vocab_file), str(tmp_path / "out")
    write = chunks.write

    def interrupted(*args):
        write(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(chunks, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(settings, out, num_workers=0)
    monkeypatch.setattr(chunks, "write", write)
    monkeypatch.setattr(chunks, "_read", None)  # everything is read already
    prepare(settings, out, num_workers=0)
    assert contents(out) == undisturbed
    monkeypatch.setattr(shards, "write", None)
    assert prepare(settings, out) == json.loads(undisturbed["manifest.json"])  # everything is done already


@pytest.mark.parametrize("moment", ["first shard", "manifest", "before the rename", "after the rename"])
def test_a_run_killed_near_its_end_is_resumed(large, vocab_file, tmp_path, undisturbed, monkeypatch, moment):
    settings, out = PrepareSettings((large,), vocab_file), str(tmp_path / "out")
    calls = []
    owner, name, is_now = {
        "first shard": (shards, "_rows", lambda *_: len(calls) == 2),
        "manifest": (files, "write_json", lambda path, *_: path.endswith("manifest.json")),
        "before the rename": (files, "_replace_folder", lambda *_: True),
        "after the rename": (files.shutil, "rmtree", lambda path, *_: path == f"{out}.partial"),
    }[moment]
    function = getattr(owner, name)

    def killed(*args, **kwargs):
        calls.append(args)
        if is_now(*args):
            raise KeyboardInterrupt  # like a kill: nothing is cleaned up
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(settings, out, num_workers=0)
    monkeypatch.undo()
    assert os.path.exists(f"{out}.partial")
    prepare(settings, out, num_workers=0)
    assert contents(out) == undisturbed


def test_a_damaged_folder_is_repaired_by_overwrite(tmp_path, corpus, vocab_file):
    settings, out = PrepareSettings((corpus,), vocab_file), tmp_path / "out"
    prepare(settings, str(out))
    before = contents(out)
    (out / "train-00003-of-00008.tfrecord").unlink()
    with pytest.raises(FileExistsError, match="--overwrite"):
        prepare(settings, str(out))
    prepare(settings, str(out), overwrite=True)
    assert contents(out) == before


def test_changed_inputs_or_settings_are_prepared_anew(tmp_path, vocab_file):
    path, out = write_csv(tmp_path / "p.csv", [("q1", "a1")]), str(tmp_path / "out")
    prepare(PrepareSettings((path,), vocab_file, dev_share=0), out)
    write_csv(tmp_path / "p.csv", [("q1", "a1"), ("q2", "a2")])
    with pytest.raises(FileExistsError, match="--overwrite"):
        prepare(PrepareSettings((path,), vocab_file, dev_share=0), out)
    assert (
        prepare(PrepareSettings((path,), vocab_file, dev_share=0), out, overwrite=True)["counts"]["train"]["pairs"] == 2
    )
    prepare(PrepareSettings((path,), vocab_file, dev_share=0, max_tokens={"answer": 3}), out, overwrite=True)
    assert PreparedFolder(out).longest() == 4  # [CLS] q ##1 [SEP]


def test_small_chunks_make_no_small_row_groups(large, vocab_file, tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "_MAX_ROWS", 500)
    prepare(PrepareSettings((large,), vocab_file), str(tmp_path / "out"), num_workers=0)
    assert pq.ParquetFile(tmp_path / "out/pairs.parquet").metadata.num_row_groups == 8  # one a shard
