"""Rotary positions in Hugging Face's config.json: `rope_theta` and `rope_scaling`, or `rope_parameters`."""

from collections.abc import Mapping
from typing import Any

from docproduct.layers.rotary import LINEAR, LLAMA3, NONE, YARN, RotaryConfig, yarn_attention_factor

_THETA = 10_000.0  # where config.json names none
# Fields of each scaling beside its type, theirs to ours; those without a name of ours are read below.
_WINDOW = {"factor": "factor", "original_max_position_embeddings": "original_positions"}
_FIELDS: dict[str, dict[str, str | None]] = {
    NONE: {},
    LINEAR: {"factor": "factor"},
    LLAMA3: _WINDOW | {"low_freq_factor": "low_frequency_factor", "high_freq_factor": "high_frequency_factor"},
    YARN: _WINDOW
    | {"beta_fast": "beta_fast", "beta_slow": "beta_slow", "truncate": "truncate"}
    | {"attention_factor": "attention_factor", "mscale": None, "mscale_all_dim": None},
}
_TYPES = {"default": NONE, "linear": LINEAR, "llama3": LLAMA3, "yarn": YARN}
_SHARED = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}


def rotary_from_hugging_face(config: Mapping[str, Any]) -> RotaryConfig:
    """Reads the rotary positions of a config.json, as transformers 4 or 5 writes them.

    Raises:
      ValueError: the scaling, or a field of it, is not known.
    """
    found = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    kind = found.get("rope_type", found.get("type", "default"))
    if kind not in _TYPES:
        raise ValueError(f"config.json has rotary positions of type {kind!r}; expected {', '.join(_TYPES)}.")
    share = found.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    if share not in (None, 1, 1.0):
        raise ValueError(f"config.json has partial_rotary_factor {share}; expected 1: whole heads are rotated.")
    fields, given = _FIELDS[_TYPES[kind]], {name: value for name, value in found.items() if value is not None}
    if unknown := sorted(set(given) - set(fields) - _SHARED):
        raise ValueError(f"config.json has rotary positions of type {kind} with {', '.join(unknown)}; not known there.")
    values = {ours: given[theirs] for theirs, ours in fields.items() if ours and theirs in given}
    if "original_positions" in fields.values():
        inside = values.get("original_positions", config["max_position_embeddings"])
        values["original_positions"] = config.get("original_max_position_embeddings", inside)
    if _TYPES[kind] == YARN:
        values |= _yarn_factors(given, values, config["max_position_embeddings"])
    if fields and "factor" not in values:
        raise ValueError(f"config.json has rotary positions of type {kind} without a factor.")
    theta = given.get("rope_theta", config.get("rope_theta")) or _THETA
    return RotaryConfig(theta=theta, scaling=_TYPES[kind], **values)


def _yarn_factors(given: Mapping[str, Any], values: Mapping[str, Any], max_positions: int) -> dict[str, float]:
    """Returns YaRN's two factors, which follow from others where config.json has none."""
    factor = given.get("factor", max_positions / values["original_positions"])
    both = given.get("mscale"), given.get("mscale_all_dim")
    attention_factor = yarn_attention_factor(factor, *(both if all(both) else ()))
    return {"factor": factor, "attention_factor": given.get("attention_factor", attention_factor)}


def rotary_to_hugging_face(config: RotaryConfig) -> dict[str, Any]:
    """Returns what `rotary_from_hugging_face` reads, for transformers 4 and 5."""
    (kind,) = (theirs for theirs, ours in _TYPES.items() if ours == config.scaling)
    fields = _FIELDS[config.scaling]
    scaling = {"rope_type": kind} | {theirs: getattr(config, ours) for theirs, ours in fields.items() if ours}
    return {
        "rope_theta": config.theta,
        "rope_scaling": scaling if fields else None,
        "rope_parameters": scaling | {"rope_theta": config.theta},
    }
