"""Trains the retriever, a BERT bi-encoder, or the reranker, a BERT cross-encoder, on a prepared folder.

    python train_embeddings.py --prepared_dir=/tmp/prepared --encoder_dir=MODEL_FOLDER --model_dir=/tmp/model
    python -m docproduct.negatives --model_dir=/tmp/model --prepared_dir=/tmp/prepared --output_dir=/tmp/negatives
    python train_embeddings.py --task=reranker --prepared_dir=/tmp/prepared --retriever_dir=/tmp/model \
        --negatives_dir=/tmp/negatives --model_dir=/tmp/reranker

On a laptop, `make demo` trains the same system on the bundled sample. The encoder may be in Google's or Hugging Face's
layout; without one, a small BERT with random weights is trained. Ends with one line of JSON: the metrics of the epoch
that was kept.
"""

import dataclasses

from absl import app, flags

from data_pipeline.settings import define_flags, descriptions, flag_values
from docproduct.systems.reranker.config import RerankerTraining
from docproduct.systems.reranker.train import train as train_reranker
from docproduct.systems.retriever.config import RetrieverTraining
from docproduct.systems.retriever.losses import LossSettings
from docproduct.systems.retriever.train import train
from docproduct.training import training_flags
from docproduct.training.settings import TrainingSettings

_RETRIEVER, _RERANKER = "retriever", "reranker"
_LEARNING_RATE = TrainingSettings().learning_rate
_LEARNING_RATE_OF_HEADS = 1e-3  # trained alone, on vectors that do not change
_RERANKER_SETTINGS = RerankerTraining("", "", "").settings
_LOSS_NAMES = {"kind": "loss"}
_SHARED = [name for name in descriptions(RerankerTraining) if name in descriptions(RetrieverTraining)]


def _define_flags() -> None:
    flags.DEFINE_enum("task", _RETRIEVER, (_RETRIEVER, _RERANKER), "Model to train.")
    define_flags(RetrieverTraining)
    define_flags(LossSettings, names=_LOSS_NAMES)
    # Without a default: each task has its own.
    define_flags(RerankerTraining, but=_SHARED, retriever_dir=None)
    rates = (
        f"{_LEARNING_RATE:g}, with --freeze_bert {_LEARNING_RATE_OF_HEADS:g}, "
        f"with --task=reranker {_RERANKER_SETTINGS.learning_rate:g}"
    )
    training_flags.define(TrainingSettings(), rates)


def _config() -> RetrieverTraining:
    training_flags.check_task(but=[name for name in descriptions(RerankerTraining) if name not in _SHARED])
    rate = _LEARNING_RATE_OF_HEADS if flags.FLAGS.freeze_bert else _LEARNING_RATE
    return RetrieverTraining(
        **flag_values(RetrieverTraining),
        loss=LossSettings(**flag_values(LossSettings, names=_LOSS_NAMES)),
        settings=training_flags.settings(rate),
    )


def _reranker_config() -> RerankerTraining:
    """Returns the settings of a reranker; a flag that is not given has the reranker's default."""
    of_loss = [_LOSS_NAMES.get(name, name) for name in descriptions(LossSettings)]
    training_flags.check_task(
        but=[*(name for name in descriptions(RetrieverTraining) if name not in _SHARED), *of_loss]
    )
    values = flag_values(RerankerTraining)
    given = {name: value for name, value in values.items() if flags.FLAGS[name].present}
    if missing := [name for name in ("retriever_dir", "negatives_dir") if name not in given]:
        raise ValueError(f"A reranker needs --{missing[0]}: the retriever whose hits it reorders, and hard negatives.")
    settings = training_flags.settings(_RERANKER_SETTINGS.learning_rate)
    if not flags.FLAGS["batch_size"].present:
        settings = dataclasses.replace(settings, batch_size=_RERANKER_SETTINGS.batch_size)
    return RerankerTraining(**given, settings=settings)


_TASKS = {_RETRIEVER: (train, _config), _RERANKER: (train_reranker, _reranker_config)}


def main(argv: list[str]) -> None:
    """Trains what the flags describe."""
    values = flags.FLAGS
    with training_flags.errors_on_one_line():
        strategy = training_flags.set_up(argv)
        train_model, config = _TASKS[values.task]
        history = train_model(config(), values.model_dir, values.resume, values.overwrite, strategy)
    training_flags.show(history)


if __name__ == "__main__":
    _define_flags()
    app.run(main)
