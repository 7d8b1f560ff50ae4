"""The words that an encoder expects before every text, such as "query: " and "passage: ".

Source: sentence-transformers' config_sentence_transformers.json, as `encode_query` and `encode_document` read it, with
two differences: if "document" is empty, "passage" or "corpus" is taken; and a default prompt that belongs to neither
side stands before both, as in `encode`.
"""

import dataclasses
import os
from collections.abc import Iterable

from data_pipeline.folders import files

PROMPTS_FILE = "config_sentence_transformers.json"
_NAMES = {"question": ("query",), "answer": ("document", "passage", "corpus")}


@dataclasses.dataclass(frozen=True)
class EncoderPrompts:
    """The prompt that stands before the texts of each side, with its blank at the end.

    Attributes:
      question: before questions.
      answer: before answers.
    """

    question: str = ""
    answer: str = ""

    def __bool__(self) -> bool:
        return bool(self.question or self.answer)

    def add(self, texts: Iterable[str], side: str) -> list[str]:
        """Returns the texts of a side, question or answer, with their prompt."""
        prompt = getattr(self, side)
        return [f"{prompt}{text}" for text in texts] if prompt else list(texts)

    @classmethod
    def read(cls, folder: str) -> "EncoderPrompts":
        """Reads the prompts of a model folder; without the file, there are none.

        Raises:
          ValueError: the file names a default prompt that it does not hold.
        """
        path = os.path.join(folder, PROMPTS_FILE)
        config = files.read_json(path) or {}
        prompts, default = config.get("prompts") or {}, config.get("default_prompt_name")
        if default is not None and default not in prompts:
            raise ValueError(
                f"{path} has the default_prompt_name {default!r}; expected one of its prompts: "
                f"{', '.join(prompts) or 'none'}. Mend the file."
            )
        of_a_side = {name for names in _NAMES.values() for name in names}
        fallback = prompts[default] if default and default not in of_a_side else ""
        of_sides = {
            side: next((prompts[name] for name in names if prompts.get(name)), fallback)
            for side, names in _NAMES.items()
        }
        return cls(**of_sides)

    def save(self, folder: str) -> None:
        """Writes the file that `read` reads, if there are prompts."""
        if self:
            prompts = {"query": self.question, "document": self.answer}
            files.write_json(os.path.join(folder, PROMPTS_FILE), {"prompts": prompts, "default_prompt_name": None})
