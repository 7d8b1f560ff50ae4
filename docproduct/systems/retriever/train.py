"""Training of the retriever on a prepared folder."""

import dataclasses
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from absl import logging

from data_pipeline import batches, files, splits
from data_pipeline.prepared import PreparedFolder
from docproduct import metrics, training
from docproduct.layers.bert import BertConfig
from docproduct.systems.retriever.folder import CONFIG_FILE, TrainedRetriever, default_max_tokens, load_encoder
from docproduct.systems.retriever.model import Retriever, RetrieverConfig, in_batch_softmax

_FEW = 30  # dev pairs


@dataclasses.dataclass(frozen=True)
class RetrieverTraining:
    """What to train, from what, on what.

    Attributes:
      prepared_dir: the prepared folder.
      encoder_dir: the encoder to start from; None: a BERT of `random_bert`'s sizes with random weights.
      random_bert: sizes without vocab_size and pad_id, which the prepared folder's tokenizer decides.
      pooling: mean or cls; None: what the encoder's folder says, else mean.
      max_tokens: longest text that the trained model encodes; None: what the encoder's folder says, else 256.
      head_dropout: rate inside the heads.
      scale: factor on the cosines.
      freeze_bert: train the heads only.
      num_buckets: classes of like length that batches are drawn from; 1: batches at random.
      boundaries: the lengths that divide them; None: the data's quantiles.
      pad_to_multiple: padded lengths are multiples of it.
      dev_train_answers: answers of train that stand beside dev's as candidates in evaluation.
      settings: the loop's.
    """

    prepared_dir: str
    encoder_dir: str | None = None
    random_bert: BertConfig = BertConfig(width=128, num_layers=2, num_heads=2, inner_width=512, max_positions=256)
    pooling: str | None = None
    max_tokens: int | None = None
    head_dropout: float = 0.1
    scale: float = 20.0
    freeze_bert: bool = False
    num_buckets: int = 16
    boundaries: tuple[int, ...] | None = None
    pad_to_multiple: int = 1
    dev_train_answers: int = 2_000
    settings: training.TrainingSettings = training.TrainingSettings()


def train(
    config: RetrieverTraining,
    model_dir: str,
    resume: bool = False,
    overwrite: bool = False,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, Any]:
    """Trains a retriever and writes its folder.

    Args:
      config: what to train.
      model_dir: the folder; weights stand in it as soon as the untrained model has been scored.
      resume: continue a run that was interrupted, with the same config.
      overwrite: replace `model_dir`.
      strategy: where to train; None: on the default device.

    Returns:
      What metrics.json holds, see `training.fit`.

    Raises:
      ValueError: the prepared folder is unfinished, has no dev pairs, or was made with another tokenizer.
      FileExistsError: `model_dir` is there, and neither `resume` nor `overwrite` is on.
    """
    prepared = PreparedFolder(config.prepared_dir)
    for split in (splits.TRAIN, splits.DEV):
        if not prepared.num_pairs(split):
            raise ValueError(
                f"{prepared.path} has no {split} pairs. Prepare it again, with more pairs or a higher --dev_share."
            )
    if prepared.num_pairs(splits.DEV) < _FEW:
        logging.warning(
            "Only %d dev pairs: their metrics say little. Prepare again with a higher --dev_share.",
            prepared.num_pairs(splits.DEV),
        )
    if resume and overwrite:
        raise ValueError("resume and overwrite contradict each other. Give one of them.")
    how = batches.BatchSettings(
        config.settings.batch_size,
        config.num_buckets,
        config.boundaries,
        pad_to_multiple=config.pad_to_multiple,
        seed=config.settings.seed,
    )
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        retriever = _start(config, prepared)
    model = retriever.model
    model.bert.trainable = not config.freeze_bert
    record = {"training": dataclasses.asdict(config), "prepared": prepared.fingerprint()}
    record["start"] = retriever.fingerprint()  # the encoder's weights and the seed
    record["dtype_policy"] = model.bert.dtype_policy.name  # what precision=auto has chosen
    if resume and os.path.exists(os.path.join(model_dir, CONFIG_FILE)):
        _check_same_run(model_dir, record)
        if finished := files.read_json(os.path.join(model_dir, training.METRICS_FILE)):
            logging.info("The training in %s has ended before; nothing is left to do.", model_dir)
            return finished
    else:
        if resume:
            logging.info("There is no run in %s yet: it begins.", model_dir)
        _claim(model_dir, retriever, record, overwrite)

    def loss(batch: training.Batch, gather: training.Gather) -> tf.Tensor:
        vectors = model(batch["question_ids"], batch["answer_ids"], training=True)
        return tf.reduce_sum(in_batch_softmax(*vectors, batch, config.scale, gather))

    pad_id = retriever.tokenizer.pad_id

    task = training.Task(
        model=model,
        loss=loss,
        batches=lambda epoch, skip: batches.training_batches(prepared, splits.TRAIN, how, pad_id, epoch, skip),
        count_tokens=lambda batch: batches.count_tokens(batch, pad_id),
        num_rows=prepared.num_pairs(splits.TRAIN),
        evaluate=dev_evaluation(retriever, prepared, config.dev_train_answers),
        best_metric="RR@10",
        save=lambda: retriever.save_weights(model_dir),
    )
    return training.fit(task, config.settings, model_dir, strategy)


