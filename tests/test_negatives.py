import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.batches.hard_negatives import NEGATIVES_FILE, HardNegatives
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from docproduct.negatives import MiningSettings, mine
from docproduct.systems.retriever.folder import Embeddings
from tests.conftest import write_csv

# The cosine of a question with an answer is the number in the answer's text; see `Numbers`.
ROWS = [
    ("a?", "a own 90"),
    ("a?", "a second 88"),  # another answer to the same question
    ("b?", "b own 80"),
    ("c?", "c own 60"),
    ("d?", "A OWN 90"),  # the text of a's answer, under another question
    ("e?", "e own 40"),
]


class Numbers:
    """Every question is (1, 0); an answer "... 90" has the cosine 0.90 with it."""

    dtype_policy = "float32"

    def embed(self, texts, side, progress=None):
        del progress
        cosines = np.array([1.0 if side == "question" else int(text.split()[-1]) / 100 for text in texts], np.float32)
        vectors = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
        return Embeddings(vectors, vectors)

    def fingerprint(self):
        return "numbers"


@pytest.fixture(scope="module")
def numbers(tmp_path_factory, vocab_file):
    folder = tmp_path_factory.mktemp("negatives")
    prepare(PrepareSettings((write_csv(folder / "p.csv", ROWS),), vocab_file, dev_share=0.0), str(folder / "p"))
    return PreparedFolder(str(folder / "p"))


def mined(prepared, folder, **settings):
    """Mines negatives; returns {own answer: texts of its negatives} and the statistics."""
    statistics = mine(Numbers(), prepared, str(folder), MiningSettings(**settings))
    text_of = {row["pair_id"]: row["answer"] for row in prepared.table(["pair_id", "answer"]).to_pylist()}
    table = pq.read_table(folder / NEGATIVES_FILE).to_pylist()
    return {text_of[row["pair_id"]]: [text_of[i] for i in row["negative_pair_ids"]] for row in table}, statistics


def test_answers_of_the_question_and_equal_texts_are_never_negatives(numbers, tmp_path):
    negatives, statistics = mined(numbers, tmp_path / "n", relative_margin=10.0)
    # a? has two answers (one text stands under d?, too), so that b, c and e remain, by their scores.
    assert negatives["a own 90"] == negatives["a second 88"] == ["b own 80", "c own 60", "e own 40"]
    assert [text.lower() for text in negatives["b own 80"]] == ["a own 90", "a second 88", "c own 60", "e own 40"]
    assert statistics["pairs"] == statistics["pairs_with_negatives"] == 6
    assert statistics["left_out"]["margin"] == 0
    assert json.loads((tmp_path / "n" / "manifest.json").read_text())["statistics"] == statistics


@pytest.mark.parametrize(
    ("settings", "of_a", "of_c"),
    [
        ({"relative_margin": 0.9}, ["b own 80", "c own 60", "e own 40"], ["e own 40"]),  # at most 0.81, 0.54
        ({"relative_margin": 1.0, "absolute_margin": 0.25}, ["c own 60", "e own 40"], []),  # 0.65, 0.35
        ({"relative_margin": 10.0, "max_score": 0.85}, ["b own 80", "c own 60", "e own 40"], ["b own 80", "e own 40"]),
        ({"relative_margin": 10.0, "first_rank": 2}, ["c own 60", "e own 40"], ["a second 88", "b own 80", "e own 40"]),
        ({"relative_margin": 10.0, "last_rank": 2}, ["b own 80", "c own 60"], ["a own 90", "a second 88"]),
        ({"relative_margin": 10.0, "max_negatives": 1}, ["b own 80"], ["a own 90"]),
    ],
)
def test_margins_and_ranks(numbers, tmp_path, settings, of_a, of_c):
    negatives, statistics = mined(numbers, tmp_path / "n", **settings)
    assert negatives["a own 90"] == of_a
    assert [text.lower() for text in negatives["c own 60"]] == of_c
    assert statistics["negatives_per_pair"] == pytest.approx(np.mean([len(texts) for texts in negatives.values()]))


