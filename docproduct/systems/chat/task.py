"""The chat model's task for the training loop: batches, loss of the replies' tokens, evaluation on dev, report."""

from typing import Any

from absl import logging

from data_pipeline.folders.prepared import PreparedFolder
from docproduct.systems.chat import report, rows
from docproduct.systems.chat.config import ChatTraining
from docproduct.systems.chat.dev import ReplyEvaluation
from docproduct.systems.chat.rows import SplitRows
from docproduct.systems.chat.start import start
from docproduct.systems.generator.causal_task import CausalTask
from docproduct.systems.generator.folder import TrainedGenerator
from docproduct.systems.generator.losses import Tokens
from docproduct.systems.generator.report import samples
from docproduct.systems.retriever.batches import GeneratedBatches
from docproduct.training.gradients import Batch

_SHOWN = 2  # replies in the log, each epoch


class ChatTask(CausalTask):
    """Trains a language model on the replies of dialogues."""

    def __init__(
        self,
        config: ChatTraining,
        prepared: PreparedFolder,
        generator: TrainedGenerator,
        train: SplitRows,
        dev: SplitRows,
        model_dir: str,
    ):
        """Takes the parts of a training.

        Args:
          config: what to train.
          prepared: the folder of the dialogues.
          generator: the model before its first step, made under the strategy's scope.
          train: the rows to train on.
          dev: the rows to evaluate with.
          model_dir: the folder of weights and report.
        """
        super().__init__(generator, model_dir, config)
        self.num_rows = len(train.rows)
        self._config, self._prepared, self._train, self._dev = config, prepared, train, dev
        self._evaluation = ReplyEvaluation(generator, dev.rows, config.num_answers)

    def start(self) -> dict[str, Any]:
        """Returns fingerprints of the data and of the untrained model; a resumed run must have the same."""
        return {"prepared": self._prepared.fingerprint()} | self.start_of_model()

    def batches(self, epoch: int, skip: int) -> GeneratedBatches:
        """Returns the batches of an epoch without the first `skip`; see `rows.SPEC`."""
        settings = self._config.settings
        made = rows.epoch_batches(self._train.rows, settings.batch_size, settings.seed, epoch, skip)
        return GeneratedBatches(made, rows.SPEC)

    def count_tokens(self, batch: Batch) -> tuple[int, int]:
        """Returns the number of real tokens in a batch, and the number of places with padding."""
        texts = batch["texts"].numpy()
        return int((texts > 0).sum()), texts.size

    def tokens(self, batch: Batch) -> Tokens:
        """Returns the tokens of a batch, of which those of replies count."""
        return rows.tokens_of(batch)

    def evaluate(self) -> dict[str, float]:
        """Returns perplexities of the replies on dev, and ROUGE-L if replies are written; logs some of them."""
        scores = self._evaluation()
        for sample in self._evaluation.samples[:_SHOWN]:
            logging.info("%s\n    -> %s", sample.prompt, sample.answer)
        return scores

    def report(self, history: dict[str, Any]) -> None:
        """Writes the model card, with replies of the model that was kept and of the one that training started from."""
        config, shown = self._config, ""
        if history["best"] != history["epochs"][-1]:
            self.generator.load_weights(self._model_dir)
        if config.num_answers:
            before = ReplyEvaluation(start(config), self._dev.rows, config.num_answers)
            shown = samples(before.write(), self._evaluation.write())
        report.write(self._model_dir, config, self.generator, self._prepared, history, (self._train, self._dev), shown)
