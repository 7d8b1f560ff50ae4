"""Texts from prompts, by a generator that was exported, in a graph session of its own."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline.folders import files
from data_pipeline.prompts.answer_prompts import PromptSettings
from data_pipeline.tokenizers import BytePairs
from docproduct.exports import saved_models
from docproduct.exports.graph_session import GraphSession
from docproduct.generation.export import FORMAT, KIND, kept_names, live
from docproduct.generation.sampling import GenerationSettings
from docproduct.layers import int8
from docproduct.systems.generator.folder import TrainedGenerator

_CHUNK = 16  # tokens of a stream between two looks at what was written
_LARGEST_SEED = 2**31 - 1

Run = Callable[[str, dict[str, Any]], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Generation:
    """A text that was written.

    Attributes:
      ids: its tokens, without the end token.
      text: of these.
      finished: whether the end token was written; else max_tokens or the window ended it.
      passes: how often the model was run; with look-up less often than there are tokens.
    """

    ids: tuple[int, ...]
    text: str
    finished: bool
    passes: int


class GenerationSession:
    """Writes texts.

    Attributes:
      tokenizer: of prompts and answers.
      window: tokens of a prompt and its answer together, at most.
      prompt: how prompts are made, if the model was trained to answer.
    """

    def __init__(self, tokenizer: BytePairs, config: dict[str, Any], run: Run):
        """Joins them.

        Args:
          tokenizer: of prompts and answers.
          config: "max_positions", "vocab_size", "end_id" and "prompt" of the model, see `export`.
          run: runs `begin` or `advance` of a `Decoder`.
        """
        self.tokenizer, self._run = tokenizer, run
        self.prompt = PromptSettings(**config["prompt"]) if config["prompt"] else None
        self.window, self._vocab_size, self._end_id = (
            config[name] for name in ("max_positions", "vocab_size", "end_id")
        )

    @classmethod
    def load(cls, folder: str) -> "GenerationSession":
        """Loads what `export` wrote, into a graph session of its own.

        Args:
          folder: an export, whose newest version is taken, or a version.

        Raises:
          ValueError: the folder holds something else, or an int8 model that this machine cannot run.
        """
        if not os.path.isdir(folder):
            raise ValueError(f"There is no folder {folder}. Expected what python -m docproduct.export wrote.")
        version = saved_models.newest(folder)
        own = saved_models.own_files(version)
        config = files.read_json(os.path.join(own, saved_models.CONFIG_FILE)) or {}
        if (config.get("kind"), config.get("format")) != (KIND, FORMAT):
            raise ValueError(
                f"{folder} holds no exported generator of format {FORMAT}: its {saved_models.CONFIG_FILE} says "
                f"{config.get('kind')!r}, format {config.get('format')}. Export the trained model with python -m "
                "docproduct.export."
            )
        if config["precision"] == "int8" and not int8.available():
            raise ValueError(
                f"{folder} was exported in int8, which needs {int8.NEEDED}; this machine would write other texts. "
                "Export the model with --precision=float32."
            )
        session = GraphSession(version, kept_names(config["num_layers"]))
        return cls(BytePairs.load(own), config, session.run)

    @classmethod
    def of(cls, generator: TrainedGenerator) -> "GenerationSession":
        """Returns what writes with a model as it is in this process, while it is trained."""
        functions = live(generator)

        def run(name: str, inputs: dict[str, Any]) -> dict[str, Any]:
            expected = functions[name].structured_input_signature[1]
            tensors = {key: tf.cast(value, expected[key].dtype) for key, value in inputs.items()}
            found = functions[name](**tensors)
            kept = kept_names(generator.gpt2.config.num_layers)
            return {key: value if key in kept else value.numpy() for key, value in found.items()}

        config = dataclasses.asdict(generator.gpt2.config) | {
            "end_id": generator.end_id,
            "prompt": generator.prompt and dataclasses.asdict(generator.prompt),
        }
        return cls(generator.tokenizer, config, run)

    def write(
        self, prompts: Sequence[Sequence[int]], settings: GenerationSettings = GenerationSettings(), lookup: bool = True
    ) -> list[list[Generation]]:
        """Writes answers to prompts, all at once.

        All end where the window is full for the longest prompt: write prompts of like length together.

        Args:
          prompts: token ids of each, of any lengths.
          settings: how.
          lookup: prompt look-up, for a single greedy answer: the same tokens in fewer passes.

        Returns:
          For each prompt `num_samples` answers.

        Raises:
          ValueError: no prompt, an empty one, one that leaves no room in the window, or an id that is none.
        """
        *_, state = self._states(prompts, settings, lookup, settings.max_tokens)
        found = [self._generation(state, row) for row in range(len(state["ids"]))]
        n = settings.num_samples
        return [found[i : i + n] for i in range(0, len(found), n)]

    def stream(
        self, prompt: Sequence[int], settings: GenerationSettings = GenerationSettings(), lookup: bool = True
    ) -> Iterator[Generation]:
        """Returns the answer to a prompt while it grows, and as a whole at last; whoever stops listening stops it.

        Args:
          prompt: its token ids.
          settings: how; one sample.
          lookup: as of `write`.

        Raises:
          ValueError: as of `write`, or more than one sample is asked for.
        """
        return (found[0] for found in self.stream_many([prompt], settings, lookup))

    def stream_many(
        self, prompts: Sequence[Sequence[int]], settings: GenerationSettings = GenerationSettings(), lookup: bool = True
    ) -> Iterator[list[Generation]]:
        """Returns the answers to prompts, one to each, while they grow; otherwise like `stream`."""
        if settings.num_samples != 1:
            raise ValueError(f"num_samples is {settings.num_samples}; a stream is of 1.")
        self._check(prompts)
        states = self._states(prompts, settings, lookup, _CHUNK)
        return ([self._generation(state, row) for row in range(len(prompts))] for state in states)

    def _states(
        self, prompts: Sequence[Sequence[int]], settings: GenerationSettings, lookup: bool, chunk: int
    ) -> Iterator[dict[str, Any]]:
        """Yields the state after every `chunk` tokens: each chunk costs a few steps' time."""
        lengths = self._check(prompts)
        longest = int(lengths.max())
        # A prompt of the whole batch decides: all write into the same slots.
        room = min(settings.max_tokens, self.window - longest)
        ids = np.zeros((len(prompts), longest), np.int32)
        for row, prompt in zip(ids, prompts, strict=True):
            row[: len(prompt)] = prompt
        how = settings.choice()
        # The i-th sample has the same seed, whatever stands beside it.
        seeds = np.random.default_rng(settings.seed).integers(0, _LARGEST_SEED, settings.num_samples)
        how["seeds"] = np.tile(seeds, len(prompts))
        state = self._run("begin", {"prompt_ids": ids, "prompt_lengths": lengths, "max_tokens": room, **how})
        yield state
        while not state["finished"].all() and (left := room - _written(state)) > 0:
            steps = {"num_tokens": min(left, chunk), "lookup": lookup}
            state = self._run("advance", {**state, **steps, **how})
            yield state

    def _check(self, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns the lengths of prompts that can be read, [B]."""
        if not prompts:
            raise ValueError("There is no prompt; expected one or more.")
        for number, prompt in enumerate(prompts, 1):
            if not 1 <= len(prompt) < self.window:
                raise ValueError(
                    f"Prompt {number} has {len(prompt)} tokens; expected 1 to {self.window - 1}: the window of "
                    f"{self.window} holds the answer, too. Shorten it."
                )
            if wrong := [i for i in prompt if not 0 <= i < self._vocab_size]:
                raise ValueError(f"Prompt {number} holds the id {wrong[0]}; expected 0 to {self._vocab_size - 1}.")
        return np.array([len(prompt) for prompt in prompts], np.int32)

    def _generation(self, state: dict[str, Any], row: int) -> Generation:
        ids = state["ids"][row, state["answer"] : state["next"] + 1].tolist()
        finished = bool(state["finished"][row])
        if finished:
            ids = ids[: ids.index(self._end_id)]
        decode = self.tokenizer.decode if finished else self.tokenizer.decode_finished
        return Generation(tuple(ids), decode(ids), finished, int(state["passes"]))


def _written(state: dict[str, Any]) -> int:
    return int(state["next"] - state["answer"]) + 1
