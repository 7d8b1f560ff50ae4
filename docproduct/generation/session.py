"""Answers to prompts, written by an exported model in a graph session of its own, or by a model in this process."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline.folders import files
from data_pipeline.settings import from_json
from data_pipeline.tokenizers import BytePairs, DecoderTokenizer, EncoderVocabulary
from docproduct.exports import saved_models
from docproduct.exports.graph_session import GraphSession
from docproduct.generation.causal_lm import CausalLM, SessionConfig, Tokenizer
from docproduct.generation.export import FORMAT, KIND, live
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.scoring import Scorer
from docproduct.layers import int8

# By their names in an export's config.json.
_CLASSES = (BytePairs, DecoderTokenizer, EncoderVocabulary)
_TOKENIZERS = {tokenizer.__name__: tokenizer for tokenizer in _CLASSES}
_CHUNK = 16  # tokens that a stream writes before it shows them
_LARGEST_SEED = 2**31 - 1

Run = Callable[[str, dict[str, Any]], dict[str, Any]]
EncoderArrays = tuple[Any, Any]  # states [P, E, D of the encoder] and mask [P, E]


@dataclasses.dataclass(frozen=True)
class Generation:
    """An answer.

    Attributes:
      ids: its tokens, without the end token.
      text: the text of these tokens.
      finished: whether the model ended it; otherwise max_tokens or the window was reached.
      passes: how often the model ran; with prompt look-up less often than there are tokens.
    """

    ids: tuple[int, ...]
    text: str
    finished: bool
    passes: int


class GenerationSession:
    """Writes answers to prompts.

    Attributes:
      tokenizer: of prompts and answers.
      window: largest number of tokens in a prompt and its answer together.
      prompt: how prompts are made, if the model was trained to answer.
      chat_template: Jinja template of a conversation, if the model was trained to chat.
      scorer: tells how likely the model finds a text; None: it cannot, as an export holds no signature for that.
    """

    def __init__(self, tokenizer: Tokenizer, config: SessionConfig, run: Run, scorer: Scorer | None = None):
        """Joins the parts.

        Args:
          tokenizer: of prompts and answers.
          config: what is known of the model.
          run: runs `begin` or `advance` of a `Decoder`.
          scorer: see the class.
        """
        self.scorer = scorer
        self.tokenizer, self._config, self._run = tokenizer, config, run
        self.window, self.prompt, self.chat_template = config.window, config.prompt, config.chat_template

    @classmethod
    def load(cls, folder: str, prepare: bool = False) -> "GenerationSession":
        """Loads what `export` wrote, into a graph session of its own.

        Args:
          folder: an export, whose newest version is taken, or a version.
          prepare: whether to do now what would make the first answer seconds slower than the others.

        Raises:
          ValueError: the folder holds something else, or an int8 model that this machine cannot run.
        """
        if not os.path.isdir(folder):
            raise ValueError(f"There is no folder {folder}. Expected what python -m docproduct.export wrote.")
        version = saved_models.newest(folder)
        path = os.path.join(saved_models.own_files(version), saved_models.CONFIG_FILE)
        stored = files.read_json(path) or {}
        _check_export(folder, stored)
        tokenizer = exported_tokenizer(version, stored)
        config = from_json(SessionConfig, stored["session"], path)
        session = GraphSession(version, config.cache)
        if prepare:
            session.prepare(_first_requests(config.encoder_width))
        return cls(tokenizer, config, session.run)

    @classmethod
    def of(cls, model: CausalLM) -> "GenerationSession":
        """Returns a session that writes with a model of this process, with its weights as they are at each call."""
        functions, config = live(model), SessionConfig.of(model)

        def run(name: str, inputs: dict[str, Any]) -> dict[str, Any]:
            expected = functions[name].structured_input_signature[1]
            tensors = {key: tf.cast(value, expected[key].dtype) for key, value in inputs.items()}
            state = functions[name](**tensors)
            return {key: value if key in config.cache else value.numpy() for key, value in state.items()}

        return cls(model.tokenizer, config, run, None if config.encoder_width else Scorer(model))

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        settings: GenerationSettings = GenerationSettings(),
        lookup: bool = True,
        encoder: EncoderArrays | None = None,
    ) -> list[list[Generation]]:
        """Writes answers to prompts, all of them together.

        All answers end where the window is full for the longest prompt: write prompts of similar length together.

        Args:
          prompts: token ids of each prompt.
          settings: how answers are written.
          lookup: whether to use prompt look-up for a single greedy answer: the same tokens in fewer passes.
          encoder: for a model that attends to an encoder: its states [P, E, D of the encoder] float, and their mask
            [P, E], 1 for a real state, for each of the P prompts.

        Returns:
          `num_samples` answers to each prompt.

        Raises:
          ValueError: there is no prompt, or one is empty, leaves no room in the window, or holds an unknown id; or an
            encoder's states are missing, not expected, or of another shape.
        """
        *_, state = self._states(prompts, settings, lookup, settings.max_tokens, encoder)
        answers = [self._generation(state, row) for row in range(len(state["ids"]))]
        n = settings.num_samples
        return [answers[i : i + n] for i in range(0, len(answers), n)]

    def stream(
        self,
        prompt: Sequence[int],
        settings: GenerationSettings = GenerationSettings(),
        lookup: bool = True,
        encoder: EncoderArrays | None = None,
    ) -> Iterator[Generation]:
        """Yields the growing answer to a prompt, and finally the whole answer.

        Generation stops when the caller stops iterating.

        Args:
          prompt: its token ids.
          settings: how the answer is written, with one sample.
          lookup: as in `write`.
          encoder: as in `write`, with P = 1.

        Raises:
          ValueError: as in `write`, or for more than one sample.
        """
        return (answers[0] for answers in self.stream_many([prompt], settings, lookup, encoder))

    def stream_many(
        self,
        prompts: Sequence[Sequence[int]],
        settings: GenerationSettings = GenerationSettings(),
        lookup: bool = True,
        encoder: EncoderArrays | None = None,
    ) -> Iterator[list[Generation]]:
        """Yields the growing answers to several prompts, one to each; otherwise like `stream`."""
        if settings.num_samples != 1:
            raise ValueError(f"num_samples is {settings.num_samples}; expected 1: a stream shows one answer.")
        self.check(prompts)
        self._encoder(encoder, len(prompts))
        states = self._states(prompts, settings, lookup, _CHUNK, encoder)
        return ([self._generation(state, row) for row in range(len(prompts))] for state in states)

    def _states(
        self,
        prompts: Sequence[Sequence[int]],
        settings: GenerationSettings,
        lookup: bool,
        chunk: int,
        encoder: EncoderArrays | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yields the state after every `chunk` tokens; each chunk costs the time of a few steps."""
        lengths = self.check(prompts)
        of_encoder = self._encoder(encoder, len(prompts))
        longest = int(lengths.max())
        # The longest prompt decides: all texts write into the same slots.
        room = min(settings.max_tokens, self.window - longest)
        ids = np.zeros((len(prompts), longest), np.int32)
        for row, prompt in zip(ids, prompts, strict=True):
            row[: len(prompt)] = prompt
        # The i-th sample of every prompt has the same seed, whatever is written beside it.
        seeds = np.random.default_rng(settings.seed).integers(0, _LARGEST_SEED, settings.num_samples)
        sampling = settings.choice() | {"seeds": np.tile(seeds, len(prompts))}
        first = {"prompt_ids": ids, "prompt_lengths": lengths, "max_tokens": room, **of_encoder, **sampling}
        state = self._run("begin", first)
        yield state
        while not state["finished"].all() and (left := room - _num_written(state)) > 0:
            steps = {"num_tokens": min(left, chunk), "lookup": lookup}
            state = self._run("advance", {**state, **steps, **sampling})
            yield state

    def check(self, prompts: Sequence[Sequence[int]], room: int = 1) -> np.ndarray:
        """Returns the lengths of the prompts, [B].

        Args:
          prompts: token ids of each prompt.
          room: tokens of the window that a prompt leaves to its answer, at least.

        Raises:
          ValueError: there is no prompt, or one is empty, too long, or holds an unknown id.
        """
        if not prompts:
            raise ValueError("There is no prompt; expected one or more.")
        for number, prompt in enumerate(prompts, 1):
            if not 1 <= len(prompt) <= self.window - room:
                answer = " holds the answer, too" if room else " is full"
                raise ValueError(
                    f"Prompt {number} has {len(prompt)} tokens; expected 1 to {self.window - room}: the window of "
                    f"{self.window}{answer}. Shorten it."
                )
            if unknown := [i for i in prompt if not 0 <= i < self._config.vocab_size]:
                raise ValueError(
                    f"Prompt {number} holds the id {unknown[0]}; expected 0 to {self._config.vocab_size - 1}."
                )
        return np.array([len(prompt) for prompt in prompts], np.int32)

    def _encoder(self, encoder: EncoderArrays | None, num_prompts: int) -> dict[str, np.ndarray]:
        """Returns the inputs for an encoder's states, or raises a ValueError if they do not fit the model."""
        width = self._config.encoder_width
        if (encoder is None) != (width is None):
            needed = "no encoder" if width is None else f"an encoder of width {width}"
            raise ValueError(
                f"This model attends to {needed}, and an encoder's states are "
                f"{'missing' if encoder is None else 'given'}. Expected states with an encoder only."
            )
        if encoder is None:
            return {}
        states, mask = (np.asarray(part) for part in encoder)
        if (
            states.ndim != 3
            or states.shape[0] != num_prompts
            or states.shape[2] != width
            or mask.shape != states.shape[:2]
        ):
            raise ValueError(
                f"The encoder's states have shape {list(states.shape)} and their mask {list(mask.shape)}; expected "
                f"[{num_prompts}, E, {width}] and [{num_prompts}, E], a row for each prompt."
            )
        return {"encoder_states": states.astype(np.float32), "encoder_mask": mask.astype(np.int32)}

    def _generation(self, state: dict[str, Any], row: int) -> Generation:
        ids = state["ids"][row, state["answer"] : state["next"] + 1].tolist()
        finished = bool(state["finished"][row])
        if finished:
            ids = ids[: next(place for place, i in enumerate(ids) if i in self._config.end_ids)]
        decode = self.tokenizer.decode if finished else self.tokenizer.decode_finished
        return Generation(tuple(ids), decode(ids), finished, int(state["passes"]))


