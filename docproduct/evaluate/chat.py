"""Evaluates replies to dialogues: a model beside the one that it was trained from, with and without sources.

    perplexity    of the reference reply's tokens, behind the prompt that the reply was written from
    ROUGE-L       of the reply and the reference reply
    similarity    cosine of both by the retriever's encoder; this is not BERTScore, which compares token by token
    supported     share of the reply's statements that the turn's sources support, whether or not the model saw them
    named         share of replies that name the disease of the dialogue
    named first   share of replies that name it before any other disease
    diseases      number of diseases that a reply names
    words         number of words of a reply

The disease of a dialogue is known if its reference reply names exactly one topic of the index; see topics.py.

    Q dialogues, S systems
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from data_pipeline import splits
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prompts.chat_template import Message
from data_pipeline.prompts.dialogue_prompts import format_of
from data_pipeline.rows import ASSISTANT, DIALOGUE, USER
from data_pipeline.settings import REQUIRED, Settings, setting
from docproduct.answering import Answer, Answerer
from docproduct.answering.support import SupportChecker, support_share
from docproduct.chatting import Chat, Conversation, Reply, ReplySettings
from docproduct.chatting.reply import ReplyDraft
from docproduct.evaluate.topics import Topics
from docproduct.generation.session import GenerationSession
from docproduct.metrics import rouge_l
from docproduct.systems.generator.dev import asked_of

METRICS = ("perplexity", "ROUGE-L", "similarity", "supported", "named", "named first", "diseases", "words")
_TOGETHER = 8  # prompts that are written together
_COLUMNS = ("turns", "roles", "system", "dialogue_id")


@dataclasses.dataclass(frozen=True)
class ChatEvaluation(Settings):
    """What is evaluated, and how replies are made."""

    prepared_dir: str = setting(REQUIRED, "Prepared dialogues; those of dev, or of --split, are evaluated.")
    num_dialogues: int = setting(0, "Number of dialogues, spread over all; 0: all.", least=0)
    only_known: bool = setting(False, "Only dialogues whose disease is known.")
    system_prompt: str = setting("", "What the system says in dialogues that do not tell.")
    max_tokens: int = setting(128, "Maximum tokens of a reply.", least=1)


class Asked(NamedTuple):
    """A dialogue to reply to.

    Attributes:
      where: Its id.
      conversation: What is said before the last reply.
      reference: The last reply.
      disease: The topic that the reference alone names; empty: it names none or several.
    """

    where: str
    conversation: Conversation
    reference: str
    disease: str


class Values(NamedTuple):
    """What one system scores, dialogue by dialogue.

    Attributes:
      values: {metric: [Q] float}; of perplexity, the mean negative log-probability of a token, in nats.
      weights: {metric: [Q] float}, how much each counts in a mean: tokens, statements, or 1 where the metric applies.
      replies: The replies.
    """

    values: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    replies: list[Reply]


def read(settings: ChatEvaluation, topics: Topics, split: str = splits.DEV) -> list[Asked]:
    """Returns the dialogues of a split that end with a reply.

    Raises:
      ValueError: There are none, or none whose disease is known if only those are wanted.
    """
    table = PreparedFolder(settings.prepared_dir, DIALOGUE).table(_COLUMNS, split)
    dialogues = [_dialogue(row, settings.system_prompt, topics) for row in table.to_pylist()]
    dialogues = [dialogue for dialogue in dialogues if dialogue.disease or not settings.only_known]
    if not dialogues:
        known = " whose last reply names exactly one topic of the index" if settings.only_known else ""
        raise ValueError(f"{settings.prepared_dir} has no {split} dialogues{known}. Expected one or more.")
    return asked_of(dialogues, settings.num_dialogues or len(dialogues))


def _dialogue(row: dict[str, Any], system_prompt: str, topics: Topics) -> Asked:
    turns = [{"role": role, "content": text} for role, text in zip(row["roles"], row["turns"], strict=True)]
    system = row["system"] or system_prompt
    messages: list[Message] = [*([{"role": "system", "content": system}] if system else []), *turns[:-1]]
    named = topics.named(row["turns"][-1])
    return Asked(
        str(row["dialogue_id"]), Conversation.of(messages), row["turns"][-1], named[0] if len(named) == 1 else ""
    )


class Scoring:
    """Scores the replies of models to the same dialogues, about which the same sources were found."""

    def __init__(self, answerer: Answerer, dialogues: Sequence[Asked], topics: Topics, settings: ChatEvaluation):
        """Searches for the sources of each dialogue.

        Args:
          answerer: Finds the sources; has a generator, which need not be one that is scored.
          dialogues: Q dialogues.
          topics: Those of the index.
          settings: How replies are made.
        """
        self._answerer, self._dialogues, self._topics, self._settings = answerer, dialogues, topics, settings
        chat = Chat(answerer)
        self._answers: list[Answer | None] = [chat.found(dialogue.conversation) for dialogue in dialogues]
        self._num_shown = answerer.generator.prompt.num_contexts
        references = [dialogue.reference for dialogue in dialogues]
        self._references = answerer.retriever.embed_few(references, "answer")  # [Q, D]
        self._checks = [SupportChecker().against(self._sources(answer)) for answer in self._answers]

    def _sources(self, answer: Answer | None) -> list[tuple[str, str]]:
        return [(hit.question, hit.answer) for hit in answer.hits[: self._num_shown]] if answer else []

    def counts(self) -> dict[str, int]:
        """Returns numbers of dialogues.

        Returns:
          dialogues: all; answerable: with a stored answer that is near enough; known: with a known disease. Of these,
          known_in_sources: a source in the prompt is on it; known_in_question: the question names it.
        """
        shown = [[hit.focus for hit in answer.hits[: self._num_shown]] if answer else [] for answer in self._answers]
        known = [
            (dialogue.disease, names)
            for dialogue, names in zip(self._dialogues, shown, strict=True)
            if dialogue.disease
        ]
        return {
            "dialogues": len(self._dialogues),
            "answerable": sum(answer is not None and answer.answerable for answer in self._answers),
            "known": len(known),
            "known_in_sources": sum(disease in self._topics.named("; ".join(names)) for disease, names in known),
            "known_in_question": sum(
                dialogue.disease in self._topics.named(dialogue.conversation.question)
                for dialogue in self._dialogues
                if dialogue.disease
            ),
        }

    def score(self, generator: GenerationSession, grounded: bool, from_memory: bool = False) -> Values:
        """Returns the scores of a model.

        Args:
          generator: The model.
          grounded: Whether it is given the sources.
          from_memory: Whether a grounded model goes on from memory where nothing is near.
        """
        answerer = Answerer(self._answerer.retriever, self._answerer.index, generator)
        chat, sampling = Chat(answerer), answerer.sampling(max_tokens=self._settings.max_tokens)
        settings = ReplySettings(grounded=grounded, from_memory=from_memory, sampling=sampling)
        drafts = [
            chat.draft(dialogue.conversation, settings, answer if grounded else None)
            for dialogue, answer in zip(self._dialogues, self._answers, strict=True)
        ]
        replies = written(generator, drafts)
        nats, num_tokens = self._nats(generator, [draft.prompt_ids for draft in drafts])
        return self._values(replies, nats, num_tokens)

    def _nats(self, generator: GenerationSession, prompts: Sequence[list[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the mean nats of each reference's tokens, and the number of tokens; 0 without a prompt."""
        nats, counts = np.zeros([2, len(prompts)])
        for row, (prompt, dialogue) in enumerate(zip(prompts, self._dialogues, strict=True)):
            if prompt and generator.scorer:
                reply = _target(generator, dialogue.reference)[: generator.window - len(prompt)]
                scores = generator.scorer([*prompt, *reply])
                nats[row], counts[row] = -scores.log_probs[len(prompt) - 1 :].mean(dtype=np.float64), len(reply)
        return nats, counts

    def _values(self, replies: list[Reply], nats: np.ndarray, num_tokens: np.ndarray) -> Values:
        texts = [reply.content for reply in replies]
        named = [self._topics.named(text) for text in texts]
        vectors = self._answerer.retriever.embed_few(texts, "answer")  # [Q, D]
        checked = [check(text) for check, text in zip(self._checks, texts, strict=True)]
        num_checked = [sum(sentence.checkable for sentence in sentences) for sentences in checked]
        diseases = [dialogue.disease for dialogue in self._dialogues]
        known, all_of_them = np.array([bool(name) for name in diseases], float), np.ones(len(texts))
        columns = {
            "perplexity": (nats, num_tokens),
            "ROUGE-L": (
                [rouge_l(dialogue.reference, text) for dialogue, text in zip(self._dialogues, texts, strict=True)],
                all_of_them,
            ),
            "similarity": ((vectors * self._references).sum(axis=1), all_of_them),
            "supported": ([support_share(sentences) or 0.0 for sentences in checked], num_checked),
            "named": ([name in names for name, names in zip(diseases, named, strict=True)], known),
            "named first": ([name in names[:1] for name, names in zip(diseases, named, strict=True)], known),
            "diseases": ([len(names) for names in named], all_of_them),
            "words": ([len(text.split()) for text in texts], all_of_them),
        }
        values, weights = ({name: np.array(pair[i], float) for name, pair in columns.items()} for i in (0, 1))
        return Values(values, weights, replies)


