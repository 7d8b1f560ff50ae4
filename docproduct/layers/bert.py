"""BERT, and how to load it from Google's checkpoints and Hugging Face folders.

Source: Devlin et al. 2019, google-research/bert `modeling.py`. Differences: no pooler and no pre-training heads (a
retriever has its own), one segment where no other is given (texts are encoded alone), queries, keys and values in one
product.

    B rows in a batch, T tokens, N = B * T, D width, H heads
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from docproduct.layers.attention import SelfAttention, padding_bias
from docproduct.layers.checkpoints import Source
from docproduct.layers.transformer import HUGGING_FACE_ACTIVATIONS, Blocks, FeedForward, split_rows

# "gelu" means the tanh form to Google's code and the erf form to Hugging Face's.
_GOOGLE_ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu"}
_FAMILIES = "BERT, BioBERT, SciBERT, PubMedBERT, LaBSE, MiniLM, BGE, GTE, E5, multilingual-e5-small, and their like"


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """The sizes of a BERT; the defaults are BERT base, uncased.

    Attributes:
      vocab_size: number of token ids.
      width: D.
      num_layers: transformer layers.
      num_heads: H, which divides D.
      inner_width: width inside the feed-forward networks.
      max_positions: longest text in tokens.
      num_segments: rows of the segment table; a text that is encoded alone uses the first.
      activation: a key of `transformer.ACTIVATIONS`.
      norm_epsilon: added to the variance in layer normalization.
      dropout: rate on embeddings, and on the result of each block.
      attention_dropout: rate on attention probabilities.
      initializer_range: standard deviation of random weights.
      pad_id: id of padding.
    """

    vocab_size: int = 30522
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    inner_width: int = 3072
    max_positions: int = 512
    num_segments: int = 2
    activation: str = "gelu_erf"
    norm_epsilon: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    initializer_range: float = 0.02
    pad_id: int = 0

    def with_dropout(self, rate: float | None) -> "BertConfig":
        """Returns the same sizes with another rate on states and attention; None changes nothing."""
        return self if rate is None else dataclasses.replace(self, dropout=rate, attention_dropout=rate)

    def with_pooled_layer(self, layer: int) -> "BertConfig":
        """Returns the sizes of the same BERT up to a layer, counted from the end: -1 the last, -2 the one before it.

        Raises:
          ValueError: there is no such layer.
        """
        if not -self.num_layers <= layer <= -1:
            raise ValueError(f"pooled_layer is {layer}; expected -1, the last layer, to {-self.num_layers}, the first.")
        return dataclasses.replace(self, num_layers=self.num_layers + 1 + layer)

    @classmethod
    def from_google(cls, config: dict[str, Any]) -> "BertConfig":
        """Reads `bert_config.json`."""
        return cls._from(config, "bert_config.json", _GOOGLE_ACTIVATIONS)

    @classmethod
    def from_hugging_face(cls, config: dict[str, Any]) -> "BertConfig":
        """Reads `config.json`."""
        kind = config.get("model_type", "bert")
        positions = config.get("position_embedding_type") or "absolute"
        if kind != "bert" or positions != "absolute" or config.get("is_decoder"):
            raise ValueError(
                f"config.json is of a {kind} model with {positions} positions"
                f"{' that reads forwards only' * bool(config.get('is_decoder'))}; expected an encoder of the type bert "
                f"with absolute positions. Families that work: {_FAMILIES}."
            )
        return cls._from(config, "config.json", HUGGING_FACE_ACTIVATIONS)

    @classmethod
    def _from(cls, config: dict[str, Any], file: str, activations: dict[str, str]) -> "BertConfig":
        try:
            activation = config["hidden_act"]
            if activation not in activations:
                raise ValueError(f"{file} has hidden_act {activation!r}; expected one of {', '.join(activations)}.")
            return cls(
                vocab_size=config["vocab_size"],
                width=config["hidden_size"],
                num_layers=config["num_hidden_layers"],
                num_heads=config["num_attention_heads"],
                inner_width=config["intermediate_size"],
                max_positions=config["max_position_embeddings"],
                num_segments=config["type_vocab_size"],
                activation=activations[activation],
                norm_epsilon=config.get("layer_norm_eps", cls.norm_epsilon),
                dropout=config.get("hidden_dropout_prob", cls.dropout),
                attention_dropout=config.get("attention_probs_dropout_prob", cls.attention_dropout),
                initializer_range=config.get("initializer_range", cls.initializer_range),
                pad_id=config.get("pad_token_id") or 0,
            )
        except KeyError as error:
            raise ValueError(f"{file} has no {error}; expected the configuration of a BERT.") from None

    def to_hugging_face(self) -> dict[str, Any]:
        """Returns what `from_hugging_face` reads: the sizes under the names of `config.json`."""
        names = {ours: theirs for theirs, ours in reversed(HUGGING_FACE_ACTIVATIONS.items())}
        return {
            "model_type": "bert",
            "vocab_size": self.vocab_size,
            "hidden_size": self.width,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "intermediate_size": self.inner_width,
            "max_position_embeddings": self.max_positions,
            "type_vocab_size": self.num_segments,
            "hidden_act": names[self.activation],
            "layer_norm_eps": self.norm_epsilon,
            "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": self.attention_dropout,
            "initializer_range": self.initializer_range,
            "pad_token_id": self.pad_id,
        }


class BertLayer(keras.layers.Layer):
    """Attention and feed-forward network, each followed by dropout, residual sum and layer normalization."""

    def __init__(self, config: BertConfig, blocks: Blocks, name: str):
        super().__init__(name=name, dtype=blocks.dtype, autocast=False)  # the attention bias stays in float32
        self.attention = SelfAttention(config.width, config.num_heads, config.attention_dropout, blocks, "attention")
        self.attention_dropout = blocks.dropout(config.dropout)
        self.attention_norm = blocks.layer_norm(config.norm_epsilon, "attention_norm")
        self.feed_forward = FeedForward(config.width, config.inner_width, config.activation, blocks, "feed_forward")
        self.feed_forward_dropout = blocks.dropout(config.dropout)
        self.feed_forward_norm = blocks.layer_norm(config.norm_epsilon, "feed_forward_norm")

    def build(self, shape: tuple[int | None, int]) -> None:
        """Makes the variables."""
        for layer in (self.attention, self.attention_norm, self.feed_forward, self.feed_forward_norm):
            layer.build(shape)

    def call(self, states: Any, attention_biases: Any, training: bool = False, compiled: bool = False) -> Any:
        """[N, D] -> [N, D]; attention_biases: [B, 1, 1, T] for each group."""
        attended = self.attention(states, attention_biases, training=training)
        attended = self.attention_dropout(attended, training=training)
        states = self.attention_norm(states + attended, training=training, compiled=compiled)
        transformed = self.feed_forward(states, training=training, compiled=compiled)
        transformed = self.feed_forward_dropout(transformed, training=training)
        return self.feed_forward_norm(states + transformed, training=training, compiled=compiled)


class Bert(keras.layers.Layer):
    """Token ids to token states.

    Attributes:
      config: its sizes.
      row_multiple: the number of rows N that all layers work on is padded to a multiple of this. Above 1, XLA compiles
        the elementwise operations: then few different N occur. See elementwise.py.
    """

    def __init__(self, config: BertConfig, seed: int = 0, name: str = "bert", dtype: Any = None):
        """Makes a BERT with random weights; `seed` decides them and the dropout."""
        super().__init__(name=name, dtype=dtype)
        self.config = config
        self.row_multiple = 1
        blocks = Blocks(config.initializer_range, itertools.count(1_000 * seed), dtype)
        self.token_embedding = blocks.embedding(config.vocab_size, config.width, "token_embedding")
        self.position_embedding = blocks.embedding(config.max_positions, config.width, "position_embedding")
        self.segment_embedding = blocks.embedding(config.num_segments, config.width, "segment_embedding")
        self.embedding_norm = blocks.layer_norm(config.norm_epsilon, "embedding_norm")
        self.embedding_dropout = blocks.dropout(config.dropout)
        self.layers = [BertLayer(config, blocks, f"layer_{i}") for i in range(config.num_layers)]

    def build(self, shape: Any = None) -> None:
        """Makes the variables; their shapes depend on the configuration alone."""
        del shape
        for embedding in (self.token_embedding, self.position_embedding, self.segment_embedding):
            embedding.build((None,))
        for layer in (self.embedding_norm, *self.layers):
            layer.build((None, self.config.width))

    @property
    def compiled(self) -> bool:
        """Whether XLA compiles the elementwise operations."""
        return self.row_multiple > 1

    def call(self, ids: Any, training: bool = False, segments: Any = None) -> Any:
        """Encodes texts.

        Args:
          ids: [B, T] int, padded with `config.pad_id`; T at most `config.max_positions`. Or a list of such groups: in
            groups of similar length, the texts of a batch need less padding.
          training: whether dropout is active.
          segments: int below `config.num_segments`, shaped as `ids`: the text of a pair that each token belongs to.
            None: all tokens are of segment 0.

        Returns:
          [B, T, D], or a list of them, as `ids`; the states of padding have no meaning.
        """
        groups = ids if isinstance(ids, (list, tuple)) else [ids]
        segments = segments if segments is None or isinstance(segments, (list, tuple)) else [segments]
        states = self.embedding_norm(self._embed(groups, segments), training=training, compiled=self.compiled)
        states = self.embedding_dropout(states, training=training)
        attention_biases = [padding_bias(self.mask(group)) for group in groups]
        for layer in self.layers:
            states = layer(states, attention_biases, training=training, compiled=self.compiled)
        shapes = [ops.shape(group) for group in groups]
        parts = split_rows(states, [b * t for b, t in shapes])[:-1]
        result = [ops.reshape(part, (b, t, self.config.width)) for part, (b, t) in zip(parts, shapes, strict=True)]
        return result if isinstance(ids, (list, tuple)) else result[0]

    def _embed(self, groups: Sequence[Any], segments: Sequence[Any] | None = None) -> Any:
        """Returns the sum of the embeddings, [N, D]; N is a multiple of `row_multiple`."""
        steps = [ops.zeros_like(group) + ops.arange(ops.shape(group)[1], dtype=group.dtype) for group in groups]
        ids, positions = self._rows(groups), self._rows(steps)  # [N]
        segment_rows = ops.zeros(1, "int32") if segments is None else self._rows(segments)  # [1] or [N]
        return self.token_embedding(ids) + self.position_embedding(positions) + self.segment_embedding(segment_rows)

    def _rows(self, groups: Sequence[Any]) -> Any:
        """Returns the places of all groups, [B, T] each, in one row, padded with zeros: [N]."""
        rows = ops.concatenate([ops.reshape(group, (-1,)) for group in groups], axis=0)
        if self.row_multiple > 1:
            rows = ops.pad(rows, ((0, -ops.shape(rows)[0] % self.row_multiple),))
        return rows

    def mask(self, ids: Any) -> Any:
        """[B, T] int -> [B, T] bool, true for a real token."""
        return ops.not_equal(ids, self.config.pad_id)


def google_sources(config: BertConfig) -> dict[str, Source]:
    """Returns the names of our variables in Google's TF1 checkpoints."""
    embeddings = {
        "token_embedding/embeddings": "word_embeddings",
        "position_embedding/embeddings": "position_embeddings",
        "segment_embedding/embeddings": "token_type_embeddings",
        "embedding_norm/gamma": "LayerNorm/gamma",
        "embedding_norm/beta": "LayerNorm/beta",
    }
    layer = {
        "attention/query_key_value": [f"attention/self/{part}" for part in ("query", "key", "value")],
        "attention/output": ["attention/output/dense"],
        "attention_norm": ["attention/output/LayerNorm"],
        "feed_forward/inner": ["intermediate/dense"],
        "feed_forward/output": ["output/dense"],
        "feed_forward_norm": ["output/LayerNorm"],
    }
    sources = {ours: Source((f"bert/embeddings/{theirs}",)) for ours, theirs in embeddings.items()}
    for i in range(config.num_layers):
        for ours, theirs in layer.items():
            for part in ("gamma", "beta") if ours.endswith("norm") else ("kernel", "bias"):
                names = tuple(f"bert/encoder/layer_{i}/{name}/{part}" for name in theirs)
                sources[f"layer_{i}/{ours}/{part}"] = Source(names)
    return sources


def hugging_face_sources(config: BertConfig) -> dict[str, Source]:
    """Returns the names of our variables in Hugging Face's safetensors, without the prefix `bert.`."""

    def theirs(google_name: str) -> str:
        name = google_name.removeprefix("bert/").replace("encoder/layer_", "encoder/layer/").replace("/", ".")
        stem, _, ending = name.rpartition(".")
        endings = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
        return f"{stem}.{endings[ending]}" if ending in endings else f"{name}.weight"

    # PyTorch keeps the kernel of a dense layer as [out, in].
    return {
        ours: Source(tuple(map(theirs, source.names)), transpose=ours.endswith("kernel"))
        for ours, source in google_sources(config).items()
    }