def _check_export(folder: str, stored: dict[str, Any]) -> None:
    """Raises a ValueError if a session cannot run what a config.json describes."""
    if (stored.get("kind"), stored.get("format")) != (KIND, FORMAT):
        raise ValueError(
            f"{folder} holds no exported generator of format {FORMAT}: its {saved_models.CONFIG_FILE} says "
            f"{stored.get('kind')!r}, format {stored.get('format')}. Export the trained model with python -m "
            "docproduct.export."
        )


def exported_tokenizer(version: str, stored: dict[str, Any]) -> Tokenizer:
    """Returns the tokenizer of an exported language model.

    Args:
      version: a version of the export.
      stored: content of its config.json, with "precision" and "tokenizer".

    Raises:
      ValueError: this machine cannot run the export's precision, or the tokenizer is of an unknown class.
    """
    if stored["precision"] == "int8" and not int8.available():
        raise ValueError(
            f"{version} was exported in int8, which needs {int8.NEEDED}; this machine would compute other numbers. "
            "Export the model with --precision=float32."
        )
    if stored["tokenizer"] not in _TOKENIZERS:
        raise ValueError(
            f"{version} has a tokenizer of the class {stored['tokenizer']}; expected {', '.join(_TOKENIZERS)}. If it "
            "was written by another version of docproduct, read it with that one. If the class is yours, add it to "
            f"_TOKENIZERS in {__name__}."
        )
    return _TOKENIZERS[stored["tokenizer"]].load(saved_models.own_files(version))


def _first_requests(encoder_width: int | None) -> dict[str, dict[str, Any]]:
    """Returns the smallest inputs of `begin` and `advance`, without the cache; `advance` has nothing to write."""
    sampling = GenerationSettings().choice() | {"seeds": [0]}
    begin = {"prompt_ids": [[0]], "prompt_lengths": [1], "max_tokens": 1}
    if encoder_width:
        begin |= {"encoder_states": np.zeros([1, 1, encoder_width], np.float32), "encoder_mask": [[1]]}
    state = {"ids": [[0]], "padding": [0], "answer": 0, "next": 0, "finished": [True], "passes": 1}
    return {"begin": begin | sampling, "advance": state | {"num_tokens": 1, "lookup": True} | sampling}


def _num_written(state: dict[str, Any]) -> int:
    return int(state["next"] - state["answer"]) + 1
