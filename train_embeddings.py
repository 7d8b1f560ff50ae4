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

_PREPARED_DIR = flags.DEFINE_string("prepared_dir", None, "What data_pipeline.prepare wrote.", required=True)
_MODEL_DIR = flags.DEFINE_string("model_dir", None, "The model folder to write.", required=True)
_ENCODER_DIR = flags.DEFINE_string("encoder_dir", None, "Encoder to start from; none: a small random BERT.")
_RESUME = flags.DEFINE_bool("resume", False, "Continue the interrupted run in model_dir.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace model_dir.")

_POOLING = flags.DEFINE_enum("pooling", None, ["mean", "cls"], "Default: what the encoder's folder says, else mean.")
_MAX_TOKENS = flags.DEFINE_integer("max_tokens", None, "Longest text; default: as the encoder's folder says, or 256.")
_HEAD_DROPOUT = flags.DEFINE_float("head_dropout", _DEFAULTS.head_dropout, "Dropout inside the heads.")
_SCALE = flags.DEFINE_float("scale", _DEFAULTS.scale, "Factor on the cosines before the softmax.")
_FREEZE_BERT = flags.DEFINE_bool("freeze_bert", _DEFAULTS.freeze_bert, "Train the heads only.")
_DEV_TRAIN_ANSWERS = flags.DEFINE_integer(
    "dev_train_answers", _DEFAULTS.dev_train_answers, "Answers of train among dev's candidates.", lower_bound=0
)

_HELP = {
    "epochs": "Passes over the training pairs.",
    "batch_size": "Pairs in a batch: the candidates of the in-batch softmax.",
    "learning_rate": "Peak of the learning rate.",
    "warmup_share": "Share of the steps in which the learning rate rises.",
    "weight_decay": "AdamW's weight decay.",
    "clip_norm": "Largest global norm of the gradients.",
    "precision": "auto, float32 or bfloat16.",
    "checkpoint_steps": "Steps between two checkpoints.",
    "seed": "Of weights, dropout and order.",
    "deterministic": "Repeatable ops, which may be slower.",
}
_DEFINERS = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
_SETTINGS = {
    field.name: _DEFINERS[type(field.default)](field.name, field.default, _HELP[field.name])
    for field in dataclasses.fields(training.TrainingSettings)
}


def main(argv: list[str]) -> None:
    """Trains what the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    logging.set_verbosity(logging.INFO)
    training.set_up(_SETTINGS["seed"].value, _SETTINGS["deterministic"].value)
    try:
        config = retriever.RetrieverTraining(
            prepared_dir=_PREPARED_DIR.value,
            encoder_dir=_ENCODER_DIR.value,
            pooling=_POOLING.value,
            max_tokens=_MAX_TOKENS.value,
            head_dropout=_HEAD_DROPOUT.value,
            scale=_SCALE.value,
            freeze_bert=_FREEZE_BERT.value,
            dev_train_answers=_DEV_TRAIN_ANSWERS.value,
            settings=training.TrainingSettings(**{name: flag.value for name, flag in _SETTINGS.items()}),
        )
        history = retriever.train(config, _MODEL_DIR.value, _RESUME.value, _OVERWRITE.value)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps({"model_dir": _MODEL_DIR.value, **history["best"]}))


if __name__ == "__main__":
    app.run(main)
