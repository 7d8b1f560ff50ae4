"""What a training starts from: checked pairs, and the model before its first step."""

import dataclasses

from absl import logging

from data_pipeline import splits
from data_pipeline.folders.prepared import PreparedFolder
from docproduct.layers.precision import dtype_policy
from docproduct.systems.retriever.bare_encoder import longest_text
from docproduct.systems.retriever.config import RetrieverTraining
from docproduct.systems.retriever.folder import TrainedRetriever
from docproduct.systems.retriever.model import Retriever, RetrieverConfig

_FEW = 30  # dev pairs


def training_pairs(config: RetrieverTraining) -> PreparedFolder:
    """Returns the pairs; there must be some to train on and some to evaluate with."""
    prepared = PreparedFolder(config.prepared_dir)
    for split in (splits.TRAIN, splits.DEV):
        if not prepared.num_pairs(split):
            raise ValueError(
                f"{prepared.path} has no {split} pairs. Prepare it again with more pairs, or with a "
                f"{'higher' if split == splits.DEV else 'lower'} --dev_share. Pairs of one question are in one split."
            )
    if prepared.num_pairs(splits.TRAIN) < config.settings.batch_size:
        logging.warning(
            "A batch is to hold %d pairs, and there are %d: an epoch is one step. A smaller --batch_size makes more.",
            config.settings.batch_size,
            prepared.num_pairs(splits.TRAIN),
        )
    if prepared.num_pairs(splits.DEV) < _FEW:
        logging.warning(
            "Only %d dev pairs: their metrics say little. Prepare again with a higher --dev_share.",
            prepared.num_pairs(splits.DEV),
        )
    return prepared


def start(config: RetrieverTraining, prepared: PreparedFolder) -> TrainedRetriever:
    """Returns the untrained retriever: the encoder's weights, or random ones; heads that change nothing."""
    tokenizer = prepared.tokenizer()
    seed, dtype = config.settings.seed, dtype_policy(config.settings.precision)
    options = {name: getattr(config, name) for name in ("head", "head_width", "head_depth", "head_dropout")}
    options |= {"matryoshka_dims": config.loss.matryoshka_dims or None, "pooling": config.pooling}
    options |= {"pooled_layer": config.pooled_layer}
    options |= {"max_tokens": config.max_tokens, "at_most": None if config.max_tokens else prepared.cut_at()}
    options = {name: value for name, value in options.items() if value is not None}
    if config.encoder_dir:
        retriever = TrainedRetriever.load(
            config.encoder_dir,
            dropout=config.dropout,
            lower_case=tokenizer.lower_case,
            seed=seed,
            dtype=dtype,
            **options,
        )
        if retriever.tokenizer.fingerprint != tokenizer.fingerprint:
            raise ValueError(
                f"{prepared.path} was prepared with another vocabulary than that of {config.encoder_dir}. "
                f"Prepare it again with --tokenizer={config.encoder_dir}."
            )
        if retriever.prompts and retriever.prompts != prepared.prompts():
            raise ValueError(
                f"{prepared.path} was prepared with {prepared.prompts()}; {config.encoder_dir} says "
                f"{retriever.prompts}. Prepare it again with --tokenizer={config.encoder_dir}."
            )
        retriever.prompts = prepared.prompts()
    else:
        if config.pooled_layer is not None:
            raise ValueError("pooled_layer chooses a layer of an encoder. Give --encoder_dir, too.")
        bert = dataclasses.replace(config.random_bert, vocab_size=tokenizer.vocab_size, pad_id=tokenizer.pad_id)
        bert = bert.with_dropout(config.dropout)
        options.setdefault("max_tokens", longest_text(bert, options.pop("at_most", None)))
        settings = RetrieverConfig(bert, **options)
        retriever = TrainedRetriever(Retriever(settings, seed, dtype), tokenizer, prompts=prepared.prompts())
    # Training on more of a text than the model will see when it is used would be learning for another task.
    if prepared.longest() > retriever.config.max_tokens:
        raise ValueError(
            f"{prepared.path} has texts of up to {prepared.longest()} tokens; this model is to take "
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
