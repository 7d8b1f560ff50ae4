"""Exports a trained generator, or a GPT-2 in a published layout, for serving.

    python -m docproduct.export --model_dir=/tmp/answers --export_dir=/tmp/answers_int8 --precision=int8

Ends with one line of JSON.
"""

import json
import sys

from absl import app, flags

from docproduct import training
from docproduct.layers import int8
from docproduct.systems.generator import TrainedGenerator, export
from docproduct.systems.generator.export import PRECISIONS


def main(argv: list[str]) -> None:
    """Exports what the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    values = flags.FLAGS
    precision = values.precision if values.precision != "auto" else "int8" if int8.available() else "float32"
    training.set_up()
    try:
        export(TrainedGenerator.load(values.model_dir), values.export_dir, precision, values.overwrite)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing was written.")
    print(json.dumps({"export_dir": values.export_dir, "precision": precision}))


if __name__ == "__main__":
    flags.DEFINE_string("model_dir", None, "What train_gpt2.py wrote, or a GPT-2 folder.", required=True)
    flags.DEFINE_string("export_dir", None, "The folder to write.", required=True)
    flags.DEFINE_enum("precision", "float32", ["auto", *PRECISIONS], "auto: int8 where TensorFlow has its products.")
    flags.DEFINE_bool("overwrite", False, "Replace export_dir.")
    app.run(main)
