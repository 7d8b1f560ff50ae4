"""The cache of the sample's vectors: what is encoded once, and what is encoded again."""

import os

import numpy as np
import pytest

from data_pipeline.folders import files
from docproduct.index import sample_vectors

TEXTS = ["what is x?", "what helps against y?", "the z."]


@pytest.fixture
def encoded(retriever, tmp_path, monkeypatch):
    """Sets a cache of the test's own; returns the sides that were encoded, in order."""
    monkeypatch.setattr(files, "user_cache", lambda name: str(tmp_path / "cache" / name))
    sides, embed = [], retriever.embed
    monkeypatch.setattr(retriever, "embed", lambda texts, side: sides.append(side) or embed(texts, side))
    return sides


def test_the_same_texts_are_encoded_once(retriever, encoded):
    expected = {side: retriever.embed(TEXTS, side).head for side in ("question", "answer")}
    encoded.clear()
    for _ in range(2):
        encode = sample_vectors.cached(retriever)
        for side, vectors in expected.items():
            np.testing.assert_array_equal(encode(TEXTS, side), vectors)
    assert encoded == ["question", "answer"]
    encode(TEXTS[::-1], "answer")  # other texts
    assert encoded == ["question", "answer", "answer"]


def test_another_encoder_has_other_vectors(retriever, encoded):
    first = sample_vectors.cached(retriever)(TEXTS, "answer")
    variable = retriever.model.bert.trainable_variables[0]
    variable.assign(variable + np.random.default_rng(0).normal(size=variable.shape).astype(np.float32))
    second = sample_vectors.cached(retriever)(TEXTS, "answer")
    assert encoded == ["answer", "answer"]
    assert np.abs(first - second).max() > 0.01


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01", "pickled", "double", "short"])
def test_damaged_vectors_are_encoded_again(retriever, encoded, tmp_path, damage):
    right = sample_vectors.cached(retriever)(TEXTS, "answer")
    (path,) = (tmp_path / "cache/vectors").iterdir()
    wrong = {"pickled": np.array([{}] * 3), "double": np.zeros(right.shape), "short": np.zeros((2, 4), np.float32)}
    with open(path, "wb") as file:
        np.save(file, wrong[damage]) if damage in wrong else file.write(damage)
    for _ in range(2):
        np.testing.assert_array_equal(sample_vectors.cached(retriever)(TEXTS, "answer"), right)
    assert encoded == ["answer"] * 2


def test_a_cache_that_cannot_be_written_is_no_error(retriever, encoded, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    right = sample_vectors.cached(retriever)(TEXTS, "answer")
    monkeypatch.setattr(files, "user_cache", lambda name: None)  # a user without a home
    np.testing.assert_array_equal(sample_vectors.cached(retriever)(TEXTS, "answer"), right)
    assert encoded == ["answer"] * 2


def test_what_was_not_used_for_the_longest_time_is_removed(retriever, encoded, tmp_path, monkeypatch):
    monkeypatch.setattr(sample_vectors, "_NUM_FILES", 3)
    encode = sample_vectors.cached(retriever)
    for age, text in enumerate("abc"):
        encode([text], "answer")
        (path,) = (entry for entry in (tmp_path / "cache/vectors").iterdir() if entry.stat().st_mtime > 1e6)
        os.utime(path, (age, age))
    encode(["a"], "answer")  # the oldest, and now used again
    encode(["d"], "answer")  # removes b
    encoded.clear()
    for text in "adcb":
        encode([text], "answer")
    assert encoded == ["answer"]
