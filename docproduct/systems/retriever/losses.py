"""Losses of the retriever over unit vectors, and the candidates that are no negatives.

    B pairs in a batch (of one replica), K hard negatives a pair, C candidates (all answers and negatives of all
    replicas), D width

Every loss is a sum of terms, one for each pair, so that replicas add theirs up. `gather` returns a tensor's rows of all
replicas.
"""

import dataclasses
import math
from typing import Any

import keras
from keras import ops

from data_pipeline.settings import Settings, setting
from docproduct.training.gradients import Batch, Gather

LOSSES = ("softmax", "symmetric", "cosine_matrix")
_HIGHEST_SCALE = 100.0  # of a learned scale: there the softmax is close to the maximum
PAIR_FEATURES = ("pair_id", "question_group", "answer_group")


@dataclasses.dataclass(frozen=True)
class LossSettings(Settings):
    """Which loss; the help beside each field says what it does.

    softmax: each question's own answer among all candidates. symmetric: the mean of that and of each answer's own
    question among all questions. cosine_matrix: DocProduct's second loss, the distance of the matrix of cosines from
    2 I - 1.
    """

    kind: str = setting(
        "softmax", "Softmax over answers, in both directions (symmetric), or cosine_matrix.", choices=LOSSES
    )
    scale: float = setting(20.0, "Factor on the cosines before the softmax.", above=0)
    learn_scale: bool = setting(False, "Also train the scale (its logarithm).")
    matryoshka_dims: tuple[int, ...] = setting(
        (),
        "Shorter vector lengths to train as well, such as 128,64: the loss is the mean over the whole "
        "vectors and their first components, made unit vectors again.",
    )
    false_negative_margin: float | None = setting(
        None,
        "Leave out candidates whose cosine is this much above the right answer's: they may be unlabeled answers; "
        "default: only equal texts are left out.",
        least=0,
    )
    distillation_weight: float = setting(
        0.0,
        "Share of the loss that is the divergence from a teacher's scores of the right answer and hard negatives.",
        least=0,
        most=1,
    )
    teacher_scale: float = setting(20.0, "Factor on the teacher's scores before their softmax.", above=0)

    def __post_init__(self) -> None:
        """Raises a ValueError for a value out of range, or for settings that contradict each other."""
        super().__post_init__()
        if self.learn_scale and self.kind == "cosine_matrix":
            raise ValueError("cosine_matrix has no scale to be learned. Leave learn_scale out, or choose another loss.")
        if self.learn_scale and self.scale > _HIGHEST_SCALE:
            raise ValueError(f"scale is {self.scale}; expected at most {_HIGHEST_SCALE:g} if it is learned.")
        if any(dims < 1 for dims in self.matryoshka_dims):
            raise ValueError(f"matryoshka_dims are {self.matryoshka_dims}; expected 1 or more.")


