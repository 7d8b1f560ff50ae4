import numpy as np
import pytest

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from docproduct.search.fusion import Hybrid
from docproduct.systems.retriever import report
from docproduct.systems.retriever.dev import DevEvaluation, text_vectors
from docproduct.systems.retriever.folder import Embeddings
from tests.conftest import FirstLetter, write_csv


def test_dev_evaluation_by_hand(tmp_path, vocab_file):
    """With an encoder that maps a text to its first letter, ranks are known."""
    train_file = write_csv(tmp_path / "t.csv", [("x?", "a far"), ("y?", "b far")])
    dev_file = write_csv(tmp_path / "d.csv", [("a?", "a near"), ("b?", "c"), ("b?", "d")])
    settings = PrepareSettings((train_file,), vocab_file, dev_inputs=(dev_file,), dev_share=0)
    prepare(settings, str(tmp_path / "p"))

    # "a?": its answer and train's "a far" tie at 1, ties count against: rank 2. "b?": its answers c, d have 0, as have
    # a near and a far; b far has 1: rank 1 + 3. Without answers of train: rank 1, and rank 2 (a near ties).
    evaluate = DevEvaluation(PreparedFolder(str(tmp_path / "p")), 2, text_vectors(FirstLetter()))
    assert evaluate() == {"RR@10": pytest.approx((1 / 2 + 1 / 4) / 2), "Success@1": 0.0}
    evaluate = DevEvaluation(PreparedFolder(str(tmp_path / "p")), 0, text_vectors(FirstLetter()))
    assert evaluate() == {"RR@10": pytest.approx((1 + 1 / 2) / 2), "Success@1": 0.5}


def test_bm25_is_joined_only_if_it_helps_on_dev(tmp_path, vocab_file, caplog):
    """All vectors are equal, so that words alone decide, at any weight."""

    class Blind:
        def embed(self, texts, side, progress=None):
            del side, progress
            return Embeddings(*(np.ones((len(texts), 1), np.float32),) * 2)

    words = ["cough", "fever", "rash", "cramp"]
    for name, rows in (("words", [(f"why {w}?", f"{w} passes") for w in words]), ("signs", [("?", "!"), ("??", "!!")])):
        train_file = write_csv(tmp_path / f"{name}_t.csv", [("x?", "x")])
        settings = PrepareSettings(
            (train_file,), vocab_file, dev_inputs=(write_csv(tmp_path / f"{name}.csv", rows),), dev_share=0
        )
        prepare(settings, str(tmp_path / name))
    evaluate = DevEvaluation(PreparedFolder(str(tmp_path / "words")), 2, text_vectors(Blind()))
    hybrid, tried = evaluate.choose_hybrid()
    assert hybrid == Hybrid("rrf")  # the first of equals
    assert tried["rrf"] == tried["weight 0.02"] == 1.0
    assert tried["none"] == pytest.approx(evaluate()["RR@10"]) == pytest.approx(1 / 5)  # all candidates tie
    evaluate = DevEvaluation(PreparedFolder(str(tmp_path / "signs")), 0, text_vectors(Blind()))
    assert evaluate.choose_hybrid() == (Hybrid(), {})


def test_hardest_misses_by_hand(tmp_path, vocab_file):
    train_file = write_csv(tmp_path / "t.csv", [("x?", "a far <b>")])
    dev_file = write_csv(tmp_path / "d.csv", [("a?", "a near"), ("b?", "c"), ("d?", "d")])
    prepare(PrepareSettings((train_file,), vocab_file, dev_inputs=(dev_file,), dev_share=0), str(tmp_path / "p"))

    evaluate = DevEvaluation(PreparedFolder(str(tmp_path / "p")), 5, text_vectors(FirstLetter()))
    evaluate()
    # "b?": its answer "c" has cosine 0, as have the other three: rank 4. "a?": "a far" ties at 1: rank 2. "d?": rank 1.
    first, second = evaluate.hardest_misses(10)
    assert (first.question, first.rank, first.score, first.answer, len(first.above)) == ("b?", 4, 0.0, "c", 3)
    assert (second.question, second.rank, second.answer) == ("a?", 2, "a near")
    assert second.above == ((1.0, "x?", "a far <b>"),)
    assert evaluate.hardest_misses(1) == [first]
    assert r"a far \<b\>" in report._misses([second])
