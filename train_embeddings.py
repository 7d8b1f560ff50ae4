"""Trains the retriever, a BERT bi-encoder, on a prepared folder.

    python train_embeddings.py --prepared_dir=/tmp/prepared --encoder_dir=MODEL_FOLDER --model_dir=/tmp/model

On a laptop, `make demo` trains the same system on the bundled sample. The encoder may be in Google's or Hugging Face's
layout; without one, a small BERT with random weights is trained. Ends with one line of JSON: the metrics of the epoch
that was kept.
"""

from typing import TYPE_CHECKING, Any

from absl import app, flags, logging

from docproduct.systems.retriever.config import RetrieverTraining
from docproduct.systems.retriever.losses import LOSSES, LossSettings
from docproduct.systems.retriever.model import HEADS
from docproduct.systems.retriever.pooling import POOLINGS
from docproduct.systems.retriever.train import train
from docproduct.training import training_flags

if TYPE_CHECKING:
    import tensorflow as tf

_DEFAULTS = RetrieverTraining(prepared_dir="")

_LOSS = _DEFAULTS.loss
_LOSS_FLAGS = ("scale", "learn_scale", "false_negative_margin", "distillation_weight", "teacher_scale")
_TRAINING_FLAGS = (
    *(
        "pooling",
        "pooled_layer",
        "max_tokens",
        "dropout",
        "head",
        "head_width",
        "head_depth",
        "head_dropout",
        "freeze_bert",
    ),
    *("negatives_dir", "num_negatives", "cluster_size", "num_buckets", "pad_to_multiple"),
    *("chunk_size", "dev_train_answers"),
)
_LEARNING_RATE = _DEFAULTS.settings.learning_rate
_LEARNING_RATE_OF_HEADS = 1e-3  # alone, on vectors that do not change


def _define_flags() -> None:
    flags.DEFINE_string("prepared_dir", None, "What data_pipeline.prepare wrote.", required=True)
    flags.DEFINE_string("encoder_dir", None, "Encoder to start from; none: a small random BERT.")
    flags.DEFINE_enum("pooling", None, list(POOLINGS), "Default: what the encoder's folder says, else mean.")
    flags.DEFINE_integer("pooled_layer", None, "Layer that is pooled: -1 the last (default), -2 the one before it.")
    flags.DEFINE_integer("max_tokens", None, "Longest text; default: what the pairs were cut at.")
    flags.DEFINE_float("dropout", None, "Dropout inside the encoder; default: as the encoder's folder says.")
    flags.DEFINE_enum("head", None, list(HEADS), "Default: residual (starts as the identity), or as in encoder_dir.")
    flags.DEFINE_integer("head_width", None, "Width inside a head; default: the encoder's.")
    flags.DEFINE_integer("head_depth", None, "Blocks of a residual head, hidden layers of a plain one; default: 1.")
    flags.DEFINE_float("head_dropout", None, "Dropout inside the heads; default: 0.1.")
    flags.DEFINE_bool("freeze_bert", _DEFAULTS.freeze_bert, "Train the heads only, on vectors computed once.")
    flags.DEFINE_enum("loss", _LOSS.kind, LOSSES, "Softmax over answers, both ways (symmetric), or cosine_matrix.")
    flags.DEFINE_float("scale", _LOSS.scale, "Factor on the cosines before the softmax.")
    flags.DEFINE_bool("learn_scale", _LOSS.learn_scale, "Train the scale, too.")
    flags.DEFINE_list("matryoshka_dims", [], "Shorter lengths at which the vectors shall be good, too: 128,64.")
    flags.DEFINE_float("false_negative_margin", None, "Leave out candidates this much above the own answer.")
    flags.DEFINE_float("distillation_weight", _LOSS.distillation_weight, "Share of the distance to a teacher's scores.")
    flags.DEFINE_float("teacher_scale", _LOSS.teacher_scale, "Factor on the teacher's scores before their softmax.")
    flags.DEFINE_string("negatives_dir", None, "Hard negatives that docproduct.negatives found.")
    flags.DEFINE_integer("num_negatives", _DEFAULTS.num_negatives, "Hard negatives a pair and step.")
    flags.DEFINE_integer("chunk_size", _DEFAULTS.chunk_size, "Gradient caching with so many pairs at once; 0: off.")
    flags.DEFINE_integer(
        "cluster_size", _DEFAULTS.cluster_size, "Pairs with like questions that a batch holds together; 1: at random."
    )
    flags.DEFINE_integer("num_buckets", _DEFAULTS.num_buckets, "Classes of like length for batches; 1: any length.")
    flags.DEFINE_list("boundaries", None, "Lengths that divide the buckets; default: the data's quantiles.")
    flags.DEFINE_integer("pad_to_multiple", _DEFAULTS.pad_to_multiple, "Padded lengths are multiples of it.")
    flags.DEFINE_integer(
        "dev_train_answers", _DEFAULTS.dev_train_answers, "Answers of train among dev's candidates.", lower_bound=0
    )
    flags.DEFINE_float(
        "learning_rate", None, f"Its peak; default: {_LEARNING_RATE:g}, with --freeze_bert {_LEARNING_RATE_OF_HEADS:g}."
    )
    training_flags.define(_DEFAULTS.settings, but=("learning_rate",))


def _numbers(flag: str) -> tuple[int, ...]:
    given = flags.FLAGS[flag].value or []
    try:
        return tuple(map(int, given))
    except ValueError:
        raise ValueError(f"--{flag} is {','.join(given)!r}; expected whole numbers with commas between.") from None


def main(argv: list[str]) -> None:
    """Trains what the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    logging.set_verbosity(logging.INFO)
    training_flags.run(flags.FLAGS, _train)


def _train(strategy: "tf.distribute.Strategy") -> dict[str, Any]:
    values = flags.FLAGS
    if values.learning_rate is None:
        values.learning_rate = _LEARNING_RATE_OF_HEADS if values.freeze_bert else _LEARNING_RATE
    config = RetrieverTraining(
        prepared_dir=values.prepared_dir,
        encoder_dir=values.encoder_dir,
        boundaries=_numbers("boundaries") or None,
        loss=LossSettings(
            kind=values.loss,
            matryoshka_dims=_numbers("matryoshka_dims"),
            **{name: values[name].value for name in _LOSS_FLAGS},
        ),
        **{name: values[name].value for name in _TRAINING_FLAGS},
        settings=training_flags.settings(values),
    )
    return train(config, values.model_dir, values.resume, values.overwrite, strategy)


if __name__ == "__main__":
    _define_flags()
    app.run(main)
