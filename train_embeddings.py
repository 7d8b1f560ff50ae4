"""Trains the retriever, a BERT bi-encoder, on a prepared folder.

    python train_embeddings.py --prepared_dir=/tmp/prepared --encoder_dir=MODEL_FOLDER --model_dir=/tmp/model

On a laptop, `make demo` trains the same system on the bundled sample. The encoder may be in Google's or Hugging Face's
layout; without one, a small BERT with random weights is trained. Ends with one line of JSON: the metrics of the epoch
that was kept.
"""

import dataclasses
import json
import sys

from absl import app, flags, logging

from docproduct import training
from docproduct.systems import retriever

_DEFAULTS = retriever.RetrieverTraining(prepared_dir="")

_HELP = {
    "epochs": "Passes over the training pairs.",
    "batch_size": "Pairs in a batch: the candidates of the in-batch softmax.",
    "learning_rate": "Peak of the learning rate.",
    "warmup_share": "Share of the steps in which the learning rate rises.",
    "weight_decay": "AdamW's weight decay.",
    "clip_norm": "Largest global norm of the gradients.",
    "checkpoint_steps": "Steps between two checkpoints.",
    "seed": "Of weights, dropout and order.",
}
_SETTINGS = dataclasses.fields(training.TrainingSettings)


def _define_flags() -> None:
    flags.DEFINE_string("prepared_dir", None, "What data_pipeline.prepare wrote.", required=True)
    flags.DEFINE_string("model_dir", None, "The model folder to write.", required=True)
    flags.DEFINE_string("encoder_dir", None, "Encoder to start from; none: a small random BERT.")
    flags.DEFINE_bool("resume", False, "Continue the interrupted run in model_dir.")
    flags.DEFINE_bool("overwrite", False, "Replace model_dir.")
    flags.DEFINE_enum("pooling", None, ["mean", "cls"], "Default: what the encoder's folder says, else mean.")
    flags.DEFINE_integer("max_tokens", None, "Longest text; default: as the encoder's folder says, or 256.")
    flags.DEFINE_float("head_dropout", _DEFAULTS.head_dropout, "Dropout inside the heads.")
    flags.DEFINE_float("scale", _DEFAULTS.scale, "Factor on the cosines before the softmax.")
    flags.DEFINE_bool("freeze_bert", _DEFAULTS.freeze_bert, "Train the heads only.")
    flags.DEFINE_integer("num_buckets", _DEFAULTS.num_buckets, "Classes of like length for batches; 1: at random.")
    flags.DEFINE_list("boundaries", None, "Lengths that divide the buckets; default: the data's quantiles.")
    flags.DEFINE_integer("pad_to_multiple", _DEFAULTS.pad_to_multiple, "Padded lengths are multiples of it.")
    flags.DEFINE_integer(
        "dev_train_answers", _DEFAULTS.dev_train_answers, "Answers of train among dev's candidates.", lower_bound=0
    )
    flags.DEFINE_bool("deterministic", False, "Repeatable ops, which may be slower.")
    flags.DEFINE_enum(
        "precision", _DEFAULTS.settings.precision, ["auto", "float32", "bfloat16"], "auto: bfloat16 where it is fast."
    )
    define = {int: flags.DEFINE_integer, float: flags.DEFINE_float}
    for field in (field for field in _SETTINGS if field.name in _HELP):
        define[type(field.default)](field.name, field.default, _HELP[field.name])


def main(argv: list[str]) -> None:
    """Trains what the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    logging.set_verbosity(logging.INFO)
    values = flags.FLAGS
    training.set_up(values.seed, values.deterministic)
    try:
        config = retriever.RetrieverTraining(
            prepared_dir=values.prepared_dir,
            encoder_dir=values.encoder_dir,
            pooling=values.pooling,
            max_tokens=values.max_tokens,
            head_dropout=values.head_dropout,
            scale=values.scale,
            freeze_bert=values.freeze_bert,
            num_buckets=values.num_buckets,
            boundaries=tuple(map(int, values.boundaries)) if values.boundaries else None,
            pad_to_multiple=values.pad_to_multiple,
            dev_train_answers=values.dev_train_answers,
            settings=training.TrainingSettings(**{field.name: values[field.name].value for field in _SETTINGS}),
        )
        history = retriever.train(config, values.model_dir, values.resume, values.overwrite)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"interrupted: {values.model_dir} holds the last checkpoint. Go on with the same flags and --resume.")
    print(json.dumps({"model_dir": values.model_dir, **history["best"]}))


if __name__ == "__main__":
    _define_flags()
    app.run(main)
