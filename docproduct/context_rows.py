"""Which kind of row a question gets in a token folder of retrieved pairs, and the row.

    context        retrieved pairs that do not give the answer away; the target is the pair's own answer
    own, joined, unanswerable       see data_pipeline/token_rows/grounded_rows.py; for chat models. If several questions
                                    have the same answer, an own row shows it under another one than is asked
    alone          no retrieved pairs

A question's kind depends on its pair_id alone: it is the same for every model and in every run.
"""

import collections
import dataclasses
import random
from collections.abc import Iterable, Sequence
from typing import Any

from data_pipeline import cleaning
from data_pipeline.folders.token_folder import TokenRow
from data_pipeline.prompts.answer_prompts import PromptSettings
from data_pipeline.settings import Settings, setting
from data_pipeline.token_rows.grounded_rows import JOINED, KINDS, OWN, UNANSWERABLE, GroundedRows
from data_pipeline.token_rows.pair_rows import PairRows
from data_pipeline.tokenizers import CausalTokenizer
from docproduct.index import Hit
from docproduct.metrics import ngram_share

CONTEXT = "context"
_OWN_ANSWER = 40  # characters: shorter answers, such as "Yes." and "See a doctor.", belong to unrelated questions, too
_ANSWERED = 0.3  # of an answer's 4-grams in the sources: with more, they may answer the question


@dataclasses.dataclass(frozen=True)
class KindShares(Settings):
    """Shares of the questions that get rows of each kind; the others' sources lack the pair that they are asked for."""

    own_share: float = setting(
        0.0,
        "Chat models: share of the questions whose sources hold their own pair; its answer is copied.",
        least=0,
        most=1,
    )
    joined_share: float = setting(
        0.0, "Chat models: share of the questions that are asked together with that of a source.", least=0, most=1
    )
    unanswerable_share: float = setting(
        0.0,
        "Chat models: share of the questions whose sources do not answer them; the target says so.",
        least=0,
        most=1,
    )
    paraphrase_share: float = setting(
        0.0, "Chat models: share of the rows of these kinds whose question is in other words.", least=0, most=1
    )

    def __post_init__(self) -> None:
        """Raises a ValueError for a value out of range, or shares of more than 1 together."""
        super().__post_init__()
        if self.grounded > 1 + 1e-9:
            raise ValueError(
                f"own_share, joined_share and unanswerable_share are {self.grounded:g} together; expected at most 1."
            )

    @property
    def grounded(self) -> float:
        """The share of the questions with rows of these kinds."""
        return self.own_share + self.joined_share + self.unanswerable_share

    def draw(self, pair_id: int) -> str:
        """Returns the kind of a question's row."""
        left = random.Random(f"kind of {pair_id}").random()
        for kind in KINDS:
            left -= getattr(self, f"{kind}_share")
            if left < 0:
                return kind
        return CONTEXT


class OtherQuestions:
    """Questions with equal answers: one of them is asked, and the answer stands under another one.

    They are real other wordings, which teach more than rules that reword.
    """

    def __init__(self, pairs: Iterable[dict[str, Any]]):
        """Takes the pairs: question, answer and split of each."""
        self._questions: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
        for pair in pairs:
            if len(cleaning.normal_form(pair["answer"])) >= _OWN_ANSWER:
                self._questions[self._key(pair)].append(pair["question"])

    def other(self, pair: dict[str, Any], draw: random.Random) -> str:
        """Returns another question of the pair's split with the same answer; its own if there is none."""
        asked = cleaning.normal_form(pair["question"])
        others = [
            question for question in self._questions.get(self._key(pair), []) if cleaning.normal_form(question) != asked
        ]
        return draw.choice(others) if others else pair["question"]

    def _key(self, pair: dict[str, Any]) -> tuple[str, str]:
        return pair["split"], cleaning.normal_form(pair["answer"])


class ContextRows:
    """Makes the row of each question.

    Attributes:
      counts: those of `PairRows`.
    """

    def __init__(
        self,
        tokenizer: CausalTokenizer,
        prompt: PromptSettings,
        shares: KindShares,
        other_questions: OtherQuestions | None = None,
    ):
        """Takes how rows are made.

        Args:
          tokenizer: of the model.
          prompt: size of the prompts.
          shares: of the kinds.
          other_questions: other wordings of questions; default: there are none.

        Raises:
          ValueError: there are shares of kinds for chat models, and the tokenizer has no chat template.
        """
        if shares.grounded and not tokenizer.chat_template:
            raise ValueError(
                "--own_share, --joined_share and --unanswerable_share number the sources, which needs a model with a "
                "chat template. Give another --base_dir, or leave the shares out."
            )
        self._shares = shares
        self._pairs = PairRows(tokenizer, prompt)
        self._grounded = GroundedRows(tokenizer, prompt, shares.paraphrase_share) if shares.grounded else None
        self._other_questions = other_questions or OtherQuestions([])
        self.counts = self._pairs.counts

    def kind(self, pair: dict[str, Any], hits: Sequence[Hit]) -> str:
        """Returns the kind of a pair's row: as the shares draw it, unless what was retrieved does not allow it."""
        kind, sources = self._shares.draw(pair["pair_id"]), "\n".join(hit.answer for hit in hits)
        answered = kind == UNANSWERABLE and ngram_share(pair["answer"], sources) > _ANSWERED
        return OWN if answered or (kind == JOINED and not hits) else kind

    def row(self, pair: dict[str, Any], hits: Sequence[Hit]) -> TokenRow | None:
        """Returns the row of a pair with what was retrieved for it, the nearest first; None if it must be left out."""
        kind, draw = self.kind(pair, hits), random.Random(str(pair["pair_id"]))
        own, others = (pair["question"], pair["answer"]), [(hit.question, hit.answer) for hit in hits]
        if kind == CONTEXT:
            return self._pairs.row(pair["pair_id"], *own, others)
        if kind == JOINED:
            made = self._grounded.joined(own, others[0], others[1:], draw)
        elif kind == OWN:
            asked, stored = pair["question"], self._other_questions.other(pair, draw)
            made = self._grounded.own((stored, pair["answer"]), others, draw, asked)
        else:
            made = self._grounded.unanswerable(pair["question"], others, draw)
        return TokenRow(*made, pair["pair_id"])

    def alone(self, pair: dict[str, Any]) -> TokenRow | None:
        """Returns the row of a pair without retrieved pairs; None if it must be left out."""
        return self._pairs.row(*(pair[name] for name in ("pair_id", "question", "answer")))
