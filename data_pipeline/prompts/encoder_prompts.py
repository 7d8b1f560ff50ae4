"""The words that an encoder expects before every text, such as "query: " and "passage: ".

Source: sentence-transformers' config_sentence_transformers.json, as `encode_query` and `encode_document` read it, with
two differences: "passage" and "corpus" count where "document" is empty, and a default prompt that belongs to neither
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
    """What is put before the texts of each side, with its blank at the end.

    Attributes:
      question: before questions.
      answer: before answers.
    """

    question: str = ""
    answer: str = ""

    def __bool__(self) -> bool:
        return bool(self.question or self.answer)

    def add(self, texts: Iterable[str], side: str) -> list[str]:
        """Returns the texts of one side, question or answer, with their prompt."""
        prompt = getattr(self, side)
        return [f"{prompt}{text}" for text in texts] if prompt else list(texts)

    @classmethod
    def read(cls, folder: str) -> "EncoderPrompts":
        """Reads the prompts of a model folder; without its file there are none.

        Raises:
          ValueError: the default prompt is none of the prompts.
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
        found = {
            side: next((prompts[name] for name in names if prompts.get(name)), fallback)
            for side, names in _NAMES.items()
        }
        return cls(**found)

    def save(self, folder: str) -> None:
        """Writes the file that `read` reads, if there are prompts."""
        if self:
            prompts = {"query": self.question, "document": self.answer}
            files.write_json(os.path.join(folder, PROMPTS_FILE), {"prompts": prompts, "default_prompt_name": None})
