"""The windows of texts that the search benchmark embeds."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import window_vectors


def test_windows_by_hand():
    assert list(window_vectors.windows("a b  c\nd e f", 3, 2)) == ["a b c", "c d e"]  # "e f" would be shorter
    assert list(window_vectors.windows("a b c", 3, 5)) == ["a b c"]
    assert list(window_vectors.windows("a b", 3, 1)) == []


def test_equal_windows_count_once_and_too_few_are_refused():
    texts = ["a b c d", "b c d e"]  # a b c, b c d; b c d, c d e
    assert sorted(window_vectors.cut(texts, 3, 1, 3)) == ["a b c", "b c d", "c d e"]
    assert window_vectors.cut(texts, 3, 1, 2) == window_vectors.cut(texts, 3, 1, 3)[:2]
    with pytest.raises(ValueError, match="3 different windows; expected 4"):
        window_vectors.cut(texts, 3, 1, 4)


def test_a_twentieth_of_the_texts_is_for_queries():
    texts = [str(number) for number in range(200)]
    queries, others = window_vectors.split(texts + texts[:50])
    assert (len(queries), len(others)) == (10, 190)
    assert {*queries, *others} == {*texts}


def test_vectors_of_another_run_are_not_taken_for_those_of_this_one(tmp_path):
    def embed(texts, side):
        return SimpleNamespace(head=np.array([[len(text), len(side)] for text in texts], np.float32))

    path, encoder = str(tmp_path / "v.npy"), SimpleNamespace(embed=embed, config=SimpleNamespace(width=2))
    window_vectors.embed(encoder, ["a", "bb"], path, "answer")
    assert np.load(path).tolist() == [[1, 6], [2, 6]]
    window_vectors.embed(None, ["a", "bb"], path)  # finished: nothing is encoded
    with pytest.raises(ValueError, match="holds 2 vectors; expected 3. Give another --vectors_dir"):
        window_vectors.embed(encoder, ["a", "bb", "ccc"], path)
