"""Questions with their choices as a language model reads them: the prompt once, and each choice behind it.

    CONTEXT

    Question: FIRST QUESTION OF THE SERIES
    Answer: ITS ANSWER

    Question: QUESTION
    Answer:| CHOICE

B questions in a batch, T tokens of the longest row: a prompt and all its choices; N tokens of all choices;
C choices of the question with most
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from data_pipeline.batches import length_order
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.rows import Choices
from data_pipeline.tokenizers import CausalTokenizer
from docproduct.systems.generator.model import LanguageModel

_COLUMNS = [field.name for field in dataclasses.fields(Choices)]
NO_CHOICE = -1  # the end of a choice that a question does not have
_JOINED = "; "  # several right choices in one answer
_BETWEEN = "\n\n"


@dataclasses.dataclass(frozen=True)
class Asked:
    """A question, and what stands before it in its series.

    Attributes:
      row: the question.
      earlier: earlier questions of its series, each with its answer.
    """

    row: Choices
    earlier: tuple[tuple[str, str], ...] = ()

    def rest(self) -> str:
        """Returns the prompt without the context."""
        turns = [f"Question: {question}\nAnswer: {answer}" for question, answer in self.earlier]
        return _BETWEEN.join([*turns, f"Question: {self.row.question}\nAnswer:"])


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Token ids of a question.

    Attributes:
      prompt_ids: of the prompt.
      choice_ids: of each choice, as it follows the prompt.
      is_cut: whether earlier questions were left out, or context or question cut.
      is_question_cut: whether the beginning of the question was cut, and with it the whole context.
    """

    prompt_ids: list[int]
    choice_ids: list[list[int]]
    is_cut: bool = False
    is_question_cut: bool = False

    def __len__(self) -> int:
        return len(self.prompt_ids) + sum(map(len, self.choice_ids))


@dataclasses.dataclass(frozen=True)
class Batch:
    """Rows of a prompt and all its choices, which see the prompt and themselves.

    Attributes:
      questions: [B] int, their places among all.
      ids: [B, T] int32, padded with 0.
      segment_ids: [B, T] int32: 1, and 0 for padding.
      branch_ids: [B, T] int32: 0 for the prompt, from 1 the number of the choice.
      places: [N, 2] int32, row and column of each token of a choice.
      before: [N] int32, the column of the token before it: in its choice, or the last of the prompt.
      ends: [B, C] int32, the column of the last token of each choice; `NO_CHOICE` where a question has fewer.
    """

    questions: np.ndarray
    ids: np.ndarray
    segment_ids: np.ndarray
    branch_ids: np.ndarray
    places: np.ndarray
    before: np.ndarray
    ends: np.ndarray


def read(prepared: PreparedFolder, split: str) -> list[Asked]:
    """Returns the questions of a split with the right answers of earlier ones, series by series in their order."""
    rows = prepared.table(_COLUMNS, split).to_pylist()
    rows.sort(key=lambda row: (row["series"], row["step"]))  # an order that does not depend on the shards
    asked: list[Asked] = []
    earlier: list[tuple[str, str]] = []
    series = None
    for row in rows:
        row["choices"], row["correct"] = tuple(row["choices"]), tuple(row["correct"])
        if row["series"] != series or row["step"] == 0:  # questions of equal text with other choices are no series
            earlier, series = [], row["series"]
        question = Choices(**row)
        asked.append(Asked(question, tuple(earlier)))
        earlier.append((question.question, answer_of(question, question.correct)))
    return asked


def answer_of(row: Choices, places: Sequence[int]) -> str:
    """Returns the choices at some places as one answer."""
    return _JOINED.join(row.choices[place] for place in places)


