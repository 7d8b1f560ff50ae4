"""What a training starts from: checked pairs, and the model before its first step."""

import dataclasses
from typing import Any

from absl import logging

from data_pipeline import splits
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.tokenizers import Tokenizer
from docproduct.layers.precision import dtype_policy
from docproduct.systems.retriever.bare_encoder import longest_text
from docproduct.systems.retriever.config import RetrieverTraining
from docproduct.systems.retriever.folder import TrainedRetriever
from docproduct.systems.retriever.model import Retriever, RetrieverConfig

_FEW = 30  # dev pairs


def training_pairs(config: RetrieverTraining) -> PreparedFolder:
    """Returns the pairs.

    Raises:
      ValueError: there are none to train on, or none to evaluate with.
    """
    prepared = PreparedFolder(config.prepared_dir)
    for split in (splits.TRAIN, splits.DEV):
        if not prepared.num_rows(split):
            raise ValueError(
                f"{prepared.path} has no {split} pairs. Prepare it again with more pairs, or with a "
                f"{'higher' if split == splits.DEV else 'lower'} --dev_share. Pairs of one question are in one split."
            )
    if prepared.num_rows(splits.TRAIN) < config.settings.batch_size:
        logging.warning(
            "The batch size is %d, but there are only %d pairs: an epoch is one step. Lower --batch_size to do more.",
            config.settings.batch_size,
            prepared.num_rows(splits.TRAIN),
        )
    if prepared.num_rows(splits.DEV) < _FEW:
        logging.warning(
            "Only %d dev pairs: their metrics say little. Prepare again with a higher --dev_share.",
            prepared.num_rows(splits.DEV),
        )
    return prepared


def start(config: RetrieverTraining, prepared: PreparedFolder) -> TrainedRetriever:
    """Returns the untrained retriever.

    Its encoder has the weights of `encoder_dir`, or random ones; new residual heads are the identity.

    Raises:
      ValueError: the encoder and the prepared folder do not fit together, or nothing would be trained.
    """
    retriever = _from_encoder(config, prepared) if config.encoder_dir else _random(config, prepared)
    if config.freeze_bert and retriever.config.head == "none":
        raise ValueError("Without heads and with a frozen encoder nothing is trained. Choose a --head.")
    # A model should not be trained on longer texts than it will encode in use.
    if prepared.longest() > retriever.config.max_tokens:
        raise ValueError(
            f"{prepared.path} has texts of up to {prepared.longest()} tokens; this model takes at most "
            f"{retriever.config.max_tokens}. Prepare it again with --max_question_tokens and --max_answer_tokens of at "
            f"most that, or train with a higher --max_tokens (the encoder takes {retriever.config.bert.max_positions})."
        )
    if prepared.cut_at() < retriever.config.max_tokens:
        logging.warning(
            "The pairs were cut at %d tokens when they were prepared; this model will be used on texts of up to %d.",
            prepared.cut_at(),
            retriever.config.max_tokens,
        )
    return retriever


def _from_encoder(config: RetrieverTraining, prepared: PreparedFolder) -> TrainedRetriever:
    """Returns a retriever with the weights of `encoder_dir`, whose tokenizer and prompts the pairs must have."""
    tokenizer = prepared.tokenizer()
    at_most = {} if config.max_tokens else {"at_most": prepared.cut_at()}
    retriever = TrainedRetriever.load(
        config.encoder_dir,
        seed=config.settings.seed,
        dtype=dtype_policy(config.settings.precision, training=True),
        dropout=config.dropout,
        lower_case=tokenizer.lower_case,
        **_given_sizes(config),
        **at_most,
    )
    _check_same_texts(config, prepared, retriever, tokenizer)
    retriever.prompts = prepared.prompts()
    return retriever


def _random(config: RetrieverTraining, prepared: PreparedFolder) -> TrainedRetriever:
    """Returns a retriever with random weights."""
    if config.pooled_layer is not None:
        raise ValueError("pooled_layer chooses a layer of an encoder. Give --encoder_dir, too.")
    tokenizer = prepared.tokenizer()
    bert = dataclasses.replace(config.random_bert, vocab_size=tokenizer.vocab_size, pad_id=tokenizer.pad_id)
    bert = bert.with_dropout(config.dropout)
    sizes = {"max_tokens": longest_text(bert, prepared.cut_at())} | _given_sizes(config)
    policy = dtype_policy(config.settings.precision, training=True)
    model = Retriever(RetrieverConfig(bert, **sizes), config.settings.seed, policy)
    return TrainedRetriever(model, tokenizer, prompts=prepared.prompts())


def _given_sizes(config: RetrieverTraining) -> dict[str, Any]:
    """Returns the chosen settings of the model; all others come from the encoder's folder or are defaults."""
    names = ("head", "head_width", "head_depth", "head_dropout", "pooling", "pooled_layer", "max_tokens")
    sizes = {name: getattr(config, name) for name in names}
    sizes["matryoshka_dims"] = config.loss.matryoshka_dims or None
    return {name: value for name, value in sizes.items() if value is not None}


def _check_same_texts(
    config: RetrieverTraining, prepared: PreparedFolder, retriever: TrainedRetriever, tokenizer: Tokenizer
) -> None:
    """Raises a ValueError if the encoder tokenizes texts differently from the prepared pairs."""
    remedy = f"Prepare it again with --tokenizer={config.encoder_dir}."
    if retriever.tokenizer.fingerprint != tokenizer.fingerprint:
        raise ValueError(
            f"{prepared.path} was prepared with another vocabulary than that of {config.encoder_dir}. {remedy}"
        )
    if retriever.prompts and retriever.prompts != prepared.prompts():
        raise ValueError(
            f"{prepared.path} was prepared with {prepared.prompts()}; {config.encoder_dir} says "
            f"{retriever.prompts}. {remedy}"
        )
