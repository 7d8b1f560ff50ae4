"""Search over settings: a training for each combination, a table of their scores, and the best one kept.

MODEL_DIR/grid.json   each combination with its scores, the best first
MODEL_DIR/runs/NAME/  the model folder of a combination
MODEL_DIR/best/       a copy of the best one
"""

import dataclasses
import itertools
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from absl import logging

from data_pipeline.folders import files
from docproduct.systems.triage.config import TriageTraining
from docproduct.systems.triage.train import train
from docproduct.training import devices

GRID_FILE = "grid.json"
RUNS_FOLDER, BEST_FOLDER = "runs", "best"
_KIND = "docproduct triage grid"
_PARTS = ("settings", "labels")  # dataclasses inside TriageTraining whose fields may be tried, too
_SAME_IN_ALL = ("variant", "best_metric")  # runs with others have scores that cannot be compared

Grid = Mapping[str, Sequence[Any]]  # {setting: the values to try}


def parse(text: str) -> dict[str, list[Any]]:
    """Returns the grid in a flag, such as `learning_rate=1e-5,5e-5;dropout=0.1,0.3`.

    Raises:
      ValueError: it has another form, or names a setting that does not exist or has no values to choose from.
    """
    grid: dict[str, list[Any]] = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        name, equals, values = (piece.strip() for piece in part.partition("="))
        if not equals or not values:
            raise ValueError(f"--grid has the part {part!r}; expected SETTING=VALUE,VALUE with ; between settings.")
        default = _default(name)
        grid[name] = [_read(name, value.strip(), default) for value in values.split(",")]
    if not grid:
        raise ValueError("--grid names no setting; expected SETTING=VALUE,VALUE with ; between settings.")
    return grid


def _default(name: str) -> Any:
    """Returns the default of a setting, or raises a ValueError if there is none of this name."""
    whole = TriageTraining(prepared_dir="")
    places = [whole, *(getattr(whole, part) for part in _PARTS)]
    known = {field.name: getattr(place, field.name) for place in places for field in dataclasses.fields(place)}
    values = {key: value for key, value in known.items() if not dataclasses.is_dataclass(value)}
    if name in _SAME_IN_ALL:
        raise ValueError(f"--grid names {name}, which all its trainings share. Search once for each value of it.")
    if name not in values:
        raise ValueError(f"--grid names {name!r}. Expected a setting of this training, such as learning_rate.")
    return values[name]


def _read(name: str, value: str, default: Any) -> Any:
    if isinstance(default, str) or (default is None and name != "dropout"):
        return value
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[value.lower()]
        return int(value) if isinstance(default, int) else float(value)
    except (ValueError, KeyError):
        raise ValueError(f"--grid gives {name} the value {value!r}; expected one like {default!r}.") from None


def with_values(config: TriageTraining, values: Mapping[str, Any]) -> TriageTraining:
    """Returns the settings with other values, those of the parts inside included."""
    for part in _PARTS:
        inner = getattr(config, part)
        own = {name: values[name] for name in values if name in {f.name for f in dataclasses.fields(inner)}}
        config = dataclasses.replace(config, **{part: dataclasses.replace(inner, **own)}) if own else config
    outer = {field.name for field in dataclasses.fields(config)}
    return dataclasses.replace(config, **{name: value for name, value in values.items() if name in outer})


def search(
    config: TriageTraining, grid: Grid, model_dir: str, strategy: tf.distribute.Strategy | None = None
) -> dict[str, Any]:
    """Trains every combination that is not trained yet, and keeps the best.

    A search that was killed goes on where it stopped, also within a training.

    Args:
      config: the settings that are the same in all trainings.
      grid: what to try.
      model_dir: the folder of the search.
      strategy: where to train; None: on the default device.

    Returns:
      The content of the best training's metrics.json.

    Raises:
      FileExistsError: `model_dir` holds something else.
      ValueError: as `train`.
    """
    chief = devices.is_chief(strategy or tf.distribute.get_strategy())  # of several workers, one writes
    path = os.path.join(model_dir, GRID_FILE)
    stored = files.read_json(path)
    if os.path.isdir(model_dir) and os.listdir(model_dir) and (stored or {}).get("kind") != _KIND:
        raise FileExistsError(f"{model_dir} is not empty and holds no search. Give another folder.")
    os.makedirs(model_dir, exist_ok=True)
    entries: list[dict[str, Any]] = []
    histories: dict[str, dict[str, Any]] = {}
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    head = {"kind": _KIND, "grid": {name: list(values) for name, values in grid.items()}}
    if chief:
        files.write_json(path, head | {"runs": []})
    for number, values in enumerate(combinations, 1):
        name = ",".join(f"{key}={value}" for key, value in values.items())
        logging.info("Training %d of %d: %s", number, len(combinations), name)
        run_dir = os.path.join(model_dir, RUNS_FOLDER, name)
        history = train(with_values(config, values), run_dir, resume=True, strategy=strategy)
        histories[name] = history
        entries.append({"name": name, "values": values, "scores": history["best"]})
        entries.sort(key=lambda entry: entry["scores"][config.metric], reverse=not config.lowest_is_best)
        if chief:
            files.write_json(path, head | {"metric": config.metric, "runs": entries})
    best = entries[0]["name"]
    if chief:
        _keep(os.path.join(model_dir, RUNS_FOLDER, best), os.path.join(model_dir, BEST_FOLDER))
    logging.info("The best: %s.", best)
    return histories[best]


def _keep(run_dir: str, best_dir: str) -> None:
    """Copies the folder of the best training, whole or not at all."""
    shutil.rmtree(best_dir, ignore_errors=True)
    with files.whole_folder(best_dir) as partial:
        shutil.copytree(run_dir, partial, dirs_exist_ok=True)
