"""The sizes and parts of a LLaMA-style decoder, and the names of its variables in Hugging Face's folders.

LLaMA 2 and 3, SmolLM2, Mistral, Qwen2 and Qwen3 are one architecture with other parts: biases, normalized queries and
keys, layers that see a window only, and scalings of rotary positions.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from data_pipeline.settings import Settings, setting
from docproduct.layers.checkpoints import Source
from docproduct.layers.rotary import RotaryConfig
from docproduct.layers.rotary_files import rotary_from_hugging_face, rotary_to_hugging_face

# Model types, with the values that transformers' configurations have where config.json has none.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"max_position_embeddings": 2048},
    "mistral": {"max_position_embeddings": 131_072, "num_key_value_heads": 8, "sliding_window": 4096},
    "qwen2": {"max_position_embeddings": 32_768, "num_key_value_heads": 32},
    "qwen3": {"max_position_embeddings": 32_768, "num_key_value_heads": 32, "head_dim": 128},
}
MODEL_TYPES = tuple(_DEFAULTS)
_ARCHITECTURES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
_ACTIVATIONS = ("silu", "swish")  # two names of one function
# Fields of relatives that change what a model computes, with the value at which they change nothing.
_REFUSED = {
    "quantization_config": None,
    "rope_interleaved": False,
    "residual_multiplier": 1.0,
    "embedding_multiplier": 1.0,
    "attention_multiplier": None,
    "logits_scaling": 1.0,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "no_rope_layers": None,
    "num_experts": None,
    "num_local_experts": None,
}
_FULL, _SLIDING = "full_attention", "sliding_attention"


@dataclasses.dataclass(frozen=True)
class LlamaConfig(Settings):
    """The sizes and parts of a LLaMA-style decoder; the defaults are those of SmolLM2-135M."""

    architecture: ClassVar[str] = "llama"
    cross_attention: ClassVar[bool] = False  # these models attend to no encoder

    vocab_size: int = setting(49_152, "V, rows of the token table.", least=1)
    width: int = setting(576, "D.", least=1)
    num_layers: int = setting(30, "Transformer layers.", least=1)
    num_heads: int = setting(9, "H, heads of queries.", least=1)
    num_key_value_heads: int = setting(3, "KV, heads of keys and values; KV divides H.", least=1)
    head_width: int = setting(64, "S, even; H * S need not be D.", least=2)
    inner_width: int = setting(1536, "Width inside the feed-forward networks.", least=1)
    max_positions: int = setting(8192, "The window: longest text in tokens.", least=1)
    norm_epsilon: float = setting(1e-5, "Added to the mean square in normalizations.", above=0)
    initializer_range: float = setting(0.02, "Standard deviation of random weights.", least=0)
    attention_dropout: float = setting(0.0, "Rate on attention probabilities.", least=0, below=1)
    rotary: RotaryConfig = RotaryConfig(theta=100_000.0)
    sliding_window: int | None = setting(None, "Tokens that sliding layers attend to, the own one counted.", least=1)
    sliding_layers: tuple[int, ...] = setting((), "Numbers of the sliding layers, from 0.")
    query_key_value_bias: bool = setting(False, "Biases of queries, keys and values.")
    output_bias: bool = setting(False, "Bias of the attention's output.")
    feed_forward_bias: bool = setting(False, "Biases of the feed-forward networks.")
    normalizes_heads: bool = setting(False, "RMSNorm on each query and key.")
    ties_head: bool = setting(True, "The head is the token table.")

    def __post_init__(self) -> None:
        """Raises a ValueError for impossible sizes."""
        super().__post_init__()
        if self.num_heads % self.num_key_value_heads:
            raise ValueError(
                f"{self.num_heads} heads cannot share {self.num_key_value_heads} heads of keys and values; expected a "
                "divisor."
            )
        if self.head_width % 2:
            raise ValueError(f"head_width is {self.head_width}; expected an even number: pairs of numbers are rotated.")
        if self.sliding_layers and self.sliding_window is None:
            raise ValueError("There are sliding layers without sliding_window. Give its number of tokens.")
        if unknown := [i for i in self.sliding_layers if not 0 <= i < self.num_layers]:
            raise ValueError(f"sliding_layers names layer {unknown[0]}; expected 0 to {self.num_layers - 1}.")

    def with_dropout(self, rate: float) -> "LlamaConfig":
        """Returns the same sizes with dropout on attention probabilities, the only one that these models have."""
        return dataclasses.replace(self, attention_dropout=rate)

    @classmethod
    def from_hugging_face(cls, config: Mapping[str, Any]) -> "LlamaConfig":
        """Reads `config.json`, as transformers 4 or 5 writes it.

        Raises:
          ValueError: it is of another model type, lacks a size, or has a part that this decoder lacks.
        """
        kind = config.get("model_type")
        if kind not in _DEFAULTS:
            raise ValueError(f"config.json is of a model of type {kind!r}; expected {', '.join(_DEFAULTS)}.")
        config = _DEFAULTS[kind] | dict(config)
        _check_parts(kind, config)
        try:
            heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
            window, sliding = _sliding(kind, config, layers)
            biased = bool(config.get("attention_bias"))
            return cls(
                vocab_size=config["vocab_size"],
                width=config["hidden_size"],
                num_layers=layers,
                num_heads=heads,
                num_key_value_heads=config.get("num_key_value_heads") or heads,
                head_width=config.get("head_dim") or config["hidden_size"] // heads,
                inner_width=config["intermediate_size"],
                max_positions=config["max_position_embeddings"],
                norm_epsilon=config.get("rms_norm_eps", 1e-6),
                initializer_range=config.get("initializer_range", cls.initializer_range),
                attention_dropout=config.get("attention_dropout") or 0.0,
                rotary=rotary_from_hugging_face(config),
                sliding_window=window,
                sliding_layers=sliding,
                query_key_value_bias=biased or kind == "qwen2",
                output_bias=biased,
                feed_forward_bias=bool(config.get("mlp_bias")),
                normalizes_heads=kind == "qwen3",
                ties_head=config.get("tie_word_embeddings", False),
            )
        except KeyError as error:
            raise ValueError(f"config.json has no {error}; expected the configuration of a {kind}.") from None

    def to_hugging_face(self) -> dict[str, Any]:
        """Returns what `from_hugging_face` reads. A Mistral without a window is a LLaMA.

        Raises:
          ValueError: no model type of Hugging Face has these parts.
        """
        kind = self._model_type()
        config = {
            "architectures": [f"{_ARCHITECTURES[kind]}ForCausalLM"],
            "model_type": kind,
            "vocab_size": self.vocab_size,
            "hidden_size": self.width,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_width,
            "intermediate_size": self.inner_width,
            "max_position_embeddings": self.max_positions,
            "rms_norm_eps": self.norm_epsilon,
            "initializer_range": self.initializer_range,
            "attention_dropout": self.attention_dropout,
            "hidden_act": _ACTIVATIONS[0],
            "tie_word_embeddings": self.ties_head,
            **rotary_to_hugging_face(self.rotary),
        }
        if kind in ("llama", "qwen3"):
            config["attention_bias"] = self.output_bias
        if kind == "llama":
            config["mlp_bias"] = self.feed_forward_bias
        if kind == "mistral":
            config["sliding_window"] = self.sliding_window
        if kind in ("qwen2", "qwen3"):
            types = [_SLIDING if i in self.sliding_layers else _FULL for i in range(self.num_layers)]
            config |= {"use_sliding_window": bool(self.sliding_layers), "layer_types": types}
            config["sliding_window"] = self.sliding_window
        if LlamaConfig.from_hugging_face(config) != self:
            raise ValueError(f"No model type of Hugging Face has the parts of this model: {self}.")
        return config

    def _model_type(self) -> str:
        if self.normalizes_heads:
            return "qwen3"
        if self.query_key_value_bias and not self.output_bias:
            return "qwen2"
        return "mistral" if self.sliding_layers else "llama"


def _check_parts(kind: str, config: Mapping[str, Any]) -> None:
    """Raises a ValueError for a part that this decoder lacks, or that transformers ignores in this model type."""
    if (activation := config.get("hidden_act", "silu")) not in _ACTIVATIONS:
        raise ValueError(f"config.json has hidden_act {activation!r}; expected silu.")
    refused = dict(_REFUSED)
    refused |= {"attention_bias": False} if kind in ("mistral", "qwen2") else {}
    refused |= {"mlp_bias": False} if kind != "llama" else {}
    refused |= {"sliding_window": None} if kind == "llama" else {}
    for name, usual in refused.items():
        if config.get(name) not in (None, usual):
            raise ValueError(
                f"config.json has {name} {config[name]!r}; a {kind} is computed with "
                f"{'none' if usual is None else usual} only. Without it the model would write something else."
            )


def _sliding(kind: str, config: Mapping[str, Any], num_layers: int) -> tuple[int | None, tuple[int, ...]]:
    """Returns the window of sliding layers, and their numbers."""
    window, every = config.get("sliding_window"), tuple(range(num_layers))
    if kind in ("llama", "mistral"):
        sliding = every if window is not None else ()
        types = config.get("layer_types")
    else:
        window = window if config.get("use_sliding_window") else None
        sliding = every[config.get("max_window_layers", 28) :] if window is not None else ()
        if (types := config.get("layer_types")) and window is not None:
            sliding = tuple(i for i, name in enumerate(types) if name == _SLIDING)
    if types and list(types) != [_SLIDING if i in sliding else _FULL for i in every]:
        raise ValueError(
            f"config.json has layer_types {', '.join(types)} with sliding_window {window}; expected {_FULL} or "
            f"{_SLIDING} for each of {num_layers} layers, as the rest of the file says."
        )
    return (window, sliding) if sliding else (None, ())


_LAYER = {
    "attention_norm": ("input_layernorm",),
    "attention/query_key_value": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention/query_norm": ("self_attn.q_norm",),
    "attention/key_norm": ("self_attn.k_norm",),
    "attention/output": ("self_attn.o_proj",),
    "feed_forward_norm": ("post_attention_layernorm",),
    "feed_forward/gate_and_inner": ("mlp.gate_proj", "mlp.up_proj"),
    "feed_forward/output": ("mlp.down_proj",),
}


def hugging_face_sources(config: LlamaConfig) -> dict[str, Source]:
    """Returns our variables' names in Hugging Face's safetensors, without `model.`; kernels are [out, in] there."""
    biased = {
        "attention/query_key_value": config.query_key_value_bias,
        "attention/output": config.output_bias,
        "feed_forward/gate_and_inner": config.feed_forward_bias,
        "feed_forward/output": config.feed_forward_bias,
    }
    of_values = config.num_key_value_heads * config.head_width
    columns = {"attention/query_key_value": (config.num_heads * config.head_width, of_values, of_values)}
    sources = {"token_embedding/embeddings": Source(("embed_tokens.weight",))}
    for i in range(config.num_layers):
        for ours, theirs in _LAYER.items():
            if ours.startswith("attention/") and ours.endswith("_norm") and not config.normalizes_heads:
                continue
            stem, names = f"layer_{i}/{ours}", [f"layers.{i}.{name}" for name in theirs]
            weights = tuple(f"{name}.weight" for name in names)
            if ours.endswith("norm"):
                sources[f"{stem}/gamma"] = Source(weights)
                continue
            sources[f"{stem}/kernel"] = Source(weights, transpose=True, columns=columns.get(ours))
            if biased[ours]:
                sources[f"{stem}/bias"] = Source(tuple(f"{name}.bias" for name in names), columns=columns.get(ours))
    sources["final_norm/gamma"] = Source(("norm.weight",))
    if not config.ties_head:
        sources["head/kernel"] = Source(("lm_head.weight",), transpose=True)
    return sources
