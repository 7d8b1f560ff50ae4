"""A trained retriever: its folder, and texts to vectors.

    config.json          exact config, training settings, seed, versions, git commit
    weights.safetensors  metrics.json  learning_curve.png
    vocab.txt or tokenizer.json, tokenizer_config.json
    config_sentence_transformers.json   the prompts before questions and answers, if there are any
    hybrid.json          the way to join BM25 that was best on dev

A bare encoder folder (Google's, Hugging Face's or sentence-transformers') loads as well: its heads are the identity.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from tqdm import tqdm

from data_pipeline import batches, splits
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prompts.encoder_prompts import EncoderPrompts
from data_pipeline.settings import from_json
from data_pipeline.tokenizers import Tokenizer, load_tokenizer
from docproduct import model_folder
from docproduct.layers import checkpoints
from docproduct.layers.bert import BertConfig
from docproduct.layers.precision import dtype_policy
from docproduct.model_folder import CONFIG_FILE, METRICS_FILE, WEIGHTS_FILE
from docproduct.search.fusion import Hybrid
from docproduct.systems.retriever.bare_encoder import load_encoder, longest_text
from docproduct.systems.retriever.model import Retriever, RetrieverConfig, unit

KIND = "docproduct retriever"
FORMAT = 2
HYBRID_FILE = "hybrid.json"
BATCH_TOKENS = 8_192  # encoded together: enough for fast matrix products
_FEW_TOKENS = 256  # the same for a few texts, where less padding gains more
_ROW_MULTIPLE = 1_024  # divides BATCH_TOKENS, so that few rows are added
_NUM_GROUPS = 4  # of similar length in a batch
_MAY_CHANGE = ("max_tokens", "head_dropout", "matryoshka_dims")  # of a trained retriever: no weight depends on them
_WORTH_COMPILING = 256  # width of the encoder

Side = Literal["question", "answer"]  # the head that a text passes; the side that a query is compared with


class Embeddings(NamedTuple):
    """Vectors of N texts.

    Attributes:
      encoder: [N, D] float32, BERT's own vectors, before the head; not normalized.
      head: [N, D] float32, after the head, unit norm: the vectors to search.
    """

    encoder: np.ndarray
    head: np.ndarray


class TrainedRetriever:
    """A retriever with its tokenizer and its prompts.

    Attributes:
      model: The bi-encoder.
      tokenizer: Its tokenizer.
      config: The config of the model.
      hybrid: The way to join BM25 that was best on dev.
      prompts: The texts before every question and answer.
    """

    def __init__(
        self,
        model: Retriever,
        tokenizer: Tokenizer,
        hybrid: Hybrid = Hybrid(),
        prompts: EncoderPrompts = EncoderPrompts(),
    ):
        """Joins the parts.

        Raises:
          ValueError: the tokenizer has more ids than the model has rows, or another padding.
        """
        check_vocabulary(tokenizer, model.config.bert)
        self.model, self.tokenizer, self.config = model, tokenizer, model.config
        self.hybrid, self.prompts = hybrid, prompts
        self._encode = {
            "question": self._encoder(model.question_head),
            "answer": self._encoder(model.answer_head),
        }

    def _encoder(self, head: keras.layers.Layer) -> Callable[[np.ndarray], tuple[tf.Tensor, tf.Tensor]]:
        # One signature for all lengths: traced once.
        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
        def encode(ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            if not self.model.bert.compiled:
                pooled = self.model.pool(ids)
            else:  # many texts: groups of similar length need less padding, and share the matrix products
                groups, places = batches.length_groups(ids, _NUM_GROUPS, self.tokenizer.pad_id)
                pooled = tf.gather(self.model.pool(groups), places)
            return pooled, unit(head(pooled))

        return encode

    def embed(
        self, texts: Sequence[str], side: Side, batch_tokens: int = BATCH_TOKENS, progress: str | None = None
    ) -> Embeddings:
        """Encodes texts, in batches of similar length; the order is that of `texts`.

        Args:
          texts: N texts; each is cut at `config.max_tokens`.
          side: The head that they pass, question or answer.
          batch_tokens: Tokens that are encoded together, padding included.
          progress: Title of a progress bar; None: no bar.
        """
        return self.embed_ids(self.token_ids(texts, side), side, batch_tokens, progress)

    def token_ids(self, texts: Sequence[str], side: Side) -> tf.RaggedTensor:
        """Tokenizes the texts of one side with its prompt, [N, (T)] int32 with T at most `config.max_tokens`."""
        return self.tokenizer.encode(self.prompts.add(texts, side), self.config.max_tokens)

    def embed_few(self, texts: Sequence[str], side: Side) -> np.ndarray:
        """Encodes a few clean texts with little delay: [N, D] float32, unit norm, equal to the `head` of `embed`."""
        rows = self.tokenizer.encode_few(self.prompts.add(texts, side), self.config.max_tokens)
        lengths = np.array([len(row) for row in rows])
        result = np.empty((len(rows), self.config.width), np.float32)
        for positions in batches.length_order(lengths, _FEW_TOKENS):
            ids = np.full((len(positions), lengths[positions].max()), self.tokenizer.pad_id, np.int32)
            for place, position in enumerate(positions):
                ids[place, : lengths[position]] = rows[position]
            result[positions] = self._encode[side](ids)[1]
        return result

    def embed_ids(
        self, ids: tf.RaggedTensor, side: Side, batch_tokens: int = BATCH_TOKENS, progress: str | None = None
    ) -> Embeddings:
        """Encodes tokenized texts, [N, (T)] int32 with T at most `config.max_tokens`; otherwise like `embed`."""
        sorted_batches = batches.length_sorted(ids, batch_tokens, self.tokenizer.pad_id)
        return self.embed_batches(sorted_batches, ids.nrows().numpy(), side, progress)

    def embed_prepared(
        self, prepared: PreparedFolder, side: Side, batch_tokens: int = BATCH_TOKENS, progress: str | None = None
    ) -> Embeddings:
        """Encodes one side of all pairs of a prepared folder, in the order of pairs.parquet.

        The ids in its shards are used if they are those of this model's tokenizer and lengths; otherwise the texts.
        """
        cut_at, longest = prepared.manifest["settings"][f"max_{side}_tokens"], prepared.longest(side)
        same_length = cut_at == self.config.max_tokens or (longest < cut_at and longest <= self.config.max_tokens)
        same_tokens = prepared.tokenizer().fingerprint == self.tokenizer.fingerprint
        if not (same_length and same_tokens and prepared.prompts() == self.prompts):
            return self.embed(prepared.table([side])[side].to_pylist(), side, batch_tokens, progress)
        stream = batches.inference_batches(prepared, side, batch_tokens, self.tokenizer.pad_id)
        num_pairs = sum(map(prepared.num_rows, splits.SPLITS))
        return self.embed_batches(stream, num_pairs, side, progress)

    def embed_batches(
        self, stream: Iterable[tuple[np.ndarray, np.ndarray]], num_texts: int, side: Side, progress: str | None = None
    ) -> Embeddings:
        """Encodes batches of (rows [B], ids [B, T]); row i of the result is the vector of text i of `num_texts`."""
        shape = (num_texts, self.config.width)
        result = Embeddings(np.empty(shape, np.float32), np.empty(shape, np.float32))
        with tqdm(desc=progress, total=num_texts, unit=" texts", disable=progress is None) as bar:
            for rows, batch in stream:
                for vectors, values in zip(result, self._encode[side](batch), strict=True):
                    vectors[rows] = values
                bar.update(len(rows))
        return result

    @classmethod
    def load_for_many(cls, folder: str, precision: str = "auto", **options: Any) -> "TrainedRetriever":
        """Loads a retriever for encoding many texts: compiled, and with `auto` in the fastest precision here."""
        retriever = cls.load(folder, dtype=dtype_policy(precision), **options)
        retriever.compile_for_many()
        return retriever

    def compile_for_many(self) -> None:
        """Compiles element-wise operations with XLA, on a processor and if the encoder is wide enough.

        Encoding and training many texts is faster then. A single question is slower, as rows are padded to bound the
        number of shapes. GPUs have fast kernels of their own.
        """
        if not tf.config.list_physical_devices("GPU") and self.config.bert.width >= _WORTH_COMPILING:
            self.model.bert.row_multiple = _ROW_MULTIPLE

    @property
    def dtype_policy(self) -> str:
        """The encoder's Keras dtype policy: float32, or mixed_bfloat16."""
        return self.model.bert.dtype_policy.name

    def fingerprint(self) -> str:
        """Returns a hash of weights, config and tokenizer; equal fingerprints mean equal vectors, but for rounding."""
        config = dataclasses.asdict(self.config)
        if not self.config.dense:
            del config["dense"]  # as in indexes that were built before there were dense layers
        described = [json.dumps(config, sort_keys=True), self.tokenizer.fingerprint]
        if self.prompts:
            described.append(json.dumps(dataclasses.asdict(self.prompts), sort_keys=True))
        return checkpoints.fingerprint(self.model, *described)

    def save_config(self, folder: str, training: Mapping[str, Any]) -> None:
        """Writes everything but the weights; `training` describes the training."""
        config = {"kind": KIND, "format": FORMAT, "retriever": dataclasses.asdict(self.config), **training}
        files.write_json(os.path.join(folder, CONFIG_FILE), config | model_folder.provenance())
        self.tokenizer.save(folder)
        self.prompts.save(folder)

    def save_weights(self, folder: str, metadata: Mapping[str, str] | None = None) -> None:
        """Writes the weights; `metadata` is stored in their file."""
        checkpoints.save(self.model, os.path.join(folder, WEIGHTS_FILE), metadata=metadata)

    @classmethod
    def load(
        cls, folder: str, seed: int = 0, dtype: str = "float32", dropout: float | None = None, **options: Any
    ) -> "TrainedRetriever":
        """Loads a trained retriever, or a bare encoder with new heads.

        Args:
          folder: A folder that `train_embeddings.py` wrote; or Google's (bert_config.json, vocab.txt, *.index,
            *.data-*); or Hugging Face's (config.json, vocab.txt or tokenizer.json, model.safetensors), with
            sentence-transformers' files or without.
          seed: Random seed of dropout, and of the new heads' inner weights.
          dtype: Keras dtype policy of the encoder.
          dropout: Dropout rate inside the encoder; None: that of the folder.
          **options: See `load_encoder`; None: that of the folder. The pooling and the heads of a trained retriever
            cannot change; max_tokens, head_dropout and matryoshka_dims may.

        Raises:
          ValueError: the folder is missing, its files do not fit together, or the options differ from a trained
            retriever's; the message names the difference.
        """
        stored = files.read_json(os.path.join(folder, CONFIG_FILE))
        if stored is None or stored.get("kind") != KIND:
            model, tokenizer = load_encoder(folder, seed=seed, dtype=dtype, dropout=dropout, **options)
            return cls(model, tokenizer, prompts=EncoderPrompts.read(folder))
        if stored.get("format") != FORMAT:
            raise ValueError(f"{folder} has format {stored.get('format')}; expected {FORMAT}. Train the model again.")
        if not os.path.isfile(os.path.join(folder, METRICS_FILE)):
            logging.warning(
                "The training in %s has not ended: its weights are those of the best epoch so far. To finish it, give "
                "train_embeddings.py its flags and --resume.",
                folder,
            )
        config = from_json(RetrieverConfig, stored["retriever"], os.path.join(folder, CONFIG_FILE))
        config = dataclasses.replace(config, bert=config.bert.with_dropout(dropout))
        model = Retriever(_with_options(config, options, folder), seed, dtype)
        weights = checkpoints.read_safetensors(folder, WEIGHTS_FILE)
        checkpoints.assign(model, weights, os.path.join(folder, WEIGHTS_FILE))
        hybrid = files.read_json(os.path.join(folder, HYBRID_FILE)) or Hybrid()._asdict()
        hybrid = Hybrid(hybrid["method"], hybrid["weight"])
        return cls(model, load_tokenizer(folder), hybrid, EncoderPrompts.read(folder))


