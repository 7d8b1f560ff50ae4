"""BM25 over the words of texts."""

import numpy as np
import pytest

from docproduct.search.words import WordIndex


def test_a_saved_index_gives_the_same_scores(tmp_path):
    texts = ["Cold hands and feet", "the hands", "a cough", ""]
    built = WordIndex.build(texts)
    scores = built.scores("COLD hands?")
    assert scores[0] > scores[1] > scores[2] == scores[3] == 0
    built.save(str(tmp_path / "bm25"))
    np.testing.assert_array_equal(WordIndex.load(str(tmp_path / "bm25"), 4).scores("COLD hands?"), scores)
    np.testing.assert_array_equal(built.scores("the ? and"), np.zeros(4))
    (tmp_path / "bm25" / "params.index.json").write_text("{")
    with pytest.raises(ValueError, match="missing or damaged.*Build the index again"):
        WordIndex.load(str(tmp_path / "bm25"), 4)


def test_texts_without_words_are_refused():
    with pytest.raises(ValueError, match="no word .* in 2 texts"):
        WordIndex.build(["", "? a"])
