"""Makes rows of token ids from dialogues, in which a model learns the replies, and packs them into windows.

T tokens of a row
"""

import bisect
import collections
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from data_pipeline.corpora import Refusals
from data_pipeline.prompts.chat_template import Message
from data_pipeline.prompts.dialogue_prompts import LearnedIds, format_of, learned_ids
from data_pipeline.prompts.template_sandbox import ConversationRefusedError
from data_pipeline.rows import ASSISTANT, USER, Dialogue
from data_pipeline.token_rows.packing import best_fit
from data_pipeline.tokenizers import CausalTokenizer

REFUSED, UNUSABLE = "the chat template refuses the conversation", "the chat template cannot write the conversation"
NO_ROOM = "the last question leaves no room for a reply"
SHORTENED, DROPPED, CUT, APART = ("dialogues_shortened", "turns_dropped", "replies_cut", "dialogues_reply_by_reply")


class DialogueRow(NamedTuple):
    """A dialogue, or several in one window.

    Attributes:
      ids: [T] int32, token ids.
      texts: [T] int32, the number of the dialogue that a token belongs to, from 1.
      learned: [T] bool, whether the model learns to write it.
    """

    ids: np.ndarray
    texts: np.ndarray
    learned: np.ndarray


class DialogueRows:
    """Makes rows of dialogues, and counts what is left out.

    Attributes:
      counts: dialogues without their oldest turns, these turns, replies without their end, and dialogues of which every
        reply is a row of its own.
      refused: the dialogues without a row, by reason.
    """

    def __init__(self, tokenizer: CausalTokenizer, window: int, system_prompt: str = ""):
        """Takes how rows are made.

        Args:
          tokenizer: of the model.
          window: largest number of tokens of a row.
          system_prompt: what the system says in a dialogue that does not tell; empty: nothing.
        """
        self._tokenizer, self._window, self._system_prompt = tokenizer, window, system_prompt
        self.counts, self.refused = collections.Counter[str](), Refusals()

    def rows(self, dialogue: Dialogue, where: str) -> list[DialogueRow]:
        """Returns the rows of a dialogue: mostly one; none if it is refused.

        A dialogue that is too long loses its oldest turns, up to the next question, until it fits. If the last question
        and its replies alone are too long, they lose their end, so that the model learns no end there.

        Args:
          dialogue: its texts are clean.
          where: its place, for `refused`.
        """
        system = dialogue.system or self._system_prompt
        messages = [{"role": "system", "content": system}] if system else []
        messages += [{"role": role, "content": text} for role, text in zip(dialogue.roles, dialogue.turns, strict=True)]
        try:
            kept = self._without_oldest(messages)
            parts = learned_ids(self._tokenizer, kept)
        except ValueError as error:
            reason = REFUSED if isinstance(error, ConversationRefusedError) else UNUSABLE
            self.refused.add(reason, f"{where}: {error}")
            return []
        fitting = [part for part in parts if any(part.learned[: self._window])]
        if not fitting:
            self.refused.add(NO_ROOM, where)
            return []
        num_dropped = len(messages) - len(kept)
        self.counts += {
            SHORTENED: int(num_dropped > 0),
            DROPPED: num_dropped,
            CUT: sum(len(part.ids) > self._window for part in fitting) + len(parts) - len(fitting),
            APART: int(len(parts) > 1),
        }
        return [self._row(part) for part in fitting]

    def _row(self, part: LearnedIds) -> DialogueRow:
        ids = np.array(part.ids[: self._window], np.int32)
        return DialogueRow(ids, np.ones_like(ids), np.array(part.learned[: self._window]))

    def _without_oldest(self, messages: list[Message]) -> list[Message]:
        """Returns the messages without the oldest exchanges, so that they fit if any do."""
        first = int(messages[0]["role"] not in (USER, ASSISTANT))
        # Where a question follows a reply, an exchange begins.
        speakers = [message["role"] for message in messages[first:]]
        begins = [
            first + place
            for place in range(1, len(speakers))
            if (speakers[place - 1], speakers[place]) == (ASSISTANT, USER)
        ]

        def kept(begin: int) -> list[Message]:
            return [*messages[:first], *messages[begin:]]

        def fits(begin: int) -> bool:
            return self._num_ids(kept(begin)) <= self._window

        if not begins or self._num_ids(messages) <= self._window:
            return messages
        # Fewer exchanges have fewer ids. Bisection is linear in time: each conversation that is too long is followed by
        # half of it, and those that fit are at most a window long.
        return kept(begins[min(bisect.bisect_left(begins, True, key=fits), len(begins) - 1)])

    def _num_ids(self, messages: Sequence[Message]) -> int:
        """Returns the number of ids up to the end of the last reply."""
        ids = format_of(self._tokenizer).ids(self._tokenizer, messages, False)
        ends = [place for place, i in enumerate(ids, 1) if i in self._tokenizer.end_ids]
        return ends[-1] if ends else len(ids)


def packed(rows: Sequence[DialogueRow], window: int) -> list[DialogueRow]:
    """Returns the same rows in windows, several in one; see `packing.best_fit`."""
    return [_joined(rows[place] for place in places) for places in best_fit([len(row.ids) for row in rows], window)]


def _joined(rows: Iterable[DialogueRow]) -> DialogueRow:
    numbered = [row._replace(texts=row.texts * number) for number, row in enumerate(rows, 1)]
    return DialogueRow(*map(np.concatenate, zip(*numbered, strict=True)))