def dev_evaluation(
    retriever: TrainedRetriever, prepared: PreparedFolder, num_train_answers: int
) -> Callable[[], dict[str, float]]:
    """Returns a function that scores dev's questions against dev's answers and a fixed sample of train's.

    Equal answers are one candidate; a question's relevant candidates are the answers of all its pairs.
    """
    columns = ["question", "answer", "question_group", "answer_group"]
    dev = prepared.pairs(columns, splits.DEV).to_pylist()
    questions = {row["question_group"]: row["question"] for row in dev}
    answers = {row["answer_group"]: row["answer"] for row in dev}
    train = prepared.pairs(["answer", "answer_group"], splits.TRAIN)
    # Groups are hashes: the lowest are a random sample, and the same one in every run.
    _, first = np.unique(train["answer_group"].to_numpy(), return_index=True)  # the row of each, groups ascending
    sample = train.take(pa.array(first[:num_train_answers]))
    answers = {row["answer_group"]: row["answer"] for row in sample.to_pylist()} | answers
    question_row = {group: i for i, group in enumerate(questions)}
    answer_column = {group: i for i, group in enumerate(answers)}
    relevant = np.zeros((len(questions), len(answers)), bool)  # [Q, C]
    for row in dev:
        relevant[question_row[row["question_group"]], answer_column[row["answer_group"]]] = True

    def evaluate() -> dict[str, float]:
        question_vectors = retriever.embed(list(questions.values()), "question", progress="dev questions").head
        answer_vectors = retriever.embed(list(answers.values()), "answer", progress="dev answers").head
        ranks = metrics.first_relevant_ranks(question_vectors @ answer_vectors.T, relevant)
        return {"RR@10": metrics.reciprocal_rank(ranks, 10), "Success@1": metrics.success(ranks, 1)}

    return evaluate


def _start(config: RetrieverTraining, prepared: PreparedFolder) -> TrainedRetriever:
    """Returns the untrained retriever: the encoder's weights, or random ones; heads that change nothing."""
    tokenizer = prepared.tokenizer()
    seed, dtype = config.settings.seed, training.dtype_policy(config.settings.precision)
    options = {"head_dropout": config.head_dropout, "scale": config.scale}
    if config.encoder_dir:
        retriever = load_encoder(
            config.encoder_dir, config.pooling, config.max_tokens, tokenizer.lower_case, seed, dtype, **options
        )
        if retriever.tokenizer.fingerprint != tokenizer.fingerprint:
            raise ValueError(
                f"{prepared.path} was prepared with another vocabulary than that of {config.encoder_dir}. "
                f"Prepare it again with --tokenizer={config.encoder_dir}."
            )
    else:
        bert = dataclasses.replace(config.random_bert, vocab_size=tokenizer.vocab_size, pad_id=tokenizer.pad_id)
        max_tokens = config.max_tokens or default_max_tokens(bert)
        settings = RetrieverConfig(bert, config.pooling or "mean", max_tokens, **options)
        retriever = TrainedRetriever(Retriever(settings, seed, dtype), tokenizer)
    # Training on more of a text than the model will see when it is used would be learning for another task.
    if prepared.longest() > retriever.config.max_tokens:
        raise ValueError(
            f"{prepared.path} has texts of up to {prepared.longest()} tokens; this model is to take "
            f"{retriever.config.max_tokens}. Prepare it again with --max_question_tokens and --max_answer_tokens of at "
            f"most that, or train with a higher --max_tokens (the encoder takes {retriever.config.bert.max_positions})."
        )
    return retriever


def _claim(model_dir: str, retriever: TrainedRetriever, record: dict[str, Any], overwrite: bool) -> None:
    """Makes the folder, with everything but the weights."""
    if os.path.isdir(model_dir) and os.listdir(model_dir) and not overwrite:
        raise FileExistsError(
            f"{model_dir} is not empty. Give another folder, --resume to continue an interrupted run, or --overwrite."
        )
    with files.whole_folder(model_dir, overwrite=True) as folder:
        retriever.save_config(folder, record)


def _check_same_run(model_dir: str, record: dict[str, Any]) -> None:
    """Raises a ValueError unless the folder's training was begun with the same data and settings."""
    stored = _flat(files.read_json(os.path.join(model_dir, CONFIG_FILE)))
    # Folders may have moved; what is in them counts.
    record = json.loads(json.dumps(record))  # tuples become lists, as in the file
    current = {name: value for name, value in _flat(record).items() if not name.endswith("_dir")}
    changed = [
        f"{name} was {stored.get(name)!r}, is {now!r}" for name, now in current.items() if stored.get(name) != now
    ]
    if changed:
        raise ValueError(
            f"{model_dir} cannot be resumed with other settings: {'; '.join(changed)}. Give the first ones."
        )


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in nested.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
