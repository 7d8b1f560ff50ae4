"""The triage model as a SavedModel: ids or texts to probabilities and encoder states; and its decoder beside it.

triage            text_ids [B, T] int32     -> probs [B, L], familiarity [B],
                                              encoder_states [B, T, D], encoder_mask [B, T]
triage_text       texts [B] string          -> the same, if a graph can run the tokenizer
serving_default   triage_text, or triage

EXPORT/1/assets.extra/          config.json, the tokenizer, the encoder's prompt
EXPORT/1/assets.extra/reply/    the decoder, as docproduct.generation exports it

B texts, T tokens, D width, L labels
"""

import dataclasses
import os

import tensorflow as tf

from data_pipeline.folders import files
from docproduct.exports import saved_models
from docproduct.generation.export import export as export_generator
from docproduct.systems.triage.folder import TrainedTriage

KIND = "docproduct exported triage"
FORMAT = 1
REPLY_FOLDER = "reply"
_WARMUP_TEXT = "I have a headache."


def export(triage: TrainedTriage, export_dir: str) -> str:
    """Writes the next version of an export, whole or not at all.

    Args:
      triage: the model in float32, as `TrainedTriage.load` returns it.
      export_dir: the folder of the versions; see saved_models.py.

    Returns:
      The version's folder.

    Raises:
      ValueError: the model is in another precision.
      FileExistsError: `export_dir` holds something else.
    """
    policy = triage.model.bert.dtype_policy.name
    if policy != "float32":
        raise ValueError(f"The triage model is in {policy}; expected float32. Load it with TrainedTriage.load.")
    with saved_models.new_version(export_dir, KIND) as partial:
        module = _Served(triage)
        functions = {"triage": saved_models.traced(module.triage, {"text_ids": tf.TensorSpec([None, None], tf.int32)})}
        requests = {"triage": {"text_ids": triage.token_ids([_WARMUP_TEXT])}}
        if triage.tokenizer.in_graph:
            functions["triage_text"] = saved_models.traced(
                module.triage_text, {"texts": tf.TensorSpec([None], tf.string)}
            )
            requests["triage_text"] = {"texts": [_WARMUP_TEXT]}
        functions["serving_default"] = functions.get("triage_text", functions["triage"])
        saved_models.save(partial, module, functions, requests)
        own = saved_models.own_files(partial)
        config = {"kind": KIND, "format": FORMAT, "fingerprint": triage.fingerprint(), "signatures": list(functions)}
        config |= {"triage": dataclasses.asdict(triage.config), "calibration": dataclasses.asdict(triage.calibration)}
        files.write_json(os.path.join(own, saved_models.CONFIG_FILE), config)
        triage.tokenizer.save(own)
        triage.prompts.save(own)
        if triage.generator:
            export_generator(triage.generator, os.path.join(own, REPLY_FOLDER))
    return saved_models.newest(export_dir)


class _Served(tf.Module):
    """The computations of a version, with their variables."""

    def __init__(self, triage: TrainedTriage):
        super().__init__()
        self._triage = triage
        if triage.tokenizer.in_graph:
            triage.tokenizer.encode([_WARMUP_TEXT], 3)  # makes its tables here, not inside a graph that is traced
        # TensorFlow's own variables: a session would restore copies of Keras' variables.
        self.weights = [variable.value for variable in triage.model.weights]

    def triage(self, text_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B, T] -> probabilities, states and mask."""
        logits, states = self._triage.model(text_ids)
        mask = tf.cast(text_ids != self._triage.tokenizer.pad_id, tf.int32)
        probs = tf.nn.softmax(logits / self._triage.calibration.temperature)
        familiarity = self._triage.model.familiarity(self._triage.model.pool(states, text_ids))
        encoder = {"encoder_states": tf.cast(states, tf.float32), "encoder_mask": mask}
        return {"probs": probs, "familiarity": familiarity, **encoder}

    def triage_text(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] -> probabilities, states and mask."""
        triage = self._triage
        ids = triage.tokenizer.encode(tf.strings.join([triage.prompts.question, texts]), triage.config.max_tokens)
        return self.triage(ids.to_tensor(triage.tokenizer.pad_id))
