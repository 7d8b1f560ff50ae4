"""Folders prepared from rows of triage: incomplete rows, stratified splits, resuming, the command."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from data_pipeline.corpora import Columns
from data_pipeline.corpora.triage import TRIAGES
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, chunks, prepare, shards, strata
from data_pipeline.rows import TRIAGE
from data_pipeline.scrubbing import BOILERPLATE_FILE, ScrubSettings
from tests.test_triage_rows import DEPARTMENTS, write

TOP = pathlib.Path(__file__).parents[1]


def prepared(tmp_path, rows, name="out", **settings):
    path = write(tmp_path / f"{name}.csv", [("text", "label", "reply"), *rows])
    settings = {"dev_share": 0, **settings}
    prepare(PrepareSettings((path,), **settings), str(tmp_path / name), num_workers=0, reader=TRIAGES)
    return PreparedFolder(str(tmp_path / name), TRIAGE)


def refused(folder):
    return {reason: entry["rows"] for reason, entry in folder.manifest["refused"].items()}


def test_incomplete_rows_are_kept_for_the_task_that_they_fit(tmp_path):
    rows = [
        ("both", "x", "r"),
        ("label", "x", "NULL"),
        ("reply", "nan", "r"),
        ("nothing", "", ""),
        ("nulls", "NULL", "nan"),
    ]
    rows += [(" ", "x", "r"), ("NULL", "x", "r"), ("markup", "", "<p></p>"), ("both", "x", "r"), ("both", "y", "r")]
    folder = prepared(tmp_path, rows, html="text")
    assert refused(folder) == {
        "neither label nor reply": 3,
        "empty text": 1,
        "text is the word NULL": 1,
        "the same triage occurs before": 1,
        "the same triage occurs before with another label": 1,
    }
    table = folder.table(["text", "label", "reply", "source", "split"]).to_pylist()
    other = {"source": "out.csv", "split": "train"}
    assert sorted(table, key=lambda row: row["text"]) == [
        {"text": "both", "label": "x", "reply": "r", **other},
        {"text": "label", "label": "x", "reply": "", **other},
        {"text": "reply", "label": "", "reply": "r", **other},
    ]
    assert (folder.num_rows("train"), folder.manifest["tokenizer"]) == (3, None)
    kept = prepared(tmp_path, rows, "kept", keep_null_words=True)
    assert {"NULL"} < set(kept.table(["text", "reply"])["reply"].to_pylist())


def test_nothing_left_names_what_a_row_needs(tmp_path):
    with pytest.raises(ValueError, match="No triage is left.*Expected rows with text and label or reply"):
        prepared(tmp_path, [("t", "", "")])


def test_replies_are_scrubbed_as_answers_are(tmp_path):
    rows = [
        ("Hello. Hope this helps. Regards.", "x", "Hello. Drink. Hope this helps. Regards."),
        ("b", "x", "<b>Rest</b>."),
    ]
    folder = prepared(tmp_path, rows, scrub=ScrubSettings(BOILERPLATE_FILE), html="text")
    assert sorted(folder.table(["text", "reply"]).to_pylist(), key=lambda row: row["text"]) == [
        {"text": "Hello. Hope this helps. Regards.", "reply": "Drink."},
        {"text": "b", "reply": "Rest."},
    ]


def test_near_duplicates_are_refused_by_flag(tmp_path):
    words = [f"w{i}" for i in range(60)]
    other = " ".join([*words[:30], "else", *words[31:]])  # 3 of 58 triples change on each side: Jaccard 55 / 61
    rows = [(" ".join(words), "x", ""), (other, "x", ""), (" ".join(words[::-1]), "y", "")]
    assert prepared(tmp_path, rows, "exact").num_rows("train") == 3
    near = prepared(tmp_path, rows, "near", duplicates="near")
    assert refused(near) == {"nearly the same triage occurs before": 1}
    # The two texts left of x and y are one each: of one key, round(0.6) go to dev, and of two, round(1.2) would.
    near = prepared(tmp_path, rows, "split", duplicates="near", dev_share=0.6)
    assert (near.num_rows("dev"), near.num_rows("train")) == (2, 0)


def many(seed, num_rows=9_000):
    """Returns rows of three chunks: five labels, rare to frequent, and none; a third repeat the text of another row."""
    random = np.random.default_rng(seed)
    labels = random.choice(["", "a", "b", "c", "d", "rare"], num_rows, p=[0.1, 0.3, 0.3, 0.2, 0.099, 0.001])
    keys = random.integers(0, 2 * num_rows // 3, num_rows)
    return [
        (f"text {'tT'[i % 2]}{key}", label, f"r{i}") for i, (key, label) in enumerate(zip(keys, labels, strict=True))
    ]


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).iterdir())}


@pytest.mark.parametrize(("seed", "dev_share", "test_share"), [(0, 0.05, 0.0), (1, 0.13, 0.21), (2, 0.0, 0.3)])
def test_each_label_has_its_share_of_each_split(tmp_path, seed, dev_share, test_share):
    rows = many(seed)
    label_of = {}
    for text, label, _ in rows:  # the first row with a text decides, whatever its case
        label_of.setdefault(text.lower(), label)
    folder = prepared(tmp_path, rows, seed=seed, dev_share=dev_share, test_share=test_share)
    splits_of = {}
    for row in folder.table(["text", "split"]).to_pylist():
        splits_of.setdefault(row["text"].lower(), set()).add(row["split"])
    assert splits_of.keys() == label_of.keys()
    assert all(len(splits) == 1 for splits in splits_of.values())
    for label in set(label_of.values()):
        drawn = [split for text, (split,) in splits_of.items() if label_of[text] == label]
        for split, share in (("dev", dev_share), ("test", test_share)):
            assert abs(drawn.count(split) - share * len(drawn)) <= 0.5 + 1e-9, (label, split)


def test_keys_of_a_dev_file_are_no_part_of_the_draw(tmp_path):
    dev = write(tmp_path / "dev.csv", [("text", "label"), *((f"t{i}", "x") for i in range(10))])
    train = write(tmp_path / "train.csv", [("text", "label"), *((f"t{i}", "x") for i in range(30))])
    settings = PrepareSettings((train,), dev_inputs=(dev,), dev_share=0.25, test_share=0.1)
    manifest = prepare(settings, str(tmp_path / "out"), num_workers=0, reader=TRIAGES)
    # Of the 20 texts that are in no dev file, 5 go to dev and 2 to test.
    counts = {split: count["triages"] for split, count in manifest["counts"].items()}
    assert counts == {"train": 13, "dev": 15, "test": 2}
    assert manifest["refused"]["its text is in a dev file"]["rows"] == 10


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return write(tmp_path_factory.mktemp("large") / "large.csv", [("text", "label", "reply"), *many(3)])


@pytest.fixture(scope="module")
def undisturbed(large, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "out"
    prepare(PrepareSettings((large,), test_share=0.1), str(folder), num_workers=0, reader=TRIAGES)
    return contents(folder)


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_number_of_processes_changes_nothing(large, undisturbed, tmp_path, num_workers):
    settings = PrepareSettings((large,), test_share=0.1)
    prepare(settings, str(tmp_path / "out"), num_workers=num_workers, reader=TRIAGES)
    assert contents(tmp_path / "out") == undisturbed


@pytest.mark.parametrize("moment", ["a chunk", "the draw", "a shard"])
def test_a_killed_run_continues_to_the_same_folder(large, undisturbed, tmp_path, monkeypatch, moment):
    settings, out = PrepareSettings((large,), test_share=0.1), str(tmp_path / "out")
    owner, name = {"a chunk": (chunks, "_hashes"), "the draw": (strata.np, "savez"), "a shard": (shards, "_counts")}[
        moment
    ]
    function, calls = getattr(owner, name), []

    def killed(*args, **kwargs):
        calls.append(args)
        if len(calls) == (1 if moment == "the draw" else 2):
            raise KeyboardInterrupt  # like a kill: nothing is cleaned up
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(settings, out, num_workers=0, reader=TRIAGES)
    monkeypatch.undo()
    assert os.path.exists(f"{out}.partial")
    prepare(settings, out, num_workers=0, reader=TRIAGES)
    assert contents(out) == undisturbed


def test_settings_of_pairs_are_stored_as_before():
    stored = PrepareSettings(("a.csv",), "vocab").stored()
    names = ["question", "answer", "source", "focus", "delimiter", "header"]
    assert list(stored["columns"]) == names  # the fingerprint of a folder is made of these
    stored = PrepareSettings(("a.csv",), columns=Columns(label="l")).stored()
    assert list(stored["columns"]) == [*names, "label"]
    assert PrepareSettings.from_stored(stored, TRIAGE, "m").columns == Columns(label="l")


def run(*flags):
    command = [sys.executable, "-m", "data_pipeline.prepare", "--num_workers=0", *flags]
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True)


def test_the_command(tmp_path):
    path = write(tmp_path / "a.csv", [*DEPARTMENTS, ("消化科", "<p>胃</p>", "<p>胃疼</p>", "<p>胃镜</p>")])
    flags = [f"--input={path}", f"--output_dir={tmp_path}/out", "--rows=triage"]
    done = run(*flags, "--text_column=title", "--reply_column=ask", "--label_column=answer")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["counts"]["train"] == {"triages": 3}
    assert "There are no rows in dev" in done.stderr
    assert "1 texts with HTML tags, kept; 1 replies with HTML tags, kept" in done.stderr
    table = PreparedFolder(f"{tmp_path}/out", TRIAGE).table(["text", "label", "reply"]).to_pylist()
    assert {"text": "胃疼", "label": "请做胃镜。", "reply": "最近胃疼,怎么办"} in table


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--tokenizer is missing: a model folder or a vocabulary file"),
        (("--rows=triage", "--tokenizer=vocab.txt"), "tokenizer is 'vocab.txt'; expected none"),
        (("--rows=triage", "--case=cased"), "lower_case is False; expected none"),
        (("--rows=triage", "--max_question_tokens=9"), "max_tokens names 'question'; expected nothing"),
        (("--rows=triage", "--focus_column=title"), "--focus_column is given"),
    ],
)
def test_flags_of_other_rows_are_refused(tmp_path, flags, message):
    path = write(tmp_path / "a.csv", DEPARTMENTS)
    done = run(f"--input={path}", f"--output_dir={tmp_path}/out", *flags)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.exists(tmp_path / "out")
