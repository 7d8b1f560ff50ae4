"""Parts of model cards: tables and lines of Markdown."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from data_pipeline import splits
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.rows import PAIR

FILE = "README.md"
_SHOWN = 240  # characters


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def epochs(history: dict[str, Any]) -> str:
    """Returns a table of the metrics of each epoch; the epoch whose weights were kept is marked."""
    names = [name for name in history["epochs"][-1] if name != "epoch"]
    rows = [
        [f"{entry['epoch']}{' (kept)' if entry['epoch'] == history['best']['epoch'] else ''}"]
        + [f"{entry[name]:.4g}" if name in entry else "" for name in names]
        for entry in history["epochs"]
    ]
    return table(["epoch", *names], rows)


def inputs(prepared: PreparedFolder) -> str:
    """Returns the number of rows in each split, and a table of the files that they come from."""
    counts = ", ".join(f"{prepared.num_rows(split):,} {split}" for split in splits.SPLITS)
    rows = [
        [f"`{os.path.basename(entry['path'])}`", f"{entry['bytes']:,}", f"`{entry['sha256'][:16]}`"]
        for entry in prepared.manifest["inputs"]
    ]
    name = "Pairs" if prepared.schema is PAIR else "Rows"
    return f"{name}: {counts}.\n\n{table(['file', 'bytes', 'SHA-256'], rows)}"


def settings(config: Mapping[str, Any], chosen: Mapping[str, Any]) -> str:
    """Returns a table of a training's settings and of the values that it chose itself; folders by name."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        inner = {"kind": "loss"}  # the flag's name
        flat |= {inner.get(key, key): part for key, part in value.items()} if isinstance(value, dict) else {name: value}
    flat |= chosen
    # Names of folders, not where they were on this machine.
    rows = [
        [name, f"`{os.path.basename(os.path.abspath(str(value))) if name.endswith('_dir') else value}`"]
        for name, value in flat.items()
        if value is not None and value != ()
    ]
    return table(["setting", "value"], rows)


def line(text: str, shown: int = _SHOWN) -> str:
    """Returns the start of a text on one line, with nothing in it that Markdown or HTML would act on."""
    joined = " ".join(text.split())
    joined = joined if len(joined) <= shown else f"{joined[:shown].rstrip()} ..."
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", joined)
