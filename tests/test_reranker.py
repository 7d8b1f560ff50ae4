"""The reranker: its logits, and the order that it gives to a retriever's hits."""

import dataclasses
import json
import shutil
import types

import numpy as np
import pytest

from data_pipeline.tokenizers import WordPiece
from docproduct.systems.reranker import Reranker, RerankerConfig, TrainedReranker
from docproduct.systems.reranker.mixing import best_first, choose, mix
from docproduct.systems.reranker.pairs import KnownAnswers, answer_ids, join, text_ids
from tests.conftest import TINY_BERT, VOCAB

CONFIG = RerankerConfig(TINY_BERT, max_tokens=16, max_question_tokens=7)
QUESTION = "what is a3?"
ANSWERS = ["the x z 3.", "y", "the xy z z z z z z z z z z z z z z 9.", "a3 helps.", "."]
COSINES = [0.9, 0.7, 0.5, 0.4, 0.1]


@pytest.fixture(scope="module")
def reranker(tokenizer):
    """A reranker whose head is no longer zero."""
    model = Reranker(CONFIG, seed=3)
    rng = np.random.default_rng(0)
    for variable in model.head.trainable_variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    return TrainedReranker(model, tokenizer, weight=0.5)


@pytest.fixture(scope="module")
def saved(reranker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reranker") / "r"
    folder.mkdir()
    reranker.save_config(str(folder), {})
    reranker.save_weights(str(folder), {"0": 0.25})
    return folder


def test_logits_equal_numpy(reranker):
    """[CLS] what is ? [SEP] x y [SEP]: 5 tokens of the question, 3 of the answer, then padding."""
    start, end = VOCAB.index("[CLS]"), VOCAB.index("[SEP]")
    words = [VOCAB.index(word) for word in ("what", "is", "?", "x", "y")]
    ids = np.array([[start, *words[:3], end, *words[3:], end, 0, 0]], np.int32)
    segments = np.array([[0, 0, 0, 0, 0, 1, 1, 1, 0, 0]])
    model = reranker.model
    states = np.asarray(model.bert(ids, segments=segments))[0]
    question, answer = (part.mean(axis=0) for part in (states[:5], states[5:8]))
    question, answer = (np.sqrt(10) * vector / np.linalg.norm(vector) for vector in (question, answer))
    compared = np.concatenate([question, answer, question * answer, abs(question - answer)])
    inner, inner_bias, output, output_bias = (variable.numpy() for variable in model.head.trainable_variables)
    expected = np.tanh(compared @ inner + inner_bias) @ output + output_bias
    np.testing.assert_allclose(model(ids, np.array([5], np.int32)), expected, atol=1e-5)
    np.testing.assert_allclose(reranker.logits_many([("what is?", ["x y"])])[0], expected, atol=1e-5)


def test_an_untrained_reranker_scores_all_alike_and_keeps_the_order(tokenizer):
    untrained = TrainedReranker(Reranker(CONFIG, seed=3), tokenizer, weight=1.0)
    assert untrained.is_untrained()
    scores = untrained.scores(QUESTION, ANSWERS, COSINES)
    np.testing.assert_array_equal(scores, np.zeros(5))
    assert best_first(scores).tolist() == [0, 1, 2, 3, 4]


def test_padding_and_batch_mates_change_no_score(reranker):
    alone = [reranker.logits_many([(QUESTION, [answer])])[0][0] for answer in ANSWERS]
    together = reranker.logits_many([("what?", ANSWERS[:2]), (QUESTION, ANSWERS), ("is z", [])])
    assert [len(logits) for logits in together] == [2, 5, 0]
    np.testing.assert_allclose(together[1], alone, atol=1e-5)
    assert np.ptp(alone) > 0.01
    backwards = reranker.logits_many([(QUESTION, ANSWERS[::-1])])[0]
    np.testing.assert_allclose(backwards[::-1], alone, atol=1e-5)


def test_the_two_texts_are_told_apart(reranker):
    """The same tokens, but the question ends elsewhere."""
    ids = np.array([[2, 5, 6, 3, 8, 9, 3]], np.int32)
    logits = [float(reranker.model(ids, np.array([length], np.int32))[0]) for length in (3, 4)]
    assert abs(logits[0] - logits[1]) > 1e-3


def test_a_bert_with_one_segment_works():
    model = Reranker(dataclasses.replace(CONFIG, bert=dataclasses.replace(TINY_BERT, num_segments=1)))
    assert model(np.array([[2, 5, 6, 3, 8, 9, 3]], np.int32), np.array([4], np.int32)).shape == (1,)


def test_pairs_keep_the_end_mark(tokenizer):
    questions, answers = text_ids(tokenizer, CONFIG, ["what is a b c d e f?"], ["x", "x " * 30])
    assert tokenizer.decode(questions[0]) == ["[CLS]", "what", "is", "a", "b", "c", "[SEP]"]
    assert tokenizer.decode(join(questions[0], answers[0], 16)[7:]) == ["x", "[SEP]"]
    # 16 places, less 7 of the question: 8 pieces and the mark.
    assert tokenizer.decode(join(questions[0], answers[1], 16)[7:]) == ["x"] * 8 + ["[SEP]"]


def test_known_answers_are_not_tokenized_again(tokenizer):
    calls = []

    def encode(texts, max_tokens):
        calls.append(list(texts))
        return tokenizer.encode(texts, max_tokens)

    known = KnownAnswers(types.SimpleNamespace(encode=encode), CONFIG, most=3)
    expected = {
        answer: ids.tolist() for answer, ids in zip(ANSWERS, answer_ids(tokenizer, CONFIG, ANSWERS), strict=True)
    }

    def check(answers, tokenized):
        calls.clear()
        assert [ids.tolist() for ids in known.ids(answers)] == [expected[answer] for answer in answers]
        assert calls == tokenized

    a, b, c, d, e = ANSWERS
    check([a, b, a], [[a, b]])
    check([b, c, a], [[c]])
    check([d], [[d]])  # three are kept: the one that was read longest ago, b, is not
    check([a, c, d], [])
    check([b], [[b]])
    check(ANSWERS, [[a, e]])  # more than are kept; c, d and b were known
    check([], [])
    assert all(ids.base is None for ids in known.ids([a, e]))  # of its own, so that no others stay in memory


def test_mixed_scores_by_hand():
    # Weight 0.25: 0.75 * 20 * cosine + 0.25 * logit = 15 * cosine + logit / 4.
    np.testing.assert_allclose(mix([0.8, 0.6], np.array([2.0, 10.0]), 0.25), [12.5, 11.5])
    # In BM25's order, the highest cosine counts for the first answer: the order is kept where logits are equal.
    np.testing.assert_allclose(mix([0.6, 0.8], np.array([2.0, 2.0]), 0.25), [12.5, 9.5])
    assert best_first(mix([0.1, 0.9, 0.5], np.array([1.0, 2.0, 3.0]), 0.0)).tolist() == [0, 1, 2]
    assert best_first(mix([0.1, 0.9, 0.5], np.array([1.0, 2.0, 3.0]), 1.0)).tolist() == [2, 1, 0]


def test_a_small_gain_leaves_the_retrievers_order():
    assert choose(lambda weight: 0.5 + 0.004 * weight)[0] == 0.0
    weight, tried = choose(lambda weight: 0.5 + 0.1 * (weight == 0.3))
    assert (weight, tried["0.3"], tried["1"]) == (0.3, 0.6, 0.5)


def test_scores_are_the_mixture(reranker):
    logits, other = reranker.logits_many([(QUESTION, ANSWERS), ("y?", ["x"])])
    assert other.shape == (1,)
    expected = 0.5 * 20 * np.array(COSINES) + 0.5 * logits
    np.testing.assert_allclose(reranker.scores(QUESTION, ANSWERS, COSINES), expected, atol=1e-5)


def test_a_folder_is_loaded_as_it_was_saved(reranker, saved):
    loaded = TrainedReranker.load(str(saved))
    assert (loaded.weight, loaded.config, loaded.fingerprint()) == (0.5, CONFIG, reranker.fingerprint())
    expected = reranker.scores(QUESTION, ANSWERS, COSINES)
    np.testing.assert_allclose(loaded.scores(QUESTION, ANSWERS, COSINES), expected, atol=1e-6)


def test_damaged_folders_are_reported(saved, tmp_path):
    def damaged(name, change):
        folder = tmp_path / name
        shutil.copytree(saved, folder)
        change(folder)
        with pytest.raises((ValueError, OSError)) as error:
            TrainedReranker.load(str(folder))
        return str(error.value)

    words = [*VOCAB[:-2], VOCAB[-1], VOCAB[-2]]
    assert "was trained with" in damaged("words", WordPiece(words, lower_case=True).save)
    assert "rerank.json" in damaged("weight", lambda folder: (folder / "rerank.json").unlink())
    assert "weights.safetensors" in damaged("weights", lambda folder: (folder / "weights.safetensors").unlink())
    assert "holds no reranker: it has no config.json" in damaged("none", lambda f: (f / "config.json").unlink())
    other = json.dumps({"kind": "docproduct retriever"})
    assert "'docproduct retriever'" in damaged("other", lambda folder: (folder / "config.json").write_text(other))


def test_impossible_lengths_are_refused():
    with pytest.raises(ValueError, match="max_tokens is 41; expected 5 to 40"):
        RerankerConfig(TINY_BERT, max_tokens=41)
    with pytest.raises(ValueError, match="max_question_tokens is 15; expected 3 to 14"):
        RerankerConfig(TINY_BERT, max_tokens=16, max_question_tokens=15)


def test_bfloat16_stays_close(reranker, saved):
    half = TrainedReranker.load(str(saved), "bfloat16")
    assert half.model.bert.compute_dtype == "bfloat16"
    exact = reranker.logits_many([(QUESTION, ANSWERS)])[0]
    np.testing.assert_allclose(half.logits_many([(QUESTION, ANSWERS)])[0], exact, atol=0.2)