class RetrievalLoss(keras.layers.Layer):
    """The loss that the settings describe; it holds the scale if that is learned."""

    def __init__(self, settings: LossSettings):
        super().__init__(name="loss", dtype="float32")
        self.settings = settings
        if settings.learn_scale:
            start = keras.initializers.Constant(math.log(settings.scale))
            self.log_scale = self.add_weight(shape=(), initializer=start, name="log_scale")
        self.built = True

    @property
    def scale(self) -> Any:
        """The factor on the cosines."""
        return (
            ops.minimum(ops.exp(self.log_scale), _HIGHEST_SCALE) if self.settings.learn_scale else self.settings.scale
        )

    def call(
        self,
        question_vectors: Any,
        answer_vectors: Any,
        negative_vectors: Any | None,
        batch: Batch,
        gather: Gather = lambda rows: rows,
    ) -> Any:
        """Returns the loss of each pair.

        Args:
          question_vectors: [B, D] float, unit norm.
          answer_vectors: [B, D] float, unit norm.
          negative_vectors: [B, K, D] float, unit norm; None: no hard negatives.
          batch: "pair_id", "question_group", "answer_group" [B] int64; with hard negatives "negative_question_group"
            and "negative_answer_group" [B, K]; for distillation "teacher_scores" [B, 1 + K] float, the own answer's
            first.
          gather: returns the rows of all replicas.

        Returns:
          [B] float.
        """
        vectors = question_vectors, answer_vectors, negative_vectors
        width = question_vectors.shape[-1]
        lengths = [None, *(dims for dims in self.settings.matryoshka_dims if dims != width)]
        losses = [self._at_length(*(_cut(side, dims) for side in vectors), batch, gather) for dims in lengths]
        return sum(losses) / len(losses)

    def _at_length(self, questions: Any, answers: Any, negatives: Any | None, batch: Batch, gather: Gather) -> Any:
        settings = self.settings
        candidates = gather(answers)
        if negatives is not None:
            candidates = ops.concatenate([candidates, gather(ops.reshape(negatives, (-1, answers.shape[-1])))], axis=0)
        cosines = ops.matmul(questions, ops.transpose(candidates))  # [B, C]
        own, excluded = self._own_and_excluded(cosines, batch, gather)
        if settings.kind == "cosine_matrix":
            loss = cosine_matrix_distance(cosines, own, excluded)
        else:
            loss = softmax_cross_entropy(self.scale * cosines, own, excluded)
        if settings.kind == "symmetric":
            loss = (loss + self._of_answers(questions, answers, batch, gather)) / 2
        if settings.distillation_weight and negatives is not None:
            scores = [ops.sum(questions * answers, axis=-1)[:, None], ops.einsum("bd,bkd->bk", questions, negatives)]
            student = self.scale * ops.concatenate(scores, axis=1)  # [B, 1 + K]
            distance = divergence(settings.teacher_scale * batch["teacher_scores"], student)
            loss = (1 - settings.distillation_weight) * loss + settings.distillation_weight * distance
        return loss

    def _of_answers(self, questions: Any, answers: Any, batch: Batch, gather: Gather) -> Any:
        """Returns the softmax loss in the other direction: each answer's own question among all questions, [B]."""
        pairs = {name: batch[name] for name in PAIR_FEATURES}  # hard negatives have no question here
        cosines = ops.matmul(answers, ops.transpose(gather(questions)))
        own, excluded = self._own_and_excluded(cosines, pairs, gather)
        return softmax_cross_entropy(self.scale * cosines, own, excluded)

    def _own_and_excluded(self, cosines: Any, batch: Batch, gather: Gather) -> tuple[Any, Any]:
        own, excluded = own_and_excluded(batch, gather)
        margin = self.settings.false_negative_margin
        if margin is not None:
            own_cosines = ops.sum(ops.where(own, cosines, 0.0), axis=1, keepdims=True)  # [B, 1]
            above = ops.logical_and(cosines > own_cosines + margin, ops.logical_not(own))
            excluded = ops.logical_or(excluded, above)
        return own, excluded


def own_and_excluded(batch: Batch, gather: Gather) -> tuple[Any, Any]:
    """Returns two masks: which candidates are a question's own answer, and which are excluded from the loss.

    A candidate is no negative of a question where both belong to pairs with an equal question or an equal answer.

    Returns:
      own, excluded: [B, C] bool; candidates are the answers of all replicas, then their hard negatives.
    """

    def equal(name: str) -> Any:  # [B, C]
        candidates = gather(batch[name])
        if f"negative_{name}" in batch:
            negatives = gather(ops.reshape(batch[f"negative_{name}"], (-1,)))
            candidates = ops.concatenate([candidates, negatives], axis=0)
        return ops.equal(batch[name][:, None], candidates[None, :])

    related = ops.logical_or(equal("question_group"), equal("answer_group"))
    own = ops.equal(batch["pair_id"][:, None], gather(batch["pair_id"])[None, :])
    if "negative_answer_group" in batch:
        own = ops.concatenate([own, ops.zeros_like(related[:, ops.shape(own)[1] :])], axis=1)
    return own, ops.logical_and(related, ops.logical_not(own))


def softmax_cross_entropy(logits: Any, own: Any, excluded: Any) -> Any:
    """Returns minus the log-probability of the own candidate, [B], from logits, own and excluded [B, C]."""
    candidates = ops.logsumexp(ops.where(excluded, -1e9, logits), axis=1)  # exp(-1e9) is 0 in float32
    return candidates - ops.sum(ops.where(own, logits, 0.0), axis=1)


def cosine_matrix_distance(cosines: Any, own: Any, excluded: Any) -> Any:
    """Returns the Euclidean distance of each row of the cosines from 1 at the own candidate and -1 elsewhere, [B].

    Source: DocProduct (2019), its second loss: the norm of the rows of the cosine matrix minus (2 I - 1).
    """
    difference = ops.where(excluded, 0.0, cosines - ops.where(own, 1.0, -1.0))
    return ops.sqrt(ops.sum(ops.square(difference), axis=1) + 1e-12)  # the root has no derivative at 0


def divergence(teacher: Any, student: Any) -> Any:
    """Returns the Kullback-Leibler divergence of softmax(student) from softmax(teacher), [B], from logits [B, C]."""
    log_teacher = ops.log_softmax(teacher, axis=1)
    return ops.sum(ops.exp(log_teacher) * (log_teacher - ops.log_softmax(student, axis=1)), axis=1)


def _cut(vectors: Any | None, dims: int | None) -> Any | None:
    """Returns the first components as unit vectors."""
    return vectors if vectors is None or dims is None else ops.normalize(vectors[..., :dims], axis=-1)
