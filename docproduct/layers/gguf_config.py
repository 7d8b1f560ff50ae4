"""Reads the sizes of a LLaMA-family model from the metadata of a GGUF file, as the config.json of Hugging Face.

Source: llama.cpp's convert_hf_to_gguf.py, whose keys and names of tensors are turned back here.

V vocabulary, D hidden width, F feed-forward width, H heads, K key-value heads, S width of a head
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from docproduct.layers.gguf_reader import GGUFFile

_CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
_ROPE_FACTORS = "rope_freqs.weight"
# Llama 3.1 and later: wave lengths between 8192 / 4 and 8192 are scaled in part, longer ones by the factor.
_LLAMA3_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def of(file: GGUFFile) -> dict[str, Any]:
    """Returns the content of config.json, but for the ids of special tokens.

    Raises:
      ValueError: metadata is missing, or the architecture or a part of it is not built in.
    """
    metadata, architecture = file.metadata, file.metadata.get("general.architecture")
    if architecture not in _CLASSES:
        raise ValueError(
            f"{file.path} is of the architecture {architecture!r}; expected {', '.join(_CLASSES)}. Take another model, "
            "as others are not built in."
        )
    heads, width = _number(file, "attention.head_count"), _number(file, "embedding_length")
    head_width, context = _number(file, "attention.key_length", width // heads), _number(file, "context_length")
    for key in ("attention.value_length", "rope.dimension_count"):
        if (value := _number(file, key, head_width)) != head_width:
            raise ValueError(
                f"{file.path} has {architecture}.{key} {value} beside heads of width {head_width}. Expected the same: "
                "other widths, and rotations of a part of a head, are not built in."
            )
    if metadata.get(f"{architecture}.expert_count"):
        raise ValueError(f"{file.path} is a mixture of experts, which is not built in. Take a dense model.")
    if metadata.get(f"{architecture}.attention.sliding_window") and _number(file, "attention.sliding_window") < context:
        raise ValueError(f"{file.path} attends in a sliding window, which is not built in. Take another model.")
    config = {
        "architectures": [_CLASSES[architecture]],
        "model_type": architecture,
        "vocab_size": _vocab_size(file),
        "hidden_size": width,
        "intermediate_size": _number(file, "feed_forward_length"),
        "num_hidden_layers": _number(file, "block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _number(file, "attention.head_count_kv", heads),
        "head_dim": head_width,
        "hidden_act": "silu",
        "max_position_embeddings": context,
        "rms_norm_eps": _real(file, "attention.layer_norm_rms_epsilon"),
        "rope_theta": _real(file, "rope.freq_base", 10_000.0),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "torch_dtype": "float32",
    }
    if architecture != "qwen2":  # a Qwen2 has biases of queries, keys and values always
        config["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    if architecture == "llama":
        config["mlp_bias"] = "blk.0.ffn_gate.bias" in file.tensors
    scaling = _rope_scaling(file, config)
    return config if scaling is None else config | {"rope_scaling": scaling}


def names(file: GGUFFile, config: Mapping[str, Any]) -> dict[str, str]:
    """Returns {name of a tensor in the file: Hugging Face's name}.

    Raises:
      ValueError: tensors are missing, unexpected or of another shape than the configuration says.
    """
    expected = {theirs: (ours, shape) for theirs, ours, shape in _expected(config)}
    missing, extra = sorted(set(expected) - set(file.tensors)), sorted(set(file.tensors) - set(expected))
    extra = [name for name in extra if name != _ROPE_FACTORS]
    if missing or extra:
        raise ValueError(
            f"{file.path} does not hold the tensors of its configuration. Missing: {', '.join(missing[:5]) or 'none'}; "
            f"not expected: {', '.join(extra[:5]) or 'none'}. Take another file of this model."
        )
    for theirs, (_, shape) in expected.items():
        if file.tensors[theirs].shape != shape:
            raise ValueError(
                f"{file.path} has {theirs} of shape {list(file.tensors[theirs].shape)}; expected {list(shape)} by its "
                "metadata. Fetch it again."
            )
    return {theirs: ours for theirs, (ours, _) in expected.items()}


def _expected(config: Mapping[str, Any]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yields name in the file, Hugging Face's name and shape of every tensor; kernels are [out, in]."""
    vocab, width, inner = (config[name] for name in ("vocab_size", "hidden_size", "intermediate_size"))
    queries, keys = (config[name] * config["head_dim"] for name in ("num_attention_heads", "num_key_value_heads"))
    yield "token_embd.weight", "model.embed_tokens.weight", (vocab, width)
    yield "output_norm.weight", "model.norm.weight", (width,)
    if not config["tie_word_embeddings"]:
        yield "output.weight", "lm_head.weight", (vocab, width)
    norms = {"attn_norm": ("input_layernorm", width), "ffn_norm": ("post_attention_layernorm", width)}
    if config["model_type"] == "qwen3":
        norms |= {f"attn_{part}_norm": (f"self_attn.{part}_norm", config["head_dim"]) for part in "qk"}
    attention_bias, inner_bias = config.get("attention_bias", False), config.get("mlp_bias", False)
    input_bias = attention_bias or config["model_type"] == "qwen2"
    kernels = {
        "attn_q": ("self_attn.q_proj", queries, width, input_bias),
        "attn_k": ("self_attn.k_proj", keys, width, input_bias),
        "attn_v": ("self_attn.v_proj", keys, width, input_bias),
        "attn_output": ("self_attn.o_proj", width, queries, attention_bias),
        "ffn_gate": ("mlp.gate_proj", inner, width, inner_bias),
        "ffn_up": ("mlp.up_proj", inner, width, inner_bias),
        "ffn_down": ("mlp.down_proj", width, inner, inner_bias),
    }
    for i in range(config["num_hidden_layers"]):
        for theirs, (ours, size) in norms.items():
            yield f"blk.{i}.{theirs}.weight", f"model.layers.{i}.{ours}.weight", (size,)
        for theirs, (ours, num_out, num_in, has_bias) in kernels.items():
            yield f"blk.{i}.{theirs}.weight", f"model.layers.{i}.{ours}.weight", (num_out, num_in)
            if has_bias:
                yield f"blk.{i}.{theirs}.bias", f"model.layers.{i}.{ours}.bias", (num_out,)


def _rope_scaling(file: GGUFFile, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns how positions are scaled to reach further than the model was trained; None: not at all."""
    prefix = f"{config['model_type']}.rope"
    linear = file.metadata.get(f"{prefix}.scale_linear", 1.0)  # in old files
    kind = file.metadata.get(f"{prefix}.scaling.type", "none" if linear == 1 else "linear")
    factor = file.metadata.get(f"{prefix}.scaling.factor", linear)
    if kind not in ("none", "linear", "yarn") or file.metadata.get(f"{prefix}.scaling.attn_factor", 1.0) != 1:
        raise ValueError(
            f"{file.path} scales positions by {kind!r}, or its attention by positions. Expected linear or yarn. Others "
            "are not built in."
        )
    if _ROPE_FACTORS in file.tensors:
        return _llama3_scaling(file, config)
    if kind == "none" or factor in (0, 1):
        return None
    scaling: dict[str, Any] = {"rope_type": kind, "factor": _real(file, "rope.scaling.factor", linear)}
    if kind == "yarn":
        stored = {
            "original_max_position_embeddings": file.metadata.get(f"{prefix}.scaling.original_context_length"),
            "beta_fast": file.metadata.get(f"{prefix}.scaling.yarn_beta_fast"),
            "beta_slow": file.metadata.get(f"{prefix}.scaling.yarn_beta_slow"),
        }
        scaling |= {name: value for name, value in stored.items() if value is not None}
    return scaling


def _llama3_scaling(file: GGUFFile, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the settings that give the file's factors of wave lengths, [S / 2]."""
    factors = file.values(_ROPE_FACTORS).reshape(-1)
    if np.all(factors == 1):
        return None
    scaling = {"rope_type": "llama3", "factor": float(factors.max()), **_LLAMA3_ROPE}
    expected = _llama3_factors(scaling, config["rope_theta"], config["head_dim"])
    if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=1e-3):
        raise ValueError(
            f"{file.path} scales positions by factors ({_ROPE_FACTORS}) other than Llama 3's. Expected those of "
            f"{_LLAMA3_ROPE}. Take the model's Hugging Face folder, whose config.json has rope_scaling."
        )
    return scaling


def _llama3_factors(scaling: Mapping[str, Any], theta: float, head_width: int) -> np.ndarray:
    """Returns by how much each wave length is stretched, [S / 2]; see `_compute_llama3_parameters` in transformers."""
    low, high, original = (scaling[name] for name in _LLAMA3_ROPE)
    waves = 2 * np.pi * theta ** (np.arange(0, head_width, 2) / head_width)
    kept = np.clip((original / waves - low) / (high - low), 0, 1)  # the share of the frequency that is not scaled
    return 1 / ((1 - kept) / scaling["factor"] + kept)


def _vocab_size(file: GGUFFile) -> int:
    table = file.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise ValueError(f"{file.path} has no matrix token_embd.weight, the table of tokens. Fetch it again.")
    return table.shape[0]


def _number(file: GGUFFile, key: str, default: int | None = None) -> int:
    return int(_positive(file, key, default))


def _real(file: GGUFFile, key: str, default: float | None = None) -> float:
    return float(str(np.float32(_positive(file, key, default))))  # 1e-05, rather than 9.999999747378752e-06


def _positive(file: GGUFFile, key: str, default: float | None) -> float:
    key = f"{file.metadata['general.architecture']}.{key}"
    value = file.metadata.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{file.path} has {key} {value!r} in its metadata; expected a number above 0. Fetch it again.")
    return value
