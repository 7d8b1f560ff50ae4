"""A report's numbers as Markdown tables."""

from collections.abc import Iterable
from typing import Any

from docproduct.training import cards


def markdown(report: dict[str, Any]) -> str:
    """Returns the tables of a report.

    Args:
      report: What `report.compare` returns.
    """
    systems, against = report["systems"], report["against"]
    head = ["system", *systems[0]["metrics"]]
    values = [[system["name"], *map(_value, system["metrics"].values())] for system in systems]
    others = [system for system in systems if system["name"] != against]
    differences = [[system["name"], *map(_difference, system["metrics"].values())] for system in others]
    parts = ["# Retrieval report", _described(report), _table(head, values)]
    if others:
        parts += [f"\\* The interval of the difference from {against} excludes 0; there is no correction for several."]
        parts += [f"## Difference from {against}", _table(head, differences)]
    head = ["system", "BM25 joined", "precision", "documents/s", "queries/s", "peak MiB"]
    parts += ["## Speed and memory", _table(head, map(_cost, systems)), _cost_described(report)]
    return "\n\n".join(parts) + "\n"


def _described(report: dict[str, Any]) -> str:
    bootstrap = report["bootstrap"]
    return (
        f"{report['queries']:,} queries of the split {report['split']}, {report['documents']:,} documents "
        f"({report['beir_dir']}). In brackets: {bootstrap['confidence']:.0%} intervals of a bootstrap over queries, "
        f"paired for differences ({bootstrap['resamples']:,} samples, seed {bootstrap['seed']})."
    )


def _cost_described(report: dict[str, Any]) -> str:
    hardware = report["hardware"]
    return (
        f"{hardware['processor']}, {hardware['cores']} cores. documents/s: encoding, and counting words for BM25. "
        "queries/s: encoding and ranking, many queries together. Peak MiB: resident memory of a process of its own, "
        "with its libraries and the data."
    )


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    return cards.table(head, [[cell.replace("|", "\\|") for cell in row] for row in rows])


def _value(score: dict[str, Any]) -> str:
    star = "\\*" if score["differs"] else ""
    return f"{score['mean']:.3f}{star} [{score['low']:.3f}, {score['high']:.3f}]"


def _difference(score: dict[str, Any]) -> str:
    star = "\\*" if score["differs"] else ""
    return f"{score['difference']:+.3f}{star} [{score['difference_low']:+.3f}, {score['difference_high']:+.3f}]"


def _cost(system: dict[str, Any]) -> list[str]:
    weight = f" {system['bm25_weight']:g}" if system["hybrid"] == "weight" else ""
    hybrid = f"{system['hybrid']}{weight}" if system["hybrid"] else "-"
    speeds = [f"{system[name]:,.0f}" for name in ("documents_per_s", "queries_per_s", "peak_mib")]
    return [system["name"], hybrid, system["dtype_policy"] or "-", *speeds]