def test_bm25_finds_shared_words(tmp_path, vocab_file):
    rows = [("what helps hips", "hips own 50"), ("what is abc", "abc own 50"), ("x?", "helps hips 30"), ("y?", "no 20")]
    prepare(PrepareSettings((write_csv(tmp_path / "p.csv", rows),), vocab_file, dev_share=0.0), str(tmp_path / "p"))
    prepared = PreparedFolder(str(tmp_path / "p"))
    negatives, _ = mined(prepared, tmp_path / "n", by="bm25", last_rank=2)
    assert negatives["hips own 50"] == ["helps hips 30"]
    both, _ = mined(prepared, tmp_path / "both", by="both", last_rank=2)
    assert set(negatives["hips own 50"]) <= set(both["hips own 50"])


def test_draws_depend_only_on_seed_pair_and_epoch(numbers, tmp_path):
    mine(Numbers(), numbers, str(tmp_path / "n"), MiningSettings(relative_margin=0.9))
    table = numbers.table(["pair_id", "answer"])
    ids = {row["answer"]: row["pair_id"] for row in table.to_pylist()}
    drawn = HardNegatives(str(tmp_path / "n"), numbers, num_negatives=2, seed=1)
    batch = np.array([ids["a own 90"], ids["e own 40"], ids["c own 60"]])
    answers = table["answer"].to_pylist()
    draws = set()
    for epoch in range(12):
        rows, scores = drawn.draw(batch, epoch)
        again = HardNegatives(str(tmp_path / "n"), numbers, 2, seed=1).draw(batch[::-1].copy(), epoch)
        np.testing.assert_array_equal(rows, again[0][::-1])  # independent of the rest of the batch
        np.testing.assert_allclose(scores[:, 0], [0.9, 0.4, 0.6], atol=1e-6)
        first = [answers[row] for row in rows[0]]
        assert len(set(first)) == 2
        assert scores[0, 1:] == pytest.approx([int(text.split()[-1]) / 100 for text in first], abs=1e-6)
        draws.add(tuple(first))
        assert scores[1, 1:].tolist() == [-1, -1]  # e has no mined negatives: two other answers are drawn at random
        at_random = [answers[row] for row in rows[1]]
        assert len(set(at_random)) == 2
        assert "e own 40" not in at_random
        assert answers[rows[2, 0]] == "e own 40"
        assert scores[2, 2] == -1
    assert len(draws) > 2
    assert np.any(drawn.draw(batch, 0)[0] != HardNegatives(str(tmp_path / "n"), numbers, 2, seed=2).draw(batch, 0)[0])


def test_scores_that_do_not_fit_their_negatives_are_refused(numbers, tmp_path):
    mine(Numbers(), numbers, str(tmp_path / "n"), MiningSettings(relative_margin=0.9))
    table = pq.read_table(tmp_path / "n" / NEGATIVES_FILE)
    rows = [row | {"negative_scores": row["negative_scores"][:-1]} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), tmp_path / "n" / NEGATIVES_FILE)
    with pytest.raises(ValueError, match="other numbers of negative_scores"):
        HardNegatives(str(tmp_path / "n"), numbers, 1, 0)


def test_negatives_of_other_pairs_are_refused(numbers, prepared, tmp_path):
    mine(Numbers(), numbers, str(tmp_path / "n"))
    with pytest.raises(ValueError, match="mined from other pairs.*python -m docproduct.negatives"):
        HardNegatives(str(tmp_path / "n"), prepared, 1, 0)
    (tmp_path / "n" / NEGATIVES_FILE).write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"negatives.parquet is missing or damaged"):
        HardNegatives(str(tmp_path / "n"), numbers, 1, 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"by": "luck"}, "expected model, bm25, both"),
        ({"first_rank": 5, "last_rank": 4}, "1 <= first_rank <= last_rank"),
        ({"max_negatives": 0}, "expected 1 or more"),
    ],
)
def test_invalid_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        MiningSettings(**wrong)
