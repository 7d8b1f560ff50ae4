"""A bias that decides how often a model refuses: it is added to the logit of the refusal's first token.

Only for models trained on rows of numbered sources, whose answers begin with [ or with the refusal: their first token
decides whether they answer; see data_pipeline/prompts/chat_prompts.py. Models order questions well by the logit of that
token, but where to refuse differs from table to table.

    refusal.json      in a model's folder: the bias, and what share of questions was refused with it
"""

import dataclasses
import math
import os
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from data_pipeline.folders import files
from data_pipeline.settings import Settings, from_json, setting
from docproduct.systems.generator.model import LanguageModel

FILE = "refusal.json"
LEAST_QUESTIONS = 20  # one of them is 5 %
_STEPS = 1_000  # of the bias between two whole numbers; it is rounded down, so that the limit holds


@dataclasses.dataclass(frozen=True)
class RefusalSettings(Settings):
    """Where to refuse."""

    num_questions: int = setting(60, "Maximum number of questions to fit on.", least=LEAST_QUESTIONS)
    refused_share: float = setting(0.7, "Share of questions without their source to refuse.", above=0, below=1)
    most_wrong: float = setting(
        0.05,
        "Maximum share of questions with their source to refuse; takes precedence over refused_share.",
        least=0,
        below=1,
    )


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A fitted bias.

    Attributes:
      bias: added to the logit of the refusal's first token.
      absent_refused: share of the questions without their source that are refused with it.
      present_refused: the same of the questions with their source.
      num_questions: number of questions.
      prepared: fingerprint of the prepared folder that they are from.
    """

    bias: float
    absent_refused: float
    present_refused: float
    num_questions: int
    prepared: str = ""


def margins(model: LanguageModel, prompts: Iterable[Sequence[int]]) -> np.ndarray:
    """Returns the logit of the refusal's first token minus the largest other logit, [P] float32; above 0 it is written.

    Args:
      model: a chat model; its own bias is not added.
      prompts: token ids of each of P prompts.
    """
    first = model.refusal_id

    @tf.function(input_signature=[tf.TensorSpec([1, None], tf.int32)], autograph=False)
    def of_prompt(ids: tf.Tensor) -> tf.Tensor:
        states, _ = model.prefill(ids, tf.ones_like(ids, tf.bool), tf.shape(ids)[1])
        logits = model.logits(states[:, -1:])[0, 0]
        others = tf.where(tf.range(model.vocab_size) == first, logits.dtype.min, logits)
        return logits[first] - tf.reduce_max(others)

    return np.array([of_prompt(tf.constant([list(ids)])).numpy() for ids in prompts], np.float32)


def fit(present: np.ndarray, absent: np.ndarray, settings: RefusalSettings = RefusalSettings()) -> Refusal:
    """Returns the bias that refuses `refused_share` of `absent`, or fewer, to refuse at most `most_wrong` of `present`.

    Args:
      present: [Q] `margins` of questions with their source.
      absent: [Q] the same of questions without it.
      settings: where to refuse.
    """
    wanted = np.quantile(-absent, settings.refused_share)
    # A question is refused if its -margin is below the bias: below the limit are as many as may be refused.
    limit = np.sort(-present)[int(settings.most_wrong * len(present))]
    bias = math.floor(float(min(wanted, limit)) * _STEPS) / _STEPS
    refused = (float(np.mean(part + bias > 0)) for part in (absent, present))
    return Refusal(bias, *refused, num_questions=len(absent))


def save(refusal: Refusal, folder: str) -> None:
    """Writes refusal.json into a model's folder."""
    files.write_json(os.path.join(folder, FILE), dataclasses.asdict(refusal))


def load(folder: str) -> Refusal | None:
    """Returns what refusal.json holds; None if there is none.

    Raises:
      ValueError: it is damaged.
    """
    path = os.path.join(folder, FILE)
    stored = files.read_json(path)
    if stored is None:
        return None
    bias = stored.get("bias", 0.0) if isinstance(stored, dict) else stored
    if not isinstance(bias, int | float) or not math.isfinite(bias):
        raise ValueError(f"The bias in {path} is {bias!r}; expected a finite number. Run docproduct.fit_refusal again.")
    return from_json(Refusal, stored, path)
