"""The windows of texts that the search benchmark embeds."""

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
