"""The sizes of a GPT-2, and the names of its variables in OpenAI's checkpoints and Hugging Face's folders."""

import dataclasses
from typing import Any, ClassVar

from docproduct.layers.attention import head_width
from docproduct.layers.checkpoints import Source
from docproduct.layers.transformer import HUGGING_FACE_ACTIVATIONS


@dataclasses.dataclass(frozen=True)
class GPT2Config:
    """The sizes of a GPT-2; the defaults are those of the smallest, with 124 million weights.

    Attributes:
      vocab_size: V, rows of the token table.
      width: D.
      num_layers: transformer layers.
      num_heads: H, which divides D.
      inner_width: width inside the feed-forward networks; default: 4 D.
      max_positions: the window: longest text in tokens.
      activation: a key of `transformer.ACTIVATIONS`.
      norm_epsilon: added to the variance in layer normalization.
      dropout: rate on embeddings, and on the result of each block.
      attention_dropout: rate on attention probabilities.
      initializer_range: standard deviation of random weights.
      scale_attention: whether scores are divided by sqrt(S).
      scale_attention_by_layer: whether scores of layer i (from 1) are divided by i, too, as in BioMedLM.
      cross_attention: whether every layer attends to the states of an encoder.
      encoder_width: width of these states; default: D.
    """

    architecture: ClassVar[str] = "gpt2"

    vocab_size: int = 50257
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    inner_width: int | None = None
    max_positions: int = 1024
    activation: str = "gelu_tanh"
    norm_epsilon: float = 1e-5
    dropout: float = 0.1
    attention_dropout: float = 0.1
    initializer_range: float = 0.02
    scale_attention: bool = True
    scale_attention_by_layer: bool = False
    cross_attention: bool = False
    encoder_width: int | None = None

    def __post_init__(self) -> None:
        """Raises a ValueError for impossible sizes."""
        for name in ("vocab_size", "width", "num_layers", "num_heads", "max_positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more.")
        head_width(self.width, self.num_heads)

    @property
    def num_key_value_heads(self) -> int:
        """Heads in a cache: each head has its own keys and values."""
        return self.num_heads

    @property
    def head_width(self) -> int:
        """S."""
        return self.width // self.num_heads

    @property
    def feed_forward_width(self) -> int:
        """Width inside the feed-forward networks."""
        return self.inner_width or 4 * self.width

    def with_dropout(self, rate: float) -> "GPT2Config":
        """Returns the same sizes with another dropout, everywhere."""
        return dataclasses.replace(self, dropout=rate, attention_dropout=rate)

    @classmethod
    def from_openai(cls, hparams: dict[str, Any]) -> "GPT2Config":
        """Reads `hparams.json`."""
        try:
            return cls(
                vocab_size=hparams["n_vocab"],
                width=hparams["n_embd"],
                num_layers=hparams["n_layer"],
                num_heads=hparams["n_head"],
                max_positions=hparams["n_ctx"],
            )
        except KeyError as error:
            raise ValueError(f"hparams.json has no {error}; expected the configuration of a GPT-2.") from None

    @classmethod
    def from_hugging_face(cls, config: dict[str, Any]) -> "GPT2Config":
        """Reads `config.json`."""
        kind, activation = config.get("model_type"), config.get("activation_function", "gelu_new")
        if kind != "gpt2":
            raise ValueError(f"config.json is of a model of type {kind!r}; expected gpt2.")
        if activation not in HUGGING_FACE_ACTIVATIONS:
            raise ValueError(
                f"config.json has activation_function {activation!r}; expected one of "
                f"{', '.join(HUGGING_FACE_ACTIVATIONS)}."
            )
        if not config.get("tie_word_embeddings", True):
            raise ValueError("config.json has tie_word_embeddings false; expected a head that is the token table.")
        try:
            return cls(
                vocab_size=config["vocab_size"],
                width=config["n_embd"],
                num_layers=config["n_layer"],
                num_heads=config["n_head"],
                inner_width=config.get("n_inner"),
                max_positions=config["n_positions"],
                activation=HUGGING_FACE_ACTIVATIONS[activation],
                norm_epsilon=config.get("layer_norm_epsilon", cls.norm_epsilon),
                dropout=config.get("resid_pdrop", cls.dropout),
                attention_dropout=config.get("attn_pdrop", cls.attention_dropout),
                initializer_range=config.get("initializer_range", cls.initializer_range),
                scale_attention=config.get("scale_attn_weights", True),
                scale_attention_by_layer=config.get("scale_attn_by_inverse_layer_idx", False),
                cross_attention=config.get("add_cross_attention", False),
            )
        except KeyError as error:
            raise ValueError(f"config.json has no {error}; expected the configuration of a GPT-2.") from None

    def to_hugging_face(self) -> dict[str, Any]:
        """Returns what `from_hugging_face` reads.

        Raises:
          ValueError: Hugging Face's GPT-2 cannot represent this model.
        """
        if self.encoder_width not in (None, self.width):
            raise ValueError(
                f"encoder_width is {self.encoder_width}; Hugging Face's GPT-2 attends to states of its own width only."
            )
        names = {ours: theirs for theirs, ours in reversed(HUGGING_FACE_ACTIVATIONS.items())}
        return {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "vocab_size": self.vocab_size,
            "n_embd": self.width,
            "n_layer": self.num_layers,
            "n_head": self.num_heads,
            "n_inner": self.inner_width,
            "n_positions": self.max_positions,
            "n_ctx": self.max_positions,
            "activation_function": names[self.activation],
            "layer_norm_epsilon": self.norm_epsilon,
            "resid_pdrop": self.dropout,
            "embd_pdrop": self.dropout,
            "attn_pdrop": self.attention_dropout,
            "initializer_range": self.initializer_range,
            "scale_attn_weights": self.scale_attention,
            "scale_attn_by_inverse_layer_idx": self.scale_attention_by_layer,
            "add_cross_attention": self.cross_attention,
            "tie_word_embeddings": True,
        }


