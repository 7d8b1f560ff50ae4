"""What a training starts from: texts, the vocabulary with new pieces, and the model before its first step."""

import collections
import dataclasses
import os
from collections.abc import Sequence

import numpy as np
from absl import logging

from data_pipeline.folders import files
from data_pipeline.prompts.encoder_prompts import EncoderPrompts
from data_pipeline.token_rows.plain_texts import PlainTexts
from data_pipeline.tokenizers import Tokenizer, load_tokenizer, train_wordpiece
from data_pipeline.tokenizers.loading import encoder_folder
from data_pipeline.tokenizers.unknown import Unknown, count_words, new_pieces, pieces_of, unknown_tokens
from docproduct.layers import checkpoints
from docproduct.layers.bert import BertConfig
from docproduct.layers.precision import dtype_policy
from docproduct.model_folder import CONFIG_FILE
from docproduct.systems.masked_language_model.checkpoint import read_head
from docproduct.systems.masked_language_model.config import MaskedTraining
from docproduct.systems.masked_language_model.folder import TrainedMaskedModel
from docproduct.systems.masked_language_model.model import MaskedHead, MaskedLanguageModel
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.folder import KIND as RETRIEVER

_TABLE, _BIAS = "token_embedding/embeddings", "bias"  # variables with a row for each token id
_SHOWN = 10  # words in the log

Weights = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What the vocabulary knows of the train texts.

    Attributes:
      before: unknown tokens with the vocabulary that training started from.
      added: new pieces.
      after: unknown tokens with the new pieces.
    """

    before: Unknown
    added: tuple[str, ...]
    after: Unknown


@dataclasses.dataclass(frozen=True)
class _Encoder:
    """An encoder with what belongs to it.

    Attributes:
      bert: its sizes.
      tokenizer: its tokenizer.
      weights: of the encoder; None: random.
      head: weights of the head; None: random.
      prompts: what it expects before a text.
    """

    bert: BertConfig
    tokenizer: Tokenizer
    weights: Weights | None = None
    head: Weights | None = None
    prompts: EncoderPrompts = EncoderPrompts()


def start(
    config: MaskedTraining, texts: PlainTexts, resumed_dir: str | None = None
) -> tuple[TrainedMaskedModel, Vocabulary]:
    """Returns the untrained model, and what its vocabulary knows of the texts; the latter is logged.

    Args:
      config: what to train.
      texts: the texts.
      resumed_dir: folder of a run that is continued. A learned vocabulary is read from there: learned again, it may
        differ, as pieces of equal frequency have no fixed order.

    Raises:
      ValueError: the encoder cannot be read, takes no rows of this length, or its vocabulary cannot be extended.
    """
    encoder = _read(config.encoder_dir) if config.encoder_dir else _random(config, texts.train, resumed_dir)
    if config.max_tokens > encoder.bert.max_positions:
        raise ValueError(
            f"max_tokens is {config.max_tokens}; expected at most {encoder.bert.max_positions}, the positions of this "
            "encoder."
        )
    counts = count_words(encoder.tokenizer, texts.train)
    before = after = unknown_tokens(encoder.tokenizer, counts)
    words = new_pieces(encoder.tokenizer, counts, config.new_pieces)
    if words:
        encoder = _extended(encoder, words)
        after = unknown_tokens(encoder.tokenizer, counts)
    _log(before, words, after)
    sizes, policy = encoder.bert, dtype_policy(config.settings.precision, training=True)
    model = MaskedLanguageModel(sizes.with_dropout(config.dropout), config.settings.seed, policy)
    for layer, values in ((model.bert, encoder.weights), (model.head, encoder.head)):
        if values is not None:
            checkpoints.assign(layer, values, config.encoder_dir or "")
    trained = TrainedMaskedModel(model, encoder.tokenizer, sizes, encoder.prompts, config.encoder_dir)
    return trained, Vocabulary(before, tuple(words), after)


def _random(config: MaskedTraining, texts: Sequence[str], resumed_dir: str | None) -> _Encoder:
    tokenizer = load_tokenizer(resumed_dir) if resumed_dir else train_wordpiece(texts, config.vocab_size)
    sizes = {"vocab_size": tokenizer.vocab_size, "pad_id": tokenizer.pad_id}
    return _Encoder(dataclasses.replace(config.random_bert, **sizes), tokenizer)


def _read(folder: str) -> _Encoder:
    """Reads an encoder, and its head if there is one. Of a trained retriever, the encoder alone."""
    retriever = TrainedRetriever.load(folder)
    bert, head = retriever.model.bert, None
    is_retriever = (files.read_json(os.path.join(folder, CONFIG_FILE)) or {}).get("kind") == RETRIEVER
    found = None if is_retriever else read_head(encoder_folder(folder))
    if found is not None:
        layer = MaskedHead(bert.config, 0, "head")
        layer.build((None, bert.config.width), bert.token_embedding.embeddings.shape)
        checkpoints.assign_from(layer, *found, folder)
        head = _values(layer)
    else:
        logging.info("%s has no head for masked tokens: a new one is trained.", folder)
    return _Encoder(bert.config, retriever.tokenizer, _values(bert), head, retriever.prompts)


def _values(layer: object) -> Weights:
    return {name: variable.numpy() for name, variable in checkpoints.variables_by_name(layer).items()}


def _extended(encoder: _Encoder, words: Sequence[str]) -> _Encoder:
    """Returns an encoder with new pieces; their rows are the mean rows of the pieces that each word was before."""
    former = [pieces_of(encoder.tokenizer, word) for word in words]
    tokenizer = encoder.tokenizer.with_pieces(words)
    first = encoder.tokenizer.vocab_size
    num_rows = max(tokenizer.vocab_size, encoder.bert.vocab_size)  # published tables may have more rows than ids

    def with_rows(values: Weights | None, name: str) -> Weights | None:
        if values is None:
            return None
        table = values[name]
        rows = np.concatenate([table, np.zeros((num_rows - len(table), *table.shape[1:]), table.dtype)])
        rows[first : first + len(words)] = [table[ids].mean(axis=0) for ids in former]
        return values | {name: rows}

    return dataclasses.replace(
        encoder,
        bert=dataclasses.replace(encoder.bert, vocab_size=num_rows),
        tokenizer=tokenizer,
        weights=with_rows(encoder.weights, _TABLE),
        head=with_rows(encoder.head, _BIAS),
    )


def _log(before: Unknown, words: Sequence[str], after: Unknown) -> None:
    named = collections.Counter(dict(before.words)).most_common(_SHOWN)
    logging.info(
        "%d of %d tokens of the train texts are unknown (%.3f %%)%s.",
        *(before.num_unknown, before.num_tokens, 100 * before.share),
        "".join([": ", ", ".join(f"{word} {count}" for word, count in named)] if named else []),
    )
    if words:
        logging.info(
            "%d new pieces (%s ...): %d of %d tokens are unknown then (%.3f %%).",
            *(len(words), ", ".join(words[:_SHOWN]), after.num_unknown, after.num_tokens, 100 * after.share),
        )
