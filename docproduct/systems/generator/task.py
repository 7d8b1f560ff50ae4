"""The generator's task for the training loop: batches, loss, evaluation on dev, report.

B rows of one replica, P tokens of the longest prompt, G of the longest target
"""

from collections.abc import Iterable
from typing import Any

from absl import logging

from data_pipeline import batches, splits
from data_pipeline.batches import BatchSettings
from data_pipeline.folders.token_folder import LANGUAGE_MODEL, TokenFolder
from docproduct.systems.generator import report
from docproduct.systems.generator.causal_task import CausalTask
from docproduct.systems.generator.config import GeneratorTraining
from docproduct.systems.generator.dev import DevEvaluation, Sample
from docproduct.systems.generator.folder import TrainedGenerator
from docproduct.systems.generator.losses import PAD, Tokens, joined
from docproduct.systems.generator.start import start
from docproduct.training.gradients import Batch

_SHOWN = 2  # answers in the log, each epoch
_SHOWN_PROMPT = 300  # characters of a prompt's end


class GeneratorTask(CausalTask):
    """Trains a causal language model on the rows of a token folder.

    Attributes:
      end_id: the token that begins another text in rows of packed documents; None: a row is one text.
    """

    def __init__(
        self,
        config: GeneratorTraining,
        folder: TokenFolder,
        generator: TrainedGenerator,
        evaluation: DevEvaluation,
        model_dir: str,
    ):
        """Takes the parts of a training.

        Args:
          config: what to train.
          folder: the rows.
          generator: the model before its first step, made under the strategy's scope.
          evaluation: scores the same generator on dev.
          model_dir: the folder of weights and report.
        """
        super().__init__(generator, model_dir, config)
        self.num_rows = folder.num_rows(splits.TRAIN)
        self.end_id = generator.tokenizer.end_id if folder.rows == LANGUAGE_MODEL else None
        self._config, self._folder, self._evaluation = config, folder, evaluation
        settings = config.settings
        self._batch_settings = BatchSettings(settings.batch_size, config.num_buckets, seed=settings.seed)

    def start(self) -> dict[str, Any]:
        """Returns fingerprints of the data and of the untrained model; a resumed run must have the same."""
        return {"tokens": self._folder.fingerprint()} | self.start_of_model()

    def batches(self, epoch: int, skip: int) -> Iterable[Batch]:
        """Returns the batches of an epoch without the first `skip`: "prompt_ids" [B, P], "target_ids" [B, G] ..."""
        return batches.training_batches(self._folder, splits.TRAIN, self._batch_settings, PAD, epoch, skip)

    def count_tokens(self, batch: Batch) -> tuple[int, int]:
        """Returns the number of real tokens in a batch, and the number of places with padding."""
        return batches.count_tokens(batch, PAD)

    def tokens(self, batch: Batch) -> Tokens:
        """Returns prompts and targets together, with their weights.

        Prompts may be learned, too: there is more to learn from, for little more time. Source: Shi et al. 2024,
        "Instruction Tuning With Loss Over Instructions".
        """
        weights = (self._config.prompt_weight, self._config.opening_weight)
        return joined(batch["prompt_ids"], batch["target_ids"], self.end_id, *weights)

    def evaluate(self) -> dict[str, float]:
        """Returns perplexities on dev, and ROUGE-L if answers are written; logs some of them."""
        scores = self._evaluation()
        for sample in self._evaluation.samples[:_SHOWN]:
            logging.info("%s\n    -> %s", sample.prompt[-_SHOWN_PROMPT:], sample.answer)
        return scores

    def report(self, history: dict[str, Any]) -> None:
        """Writes the model card, with answers of the model that was kept and of the one that training started from."""
        config, folder, evaluation = self._config, self._folder, self._evaluation
        before: list[Sample] = []
        if config.base_dir and config.num_answers:
            before = DevEvaluation(start(config, folder), evaluation.rows, folder.rows, config.num_answers).write()
        if history["best"] != history["epochs"][-1]:
            self.generator.load_weights(self._model_dir)
        report.write(self._model_dir, config, self.generator, folder, history, before, evaluation.write())