def _with_options(config: RetrieverConfig, options: dict[str, Any], folder: str) -> RetrieverConfig:
    """Returns a trained retriever's config with the options of `load` that no weight depends on.

    Raises:
      ValueError: another option differs from the config.
    """
    given = {name: value for name, value in options.items() if value is not None}
    given.pop("lower_case", None)  # its tokenizer knows
    if at_most := given.pop("at_most", None):
        given["max_tokens"] = longest_text(config.bert, at_most)
    config = dataclasses.replace(config, **{name: given.pop(name) for name in _MAY_CHANGE if name in given})
    differing = [
        f"{name} is {getattr(config, name, None)!r}, asked for was {value!r}"
        for name, value in given.items()
        if getattr(config, name, None) != value
    ]
    if differing:
        raise ValueError(
            f"The retriever in {folder} was trained with other settings: {'; '.join(differing)}. Give those."
        )
    return config


def check_vocabulary(tokenizer: Tokenizer, bert: BertConfig) -> None:
    """Raises a ValueError if a tokenizer has more ids than a BERT has rows, or another padding."""
    if tokenizer.vocab_size > bert.vocab_size or tokenizer.pad_id != bert.pad_id:
        raise ValueError(
            f"The vocabulary has {tokenizer.vocab_size} tokens and padding {tokenizer.pad_id}, the model "
            f"{bert.vocab_size} and {bert.pad_id}. Give the tokenizer that the model was trained with."
        )


def shorten(vectors: np.ndarray, dims: int) -> np.ndarray:
    """Returns the first components as unit vectors, [..., D] -> [..., dims]; 0 dims: the vectors unchanged.

    Raises:
      ValueError: the vectors have fewer components.
    """
    if not dims:
        return vectors
    if not 1 <= dims <= vectors.shape[-1]:
        raise ValueError(f"dims is {dims}; expected 1 to {vectors.shape[-1]}, the width of this model.")
    cut = vectors[..., :dims]
    return cut / np.maximum(np.linalg.norm(cut, axis=-1, keepdims=True), 1e-12)