def encode(questions: Sequence[Asked], tokenizer: CausalTokenizer, max_tokens: int) -> list[Encoded]:
    """Tokenizes questions, each choice together with what stands before it, as lm-evaluation-harness does.

    Where a row would be longer than `max_tokens`, the first of the earlier questions are left out, then the context is
    cut at its end, then the question at its start.

    Raises:
      ValueError: the choices of a question leave no token for the question.
    """
    opening = list(getattr(tokenizer, "opening_ids", ()))
    (between,) = tokenizer.encode([_BETWEEN])
    contexts = tokenizer.encode([asked.row.context for asked in questions])
    encoded = []
    for asked, context in zip(questions, contexts, strict=True):
        for first in range(len(asked.earlier) + 1):
            prompt = dataclasses.replace(asked, earlier=asked.earlier[first:]).rest()
            rest, *wholes = tokenizer.encode([prompt, *(f"{prompt} {choice}" for choice in asked.row.choices)])
            choice_ids = [whole[len(rest) :] for whole in wholes]
            room = max_tokens - len(opening) - len(rest) - sum(map(len, choice_ids))
            if room >= 0:
                break
        start = max(0, -room)  # of the question, in a row without room
        if start >= len(rest):
            raise ValueError(
                f"The choices of a question have {sum(map(len, choice_ids))} tokens; expected fewer than {max_tokens}, "
                f"with room for the question. It begins with: {asked.row.question[:60]!r}. Shorten them, or give a "
                "larger --max_tokens (in training --row_tokens), up to the model's window."
            )
        kept = context[: max(0, room - len(between))]
        prompt_ids = [*opening, *kept, *(between if kept else []), *rest[start:]]
        is_cut = first > 0 or len(context) > len(kept) or start > 0
        encoded.append(Encoded(prompt_ids, choice_ids, is_cut, start > 0))
    return encoded


def check_model(model: LanguageModel, max_tokens: int) -> None:
    """Raises a ValueError if a model attends to an encoder, or has a smaller window than `max_tokens`."""
    if model.encoder_width:
        raise ValueError("This model attends to an encoder's states. Give a language model without an encoder.")
    check_window(max_tokens, model.window)


def check_window(max_tokens: int, window: int) -> None:
    """Raises a ValueError if a row may have more tokens than the model's window."""
    if max_tokens > window:
        raise ValueError(
            f"A row may have {max_tokens} tokens; expected at most {window}, the model's window. Give a smaller "
            "--max_tokens (in training --row_tokens)."
        )


def tell_cut(encoded: Sequence[Encoded]) -> None:
    """Logs how many questions are read in part."""
    if cut := sum(row.is_cut for row in encoded):
        logging.warning("Of %d of %d questions, context or series are cut: too many tokens.", cut, len(encoded))


def batches(encoded: Sequence[Encoded], batch_tokens: int) -> Iterator[Batch]:
    """Yields batches of questions of similar length, with `batch_tokens` places at most, padding included."""
    for questions in length_order(np.array([len(row) for row in encoded]), batch_tokens):
        yield batch([encoded[place] for place in questions.tolist()], questions)


def batch(rows: Sequence[Encoded], questions: np.ndarray) -> Batch:
    """Returns the batch of some questions; `questions`: their places among all."""
    shape = len(rows), max(map(len, rows))
    ids, segments, branches = (np.zeros(shape, np.int32) for _ in range(3))
    ends = np.full((len(rows), max(len(row.choice_ids) for row in rows)), NO_CHOICE, np.int32)
    places, before = [], []
    for number, row in enumerate(rows):
        column = end = len(row.prompt_ids)
        ids[number, :column] = row.prompt_ids
        for branch, choice_ids in enumerate(row.choice_ids, 1):
            columns = np.arange(column, column + len(choice_ids))
            ids[number, columns], branches[number, columns] = choice_ids, branch
            places += [(number, place) for place in columns.tolist()]
            before += [end - 1, *columns[:-1].tolist()][: len(choice_ids)]
            column += len(choice_ids)
            ends[number, branch - 1] = column - 1
        segments[number, :column] = 1
    return Batch(questions, ids, segments, branches, np.array(places, np.int32), np.array(before, np.int32), ends)
