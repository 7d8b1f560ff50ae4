"""The multiple-choice model as a SavedModel: token ids of questions with their choices to scores.

score              ids, segment_ids, branch_ids [B, T] int32, ends [B, C] int32  -> scores [B, C] float32
serving_default    score

The inputs are those of `questions.Batch`. The softmax of a question's scores ranks its choices; where several may be
right, the sigmoid of a score is the probability of its choice.

EXPORT/1/assets.extra/    config.json, with the threshold and the longest row, and the tokenizer

B questions, T tokens of the longest row, C choices
"""

import os

import tensorflow as tf

from data_pipeline.folders import files
from docproduct.exports import saved_models
from docproduct.systems.multiple_choice.folder import SPEC, TrainedChooser
from docproduct.systems.multiple_choice.model import scores

KIND = "docproduct exported multiple-choice model"
FORMAT = 1
SIGNATURE = "score"
_WARMUP = {"ids": [[0, 0, 0]], "segment_ids": [[1, 1, 1]], "branch_ids": [[0, 1, 2]], "ends": [[1, 2]]}


def export(chooser: TrainedChooser, export_dir: str, precision: str = "float32") -> str:
    """Writes the next version of an export, whole or not at all.

    Args:
      chooser: the model in float32, as `TrainedChooser.load` returns it.
      export_dir: the folder of the versions; see saved_models.py.
      precision: float32, or int8: dense layers with int8 weights, for x86 processors.

    Returns:
      The version's folder.

    Raises:
      ValueError: the model is in another precision, or this machine has no such form.
      FileExistsError: `export_dir` holds something else.
    """
    generator = chooser.generator.for_export(precision)

    def score(**batch: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": scores(generator.decoder, chooser.head, batch, training=False, recompute=False)}

    with saved_models.new_version(export_dir, KIND) as partial, saved_models.without_graph_optimizer():
        module, function = tf.Module(), saved_models.traced(score, SPEC)
        module.weights = list(function.variables)  # without a language model's head, which scores no choice
        functions = dict.fromkeys((SIGNATURE, tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY), function)
        saved_models.save(partial, module, functions, dict.fromkeys(functions, _WARMUP))
        own = saved_models.own_files(partial)
        config = {"kind": KIND, "format": FORMAT, "precision": precision, "fingerprint": chooser.fingerprint()}
        config |= {"max_tokens": chooser.max_tokens, "threshold": chooser.threshold, "window": generator.window}
        config |= {"tokenizer": type(chooser.tokenizer).__name__, "signatures": list(functions)}
        files.write_json(os.path.join(own, saved_models.CONFIG_FILE), config)
        chooser.tokenizer.save(own)
    return saved_models.newest(export_dir)
