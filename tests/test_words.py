"""BM25 over the words of texts, against bm25s."""

import itertools
import os
import random
import subprocess
import sys

import bm25s
import numpy as np
import pytest

from docproduct.search.words import FILE, WordIndex, counted


def expected(texts, query):
    """Returns the scores of bm25s, the reference."""
    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
    return index.get_scores(bm25s.tokenize(query, stopwords="en", return_ids=False, show_progress=False)[0])


def test_scores_are_those_of_bm25s_and_are_saved(tmp_path):
    texts = ["Cold hands and feet", "the hands", "a cough", "", "hands cold hands"]
    built = WordIndex.build(texts)
    scores = built.scores("COLD hands?")
    assert scores[0] > scores[1] > scores[2] == scores[3] == 0
    np.testing.assert_allclose(scores, expected(texts, "COLD hands?"), rtol=1e-6)
    built.save(str(tmp_path / "bm25"))
    np.testing.assert_array_equal(WordIndex.load(str(tmp_path / "bm25"), []).scores("COLD hands?"), scores)
    np.testing.assert_array_equal(built.scores("the ? and"), np.zeros(5))
    path = tmp_path / "bm25" / FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    for damaged in (content, content[:50], b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="missing or damaged.*Build the index again"):
            WordIndex.load(str(tmp_path / "bm25"), [])


def test_an_index_of_bm25s_is_built_anew(tmp_path):
    texts = ["cold hands", "a cough"]
    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
    index.save(str(tmp_path / "bm25"), show_progress=False)
    loaded = WordIndex.load(str(tmp_path / "bm25"), texts)
    np.testing.assert_allclose(loaded.scores("cold"), expected(texts, "cold"), rtol=1e-6)


def test_added_and_removed_texts_count_as_in_an_index_of_the_present_ones():
    draw = random.Random(4)

    def text():
        return " ".join(draw.choices(["aa", "bb", "cc", "dd", "ee", "ff"], k=draw.randrange(1, 7)))

    texts = [text() for _ in range(20)]
    index, present = WordIndex.build(texts), set(range(20))
    for step in range(60):
        if step % 3:
            texts.append(text() + " gg" * (step % 2))
            present.add(index.num_rows)
            index.add(texts[-1])
        else:
            row = draw.choice(sorted(present))
            present.remove(row)
            index.remove(row, texts[row])
        rows = sorted(present)
        for query in ("aa bb", "cc gg aa aa", "hh"):
            scores = index.scores(query)
            assert scores[[row not in present for row in range(index.num_rows)]].sum() == 0
            np.testing.assert_allclose(scores[rows], expected([texts[row] for row in rows], query), rtol=2e-5)


def test_words_that_no_text_has_take_no_memory():
    index = WordIndex.build(["cold hands", "a cough"])
    index.scores("cold")
    before = len(index._scored)
    assert not index.scores("xylophone qwerty zzz").any()
    assert len(index._scored) == before


def test_texts_without_words_are_refused():
    with pytest.raises(ValueError, match="no word .* in 2 texts"):
        WordIndex.build(["", "? a"])


def test_jax_is_left_alone(tmp_path):
    """bm25s would run an operation of JAX, which takes a GPU's memory."""
    (tmp_path / "jax.py").write_text("")
    code = "import sys, docproduct.search.words; print('jax' in sys.modules); import jax; print('jax' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True)
    assert run.stdout.split() == [b"False", b"True"]


def test_words_by_row_give_the_same_scores():
    texts = ["asthma fever fever", "cough of asthma", "", "fever"]
    index = WordIndex.build(texts)
    starts, numbers, scores = index.by_row()
    number_of = {word: number for number, word in enumerate(index.words)}
    for query in ("fever asthma fever", "cough none", "none"):
        counts = counted(query, number_of)
        summed = [
            sum(counts.get(numbers[place], 0) * scores[place] for place in range(low, high))
            for low, high in itertools.pairwise(starts.tolist())
        ]
        np.testing.assert_allclose(summed, index.scores(query), atol=1e-6)
    assert counted("fever asthma fever", number_of) == {number_of["fever"]: 2, number_of["asthma"]: 1}
