"""Dev sets: by source, held out of train, from other folders."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from docproduct.systems.retriever import dev_sets
from docproduct.systems.retriever.dev import DevEvaluation, text_vectors
from docproduct.systems.retriever.start import start
from docproduct.systems.retriever.task import RetrieverTask
from docproduct.systems.retriever.train import train
from tests.conftest import SETTINGS, FirstLetter


def write_table(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("question", "answer", "source"), *rows])
    return str(path)


def write_beir(folder, corpus, queries, qrels, split="test"):
    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", corpus), ("queries", queries)):
        lines = [json.dumps({"_id": key, "text": text}) for key, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    rows = ["query-id\tcorpus-id\tscore", *("\t".join(row) for row in qrels)]
    (folder / "qrels" / f"{split}.tsv").write_text("\n".join(rows))
    return str(folder)


@pytest.fixture(scope="module")
def two_sources(tmp_path_factory, vocab_file):
    """Dev has questions of "near" only; of 640 questions of "far", a twentieth can stand in for it."""
    folder = tmp_path_factory.mktemp("sources")
    far = [(f"is it {i}?", f"f {i}", "far") for i in range(640)] + [("is it 7?", "a second answer", "far")]
    train_file = write_table(folder / "t.csv", [*far, *((f"what is {i}?", f"n {i}", "near") for i in range(50))])
    dev_file = write_table(folder / "d.csv", [(f"the {i}?", f"d {i}", "near") for i in range(40)])
    prepare(PrepareSettings((train_file,), vocab_file, dev_inputs=(dev_file,), dev_share=0), str(folder / "p"))
    return PreparedFolder(str(folder / "p"))


def test_a_source_that_dev_lacks_is_held_out_in_part(two_sources):
    rows = dev_sets.held_out_rows(two_sources)
    table = two_sources.table(["question", "split", "source"]).to_pylist()
    held_out = [table[row] for row in rows]
    assert len({row["question"] for row in held_out}) == 32  # 5 % of 640
    assert {(row["split"], row["source"]) for row in held_out} == {("train", "far")}
    # All rows of a question are held out, or none.
    others = [row for i, row in enumerate(table) if i not in set(rows.tolist())]
    assert not {row["question"] for row in held_out} & {row["question"] for row in others}
    scores = DevEvaluation(two_sources, 0, text_vectors(FirstLetter()), rows)()
    assert {"RR@10 far", "RR@10 near"} < set(scores)


@pytest.mark.parametrize("cluster_size", [1, 4])
def test_held_out_rows_are_not_trained_on(two_sources, config, cluster_size):
    settings = dataclasses.replace(config.settings, batch_size=64)
    changed = dataclasses.replace(
        config, prepared_dir=two_sources.path, cluster_size=cluster_size, num_buckets=2, settings=settings
    )
    task = RetrieverTask(changed, two_sources, start(changed, two_sources), tf.distribute.get_strategy(), "")
    rows, table = dev_sets.held_out_rows(two_sources), two_sources.table(["pair_id", "split"])
    train_rows = np.flatnonzero(table["split"].to_numpy() == "train")
    expected = table["pair_id"].to_numpy()[np.setdiff1d(train_rows, rows)]
    seen = np.concatenate([batch["pair_id"].numpy() for batch in task.batches(0, 0)])
    assert sorted(seen) == sorted(expected)
    assert task.num_rows == len(expected) == 691 - len(rows)
    later = np.concatenate([batch["pair_id"].numpy() for batch in task.batches(0, 3)])
    assert later.tolist() == seen[3 * 64 :].tolist()


def test_nothing_is_held_out_without_a_reason(prepared, tmp_path, vocab_file):
    assert not len(dev_sets.held_out_rows(prepared))  # dev has the only source
    # Files without a source column are sources of their own: dev has none of train's.
    for name, rows in (("t", [(f"is it {i}?", "a", "t") for i in range(700)]), ("d", [("b?", "b", "d")])):
        write_table(tmp_path / f"{name}.csv", rows)
    settings = PrepareSettings((str(tmp_path / "t.csv"),), vocab_file, dev_inputs=(str(tmp_path / "d.csv"),))
    prepare(dataclasses.replace(settings, dev_share=0), str(tmp_path / "p"))
    assert not len(dev_sets.held_out_rows(PreparedFolder(str(tmp_path / "p"))))


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ("a" * 30 + "b" * 30, "a" * 30 + "b" * 30),
        ("a" * 30 + "b" * 20 + "c" * 10, "a" * 30 + "o" * 30),  # b and c together are large enough
        ("a" * 31 + "b" * 30 + "c" * 29, "a" * 31 + "b" * 30 + "a" * 29),  # c alone is not
        ("a" * 40 + "b" * 5, "d" * 45),
        ("a" * 3 + "b" * 2, "d" * 5),
        ("a" * 20 + "b" * 20, "d" * 40),
    ],
)
def test_small_sources_are_joined(sources, expected):
    named = dev_sets.by_source(np.array(list(sources), object))
    assert "".join(name[0] for name in named) == expected


def test_a_beir_folder_is_a_set(tmp_path, two_sources):
    # "a?" has rank 1; "b?" ranks below "b far", which is of equal score: 2. Documents of equal text are one.
    corpus = {"1": "a near", "2": "b near", "3": "B near", "4": "b far", "5": "c"}
    qrels = [("q1", "1", "2"), ("q2", "3", "1"), ("q2", "5", "0"), ("q3", "5", "0")]
    folder = write_beir(tmp_path / "b", corpus, {"q1": "a?", "q2": "b?", "q3": "c?"}, qrels, "dev")
    questions = dev_sets.of_beir("other", folder)
    assert questions.questions["question"].to_pylist() == ["a?", "b?"]  # nothing answers the third
    assert questions.answers["answer"].to_pylist() == ["a near", "b near", "b far", "c"]
    vectors = text_vectors(FirstLetter())
    nothing = np.empty(0, int)
    scores = DevEvaluation(two_sources, 0, vectors, nothing, [(questions, vectors)])()
    assert scores["RR@10 other"] == pytest.approx((1 + 1 / 2) / 2)
    # 40 dev questions of the same first letter, and 40 answers of another, tie: none is among the first ten.
    assert scores["RR@10 dev"] == 0
    assert scores["RR@10"] == pytest.approx(3 / 8)  # the mean over the sets, not over the questions
    assert scores["Success@1"] == pytest.approx(1 / 4)


def test_a_training_shows_every_set_and_records_their_files(config, tmp_path):
    folder = write_beir(tmp_path / "b", {"1": "a first", "2": "b"}, {"q": "what is a?"}, [("q", "1", "1")])
    settings = dataclasses.replace(SETTINGS, epochs=1)
    changed = dataclasses.replace(config, settings=settings, dev_sets=(f"extra={folder}",))
    history = train(changed, str(tmp_path / "m"))
    for entry in history["epochs"]:
        assert entry["RR@10"] == pytest.approx((entry["RR@10 dev"] + entry["RR@10 extra"]) / 2)
    assert "RR@10 extra" in (tmp_path / "m/README.md").read_text()
    (tmp_path / "b/corpus.jsonl").write_text(json.dumps({"_id": "1", "text": "another"}))
    with pytest.raises(ValueError, match="dev_sets was .*, is "):
        train(changed, str(tmp_path / "m"), resume=True)


@pytest.mark.parametrize("given", [("extra",), ("=folder",), ("extra=",), ("a=b", "a=c")])
def test_a_dev_set_has_a_name_and_a_folder(given):
    with pytest.raises(ValueError, match="expected name=folder"):
        dev_sets.named_folders(given)


def test_a_set_without_relevant_documents_is_refused(tmp_path):
    folder = write_beir(tmp_path / "b", {"1": "a"}, {"q": "a?"}, [("q", "1", "0")])
    with pytest.raises(ValueError, match="no question with a relevant document"):
        dev_sets.of_beir("extra", folder)