def _target(generator: GenerationSession, reply: str) -> list[int]:
    """Returns the ids of a reply with its end, as the model learns to write them."""
    messages = [{"role": USER, "content": "?"}, {"role": ASSISTANT, "content": reply}]
    return format_of(generator.tokenizer).training_ids(generator.tokenizer, messages)[1]


def written(generator: GenerationSession, drafts: Sequence[ReplyDraft]) -> list[Reply]:
    """Returns the complete reply of each draft; prompts of like length are written together."""
    replies: dict[int, Reply] = {i: draft.begun for i, draft in enumerate(drafts) if not draft.prompt_ids}
    for places in _like_lengths(drafts):
        prompts = [drafts[place].prompt_ids for place in places]
        generations = generator.write(prompts, drafts[places[0]].sampling)
        replies |= {
            place: drafts[place].complete(generation, 0.0)
            for place, (generation,) in zip(places, generations, strict=True)
        }
    return [replies[i] for i in range(len(drafts))]


def _like_lengths(drafts: Sequence[ReplyDraft]) -> Iterator[list[int]]:
    places = [place for place, draft in enumerate(drafts) if draft.prompt_ids]
    places.sort(key=lambda place: len(drafts[place].prompt_ids))
    yield from (places[i : i + _TOGETHER] for i in range(0, len(places), _TOGETHER))
