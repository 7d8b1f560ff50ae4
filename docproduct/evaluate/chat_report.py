"""Compares models of conversations, with and without sources: scores with paired bootstrap intervals, as tables.

R resamples
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from docproduct.evaluate.bootstrap import BootstrapSettings, percentiles, resampled_means
from docproduct.evaluate.chat import METRICS, Values
from docproduct.model_folder import provenance
from docproduct.training import cards

_PERPLEXITY = METRICS[0]
_DECIMALS = {_PERPLEXITY: 2, "diseases": 2, "words": 0}  # others: 3


class System(NamedTuple):
    """What was scored.

    Attributes:
      model: Its name.
      grounded: Whether it was given sources.
    """

    model: str
    grounded: bool

    def __str__(self) -> str:
        return f"{self.model}, {'grounded' if self.grounded else 'alone'}"


def compare(
    scored: Mapping[System, Values], counts: Mapping[str, int], bootstrap: BootstrapSettings = BootstrapSettings()
) -> dict[str, Any]:
    """Compares systems that replied to the same dialogues.

    Args:
      scored: Their scores, dialogue by dialogue.
      counts: See `Scoring.counts`.
      bootstrap: How dialogues are drawn.

    Returns:
      {"counts", "bootstrap", versions, "systems": [{"model", "grounded", "metrics": {metric: {"value",
      "low", "high"}}}],
      "differences": [{"of", "from", "metrics": the same with "differs", whether the interval excludes 0}]}. A metric
      that applies to no dialogue is left out.
    """
    systems = list(scored)
    metrics = {name: _samples([scored[system] for system in systems], name, bootstrap) for name in METRICS}
    row = {system: i for i, system in enumerate(systems)}

    def described(of: int, less: int | None = None) -> dict[str, dict[str, Any]]:
        values = {name: _described(*samples, of, less, bootstrap) for name, samples in metrics.items()}
        return {name: value for name, value in values.items() if value}

    pairs = [(System(one.model, True), one) for one in systems if not one.grounded and System(one.model, True) in row]
    pairs += [(one, System(systems[0].model, one.grounded)) for one in systems if one.model != systems[0].model]
    return {
        "counts": dict(counts),
        "bootstrap": dataclasses.asdict(bootstrap),
        **provenance(),
        "systems": [system._asdict() | {"metrics": described(row[system])} for system in systems],
        "differences": [
            {"of": str(one), "from": str(other), "metrics": described(row[one], row[other])} for one, other in pairs
        ],
    }


def _samples(scored: list[Values], name: str, bootstrap: BootstrapSettings) -> tuple[np.ndarray, np.ndarray]:
    """Returns the values of a metric, [S], and those of each resample, [R, S]; NaN where it applies to no dialogue."""
    values, weights = (
        np.stack(part) for part in zip(*((one.values[name], one.weights[name]) for one in scored), strict=True)
    )
    with np.errstate(invalid="ignore"):
        means = (values * weights).sum(axis=1) / weights.sum(axis=1)
    drawn = resampled_means(values, bootstrap, weights)
    return (np.exp(means), np.exp(drawn)) if name == _PERPLEXITY else (means, drawn)


def _described(
    values: np.ndarray, samples: np.ndarray, of: int, less: int | None, bootstrap: BootstrapSettings
) -> dict[str, Any] | None:
    value, drawn = values[of], samples[:, of]
    if less is not None:
        value, drawn = value - values[less], drawn - samples[:, less]
    if np.isnan(value):
        return None
    ((low, high),) = percentiles(drawn[:, None], bootstrap).tolist()
    differs = {} if less is None else {"differs": low > 0 or high < 0}
    return {"value": float(value), "low": low, "high": high, **differs}


def markdown(report: Mapping[str, Any]) -> str:
    """Returns the tables of a report.

    Args:
      report: What `compare` returns.
    """
    counts, bootstrap = report["counts"], report["bootstrap"]
    about = (
        f"{counts['dialogues']:,} dialogues; a stored answer is near enough to {counts['answerable']:,} of them. The "
        f"disease of {counts['known']:,} is known: the reference reply names exactly one topic of the index. It is the "
        f"topic of a source in the prompt of {counts['known_in_sources']:,}, and stands in the question of "
        f"{counts['known_in_question']:,}. In brackets: {bootstrap['confidence']:.0%} intervals of a paired bootstrap "
        f"over dialogues ({bootstrap['resamples']:,} samples, seed {bootstrap['seed']})."
    )
    meaning = (
        "perplexity: of the reference reply's tokens. similarity: cosine of reply and reference by the retriever's "
        "encoder, not BERTScore. supported: share of the statements that the turn's sources support, whether or not "
        "the model saw them. named: share of the replies that name the right disease; named first: before any "
        "other. diseases, words: number of each in a reply."
    )
    values = [[str(System(one["model"], one["grounded"])), *_cells(one["metrics"], "")] for one in report["systems"]]
    differences = [[one["of"], one["from"], *_cells(one["metrics"], "+")] for one in report["differences"]]
    parts = ["# Chat report", about, cards.table(["", *METRICS], values), meaning]
    if differences:
        parts += ["## Differences", cards.table(["of", "from", *METRICS], differences)]
        parts += ["\\* The interval excludes 0; there is no correction for several."]
    return "\n\n".join(parts) + "\n"


def _cells(metrics: Mapping[str, dict[str, Any]], sign: str) -> list[str]:
    return [_cell(metrics[name], f"{sign}.{_DECIMALS.get(name, 3)}f") if name in metrics else "-" for name in METRICS]


def _cell(score: Mapping[str, Any], form: str) -> str:
    value, low, high = (format(score[name], form) for name in ("value", "low", "high"))
    star = "\\*" if score.get("differs") else ""
    return f"{value}{star} [{low}, {high}]"
