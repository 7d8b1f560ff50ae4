"""Trains the retriever, a BERT bi-encoder, on a prepared folder.

    python train_embeddings.py --prepared_dir=/tmp/prepared --encoder_dir=MODEL_FOLDER --model_dir=/tmp/model

On a laptop, `make demo` trains the same system on the bundled sample. The encoder may be in Google's or Hugging Face's
layout; without one, a small BERT with random weights is trained. Ends with one line of JSON: the metrics of the epoch
that was kept.
"""

from absl import app, flags

from data_pipeline.settings import define_flags, flag_values
from docproduct.systems.retriever.config import RetrieverTraining
from docproduct.systems.retriever.losses import LossSettings
from docproduct.systems.retriever.train import train
from docproduct.training import training_flags
from docproduct.training.settings import TrainingSettings

_LEARNING_RATE = TrainingSettings().learning_rate
_LEARNING_RATE_OF_HEADS = 1e-3  # trained alone, on vectors that do not change
_LOSS_NAMES = {"kind": "loss"}


def _define_flags() -> None:
    define_flags(RetrieverTraining)
    define_flags(LossSettings, names=_LOSS_NAMES)
    rates = f"{_LEARNING_RATE:g}, with --freeze_bert {_LEARNING_RATE_OF_HEADS:g}"
    training_flags.define(TrainingSettings(), rates)


def _config() -> RetrieverTraining:
    rate = _LEARNING_RATE_OF_HEADS if flags.FLAGS.freeze_bert else _LEARNING_RATE
    return RetrieverTraining(
        **flag_values(RetrieverTraining),
        loss=LossSettings(**flag_values(LossSettings, names=_LOSS_NAMES)),
        settings=training_flags.settings(rate),
    )


def main(argv: list[str]) -> None:
    """Trains what the flags describe."""
    values = flags.FLAGS
    with training_flags.errors_on_one_line():
        strategy = training_flags.set_up(argv)
        history = train(_config(), values.model_dir, values.resume, values.overwrite, strategy)
    training_flags.show(history)


if __name__ == "__main__":
    _define_flags()
    app.run(main)
