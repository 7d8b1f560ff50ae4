"""How readily a model refuses: a bias on the first token of its refusal, fitted on a table of questions and answers.

The first token decides whether a model answers from its sources or refuses; see data_pipeline/prompts/chat_prompts.py.
Models order questions well by how likely that token is, but where to refuse differs from table to table.

    refusal.json      in a model's folder: the bias, and what share of questions was refused with it
"""

import dataclasses
import os
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from data_pipeline.folders import files
from data_pipeline.settings import Settings, from_json, setting
from docproduct.systems.generator.model import LanguageModel

FILE = "refusal.json"


@dataclasses.dataclass(frozen=True)
class RefusalSettings(Settings):
    """Where to refuse."""

    num_questions: int = setting(60, "Questions to fit on, at most.", least=1)
    refused_share: float = setting(
        0.7, "Share of the questions without their source that the model is to refuse.", above=0, below=1
    )
    most_wrong: float = setting(
        0.05, "Share of the questions with their source that it may refuse; this limit comes first.", least=0, below=1
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


def odds(model: LanguageModel, prompts: Iterable[Sequence[int]]) -> np.ndarray:
    """Returns how far the logit of the refusal's first token is above that of any other token, [P] float32.

    Args:
      model: a chat model; its own bias is left out.
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
    """Returns the bias that refuses as many questions as the settings say.

    Args:
      present: [Q] `odds` of questions with their source.
      absent: [Q] the same of questions without it.
      settings: where to refuse.
    """
    wanted = -np.quantile(absent, 1 - settings.refused_share)
    limit = -np.quantile(present, 1 - settings.most_wrong)
    bias = round(float(min(wanted, limit)), 3)
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
    return None if stored is None else from_json(Refusal, stored, path)
