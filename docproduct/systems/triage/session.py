"""An exported triage model in graph sessions of its own: one for the encoder, and one for the decoder.

N texts, L labels
"""

import os
from collections.abc import Sequence

import numpy as np

from data_pipeline.folders import files
from data_pipeline.prompts.encoder_prompts import EncoderPrompts
from data_pipeline.settings import from_json
from data_pipeline.tokenizers import Tokenizer, load_tokenizer
from docproduct.exports import saved_models
from docproduct.exports.graph_session import GraphSession
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import GenerationSession
from docproduct.systems.triage.calibration import Calibration, are_sure
from docproduct.systems.triage.export import FORMAT, KIND, REPLY_FOLDER
from docproduct.systems.triage.folder import begin_id, reply_sampling
from docproduct.systems.triage.model import TriageConfig


class TriageSession:
    """Does what `TrainedTriage` does, without its variables in this process.

    Attributes:
      labels: names of the classes.
      calibration: of what it is sure.
      has_replies: whether it can write replies.
    """

    def __init__(
        self,
        run: GraphSession,
        tokenizer: Tokenizer,
        prompts: EncoderPrompts,
        config: TriageConfig,
        calibration: Calibration,
        reply: GenerationSession | None,
    ):
        """Joins the parts."""
        self._session, self._tokenizer, self._prompts, self._config = run, tokenizer, prompts, config
        self.labels, self.calibration, self._reply = config.labels, calibration, reply
        self.has_replies = reply is not None

    @classmethod
    def load(cls, folder: str) -> "TriageSession":
        """Loads what `export` wrote.

        Args:
          folder: an export, whose newest version is taken, or a version.

        Raises:
          ValueError: the folder holds something else, or a part of it is missing.
        """
        if not os.path.isdir(folder):
            raise ValueError(f"There is no folder {folder}. Expected what python -m docproduct.export wrote.")
        version = saved_models.newest(folder)
        own = saved_models.own_files(version)
        path = os.path.join(own, saved_models.CONFIG_FILE)
        stored = files.read_json(path) or {}
        if (stored.get("kind"), stored.get("format")) != (KIND, FORMAT):
            raise ValueError(
                f"{folder} holds no exported triage model of format {FORMAT}: its {saved_models.CONFIG_FILE} says "
                f"{stored.get('kind')!r}, format {stored.get('format')}. Export the trained model with python -m "
                "docproduct.export."
            )
        reply = os.path.join(own, REPLY_FOLDER)
        return cls(
            GraphSession(version),
            load_tokenizer(own),
            EncoderPrompts.read(own),
            from_json(TriageConfig, stored["triage"], path),
            from_json(Calibration, stored["calibration"], path),
            GenerationSession.load(reply) if os.path.isdir(reply) else None,
        )

    def probs(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the calibrated probability of each label for clean texts, [N, L] float32.

        Raises:
          ValueError: the model has no labels.
        """
        return self.assess(texts)[0]

    def assess(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns what `probs` returns, and of which texts the model is sure, [N] bool.

        Raises:
          ValueError: the model has no labels.
        """
        if not self.labels:
            raise ValueError("This model was trained on replies only: it has no labels. Export one with labels.")
        read = [self._read(text) for text in texts]
        probs, familiarity = (np.concatenate([part[name] for part in read]) for name in ("probs", "familiarity"))
        return probs, are_sure(self.calibration, probs, familiarity)

    def replies(self, texts: Sequence[str], sampling: GenerationSettings | None = None) -> list[str]:
        """Writes a draft reply to each of some clean texts; see `TrainedTriage.replies`.

        Raises:
          ValueError: the model has no decoder.
        """
        if not self._reply:
            raise ValueError("This model has no decoder: it was trained on labels only. Export the variant joint.")
        sampling = reply_sampling(sampling, self._config.max_reply_tokens)
        return [self._write(self._read(text), sampling) for text in texts]

    def _read(self, text: str) -> dict[str, np.ndarray]:
        """Runs the encoder on one text."""
        ids = self._tokenizer.encode_few(self._prompts.add([text], "question"), self._config.max_tokens)
        return self._session.run("triage", {"text_ids": ids})

    def _write(self, read: dict[str, np.ndarray], sampling: GenerationSettings) -> str:
        encoder = (read["encoder_states"], read["encoder_mask"])
        ((generation,),) = self._reply.write([[begin_id(self._reply.tokenizer)]], sampling, encoder=encoder)
        return generation.text.strip()