# Of our variables inside a layer: OpenAI's names, which Hugging Face writes with other separators.
_LAYER = {
    "attention_norm": "ln_1",
    "attention/query_key_value": "attn/c_attn",
    "attention/output": "attn/c_proj",
    "feed_forward_norm": "ln_2",
    "feed_forward/inner": "mlp/c_fc",
    "feed_forward/output": "mlp/c_proj",
}
_CROSS_ATTENTION = {
    "cross_attention_norm": "ln_cross_attn",
    "cross_attention/query": "crossattention/q_attn",
    "cross_attention/key_value": "crossattention/c_attn",
    "cross_attention/output": "crossattention/c_proj",
}
_PARTS = {"kernel": "w", "bias": "b", "gamma": "g", "beta": "b"}


def openai_sources(config: GPT2Config) -> dict[str, Source]:
    """Returns the names of our variables in OpenAI's TF1 checkpoints, whose kernels are [1, in, out]."""
    names = {
        "token_embedding/embeddings": "wte",
        "position_embedding/embeddings": "wpe",
        "final_norm/gamma": "ln_f/g",
        "final_norm/beta": "ln_f/b",
    }
    layer = _LAYER | (_CROSS_ATTENTION if config.cross_attention else {})
    for i in range(config.num_layers):
        for ours, theirs in layer.items():
            for part in ("gamma", "beta") if ours.endswith("norm") else ("kernel", "bias"):
                names[f"layer_{i}/{ours}/{part}"] = f"h{i}/{theirs}/{_PARTS[part]}"
    return {ours: Source((f"model/{theirs}",)) for ours, theirs in names.items()}


def hugging_face_sources(config: GPT2Config) -> dict[str, Source]:
    """Returns our variables' names in Hugging Face's safetensors, without `transformer.`; kernels are [in, out]."""

    def theirs(name: str) -> str:
        stem, _, part = name.removeprefix("model/").rpartition("/")
        if not stem:
            return f"{part}.weight"  # wte, wpe
        stem = f"h.{stem[1:]}" if stem[:1] == "h" else stem  # h0/attn/c_attn
        return f"{stem.replace('/', '.')}.{'bias' if part == 'b' else 'weight'}"

    return {ours: Source((theirs(source.names[0]),)) for ours, source in openai_sources(config).items()}
