"""Compares systems on one split: metrics with paired bootstrap intervals, speed, and memory."""

import dataclasses
import os
from typing import Any

import numpy as np

from data_pipeline.settings import Settings, setting
from docproduct.evaluate import library
from docproduct.evaluate.bootstrap import BootstrapSettings, intervals
from docproduct.evaluate.ranking import DECISIVE, EvaluationSettings, measures
from docproduct.evaluate.systems import Evaluated, evaluate_alone
from docproduct.layers.precision import processor_name
from docproduct.model_folder import provenance

_COUNTS = ("queries", "documents", "queries_without_relevant")


@dataclasses.dataclass(frozen=True)
class ReportSettings(Settings):
    """What is compared, and with which system."""

    metrics: tuple[str, ...] = setting(
        ("Success@1", "Success@10", "RR@10", "nDCG@10", "AP@10", "R@100"), f"Metrics, of {', '.join(measures())}."
    )
    against: str | None = setting(None, "Name of the system that the others are compared with; default: the first.")

    def __post_init__(self) -> None:
        """Raises a ValueError for an unknown metric, or for none."""
        super().__post_init__()
        if not self.metrics or not set(self.metrics) <= set(measures()):
            raise ValueError(f"metrics is {', '.join(self.metrics)!r}; expected some of {', '.join(measures())}.")


def compare(
    systems: dict[str, str],
    beir_dir: str,
    split: str,
    evaluation: EvaluationSettings = EvaluationSettings(),
    report: ReportSettings = ReportSettings(),
    bootstrap: BootstrapSettings = BootstrapSettings(),
    peer_python: str | None = None,
) -> dict[str, Any]:
    """Evaluates each system in a process of its own, one after another, and compares them.

    Args:
      systems: {name: source}, see `systems.systems_of`.
      beir_dir: Documents, queries and judgments.
      split: Split of the judgments.
      evaluation: How each system ranks.
      report: What is compared.
      bootstrap: How queries are drawn.
      peer_python: Interpreter that has sentence-transformers, for `st:FOLDER`.

    Returns:
      Settings, counts, and "systems": [{"name", "source", "metrics": see `scores`, "hybrid", "bm25_weight",
      "dtype_policy", "documents_per_s", "queries_per_s", "peak_mib"}]; what a system does not have is None.

    Raises:
      ValueError: a system cannot be evaluated, or there is none to compare with.
    """
    against = next(iter(systems)) if report.against is None else report.against
    if against not in systems:
        raise ValueError(f"against is {against!r}; expected one of the systems: {', '.join(systems)}.")
    if not peer_python and any(source.startswith(library.PREFIX) for source in systems.values()):
        raise ValueError(f"{library.PREFIX}FOLDER needs --peer_python, an interpreter that has sentence-transformers.")
    evaluated = {
        name: evaluate_alone(name, source, beir_dir, split, evaluation, peer_python) for name, source in systems.items()
    }
    compared = scores(evaluated, against, report.metrics, bootstrap)
    results = evaluated[against].results
    return {
        **{"beir_dir": beir_dir, "split": split},
        **{name: results[name] for name in _COUNTS},
        **{name: getattr(evaluation, name) for name in DECISIVE},
        **{"against": against, "bootstrap": dataclasses.asdict(bootstrap)},
        "hardware": {"processor": processor_name(), "cores": os.cpu_count()},
        **provenance(),
        "systems": [
            {"name": name, "source": systems[name], "metrics": compared[name]} | _costs(of_system)
            for name, of_system in evaluated.items()
        ],
    }


def scores(
    evaluated: dict[str, Evaluated], against: str, metrics: tuple[str, ...], bootstrap: BootstrapSettings
) -> dict[str, dict[str, dict[str, Any]]]:
    """Compares the systems query by query.

    Returns:
      {system: {metric: {"mean", "low", "high": its interval, "difference": from `against`, "difference_low",
      "difference_high": its interval, "differs": whether that excludes 0}}}.
    """
    values = {
        name: np.array([list(of_system.record.per_query[metric].values()) for metric in metrics])
        for name, of_system in evaluated.items()
    }  # [M, Q] each; the queries of all are those of the qrels, in their order
    rows = [row for of_system in values.values() for row in (of_system, of_system - values[against])]
    means = [row.mean(axis=1) for row in rows]
    bounds = np.split(intervals(np.concatenate(rows), bootstrap), len(rows))  # [M, 2] each
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for i, name in enumerate(values):
        result[name] = {}
        for j, metric in enumerate(metrics):
            (low, high), (least, most) = bounds[2 * i][j].tolist(), bounds[2 * i + 1][j].tolist()
            result[name][metric] = {
                **{"mean": float(means[2 * i][j]), "low": low, "high": high},
                **{"difference": float(means[2 * i + 1][j]), "difference_low": least, "difference_high": most},
                "differs": least > 0 or most < 0,
            }
    return result


def _costs(evaluated: Evaluated) -> dict[str, Any]:
    results, record = evaluated.results, evaluated.record
    return {
        "hybrid": results.get("hybrid"),
        "bm25_weight": results.get("bm25_weight"),
        "dtype_policy": evaluated.dtype_policy,
        "documents_per_s": results["documents"] / record.document_seconds,
        "queries_per_s": results["queries"] / record.query_seconds,
        "peak_mib": evaluated.peak_mib,
    }
