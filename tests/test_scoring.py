"""Log-probabilities of texts: those of the whole model in one pass, by NumPy's log-softmax."""

import numpy as np
import pytest
from scipy.special import log_softmax

from docproduct.generation import scoring
from docproduct.generation.session import GenerationSession
from tests.talkers import chat_model


@pytest.mark.parametrize("part", [3, 256])
def test_scores_are_log_softmax_of_the_logits(monkeypatch, part):
    monkeypatch.setattr(scoring, "_LOGITS", part)
    model = chat_model()
    ids = [7, 50, 3, 3, 120, 9, 61, 18]
    logits = model.decoder.logits(model.decoder(np.array([ids])))[0].numpy()
    expected = log_softmax(logits.astype(np.float64), axis=-1)
    scores = GenerationSession.of(model).scorer(ids, 4)
    np.testing.assert_allclose(scores.log_probs, expected[range(7), ids[1:]], atol=1e-5)
    best = np.argsort(-expected[:-1], axis=-1)[:, :4]
    np.testing.assert_array_equal(scores.top_ids, best)
    np.testing.assert_allclose(scores.top_log_probs, np.take_along_axis(expected[:-1], best, -1), atol=1e-5)


def test_a_single_token_has_no_score():
    assert [part.shape for part in scoring.Scorer(chat_model())([5], 2)] == [(0,), (0, 2), (0, 2)]
