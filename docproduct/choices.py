"""Chooses among the answers of a question with a language model, or scores it on prepared questions.

    python -m docproduct.choices --model_dir=MODEL --question="Which vitamin is made in the skin?" \
        --choice="Vitamin C" --choice="Vitamin D"
    python -m docproduct.choices --model_dir=MODEL --prepared_dir=PREPARED --split=dev

The model is one that was trained to choose (train_gpt2.py --task=multiple_choice), its export, or any causal language
model that loads: a folder, a GGUF file, or an adapter with --base_dir. Of a language model, the log-probability of each
choice behind the question decides, as it is (acc), divided by its characters (acc_norm) or by its bytes (acc_bytes).
Where several may be right, choices above a threshold are chosen, which is fitted on train; --several asks a trained
model so. Ends with one line of JSON. What it chooses is not medical advice.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import app, flags, logging
from scipy.special import softmax

from data_pipeline import splits
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.rows import CHOICES
from docproduct import command, sample
from docproduct.answering import DISCLAIMER
from docproduct.answering.choices import ChoiceAnswer, ChoiceAnswerer
from docproduct.systems.multiple_choice import baselines, evaluation, questions, report
from docproduct.systems.multiple_choice.evaluation import Answers
from docproduct.systems.multiple_choice.likelihood import NORMALIZATIONS, Likelihood, normalized
from docproduct.systems.multiple_choice.metrics import choose, fit_threshold
from docproduct.systems.multiple_choice.open import open_model
from docproduct.systems.multiple_choice.questions import Asked

Scores = list[np.ndarray]


class Chooser:
    """A trained multiple-choice model, or a language model that was not trained to choose."""

    def __init__(self, model_dir: str, base_dir: str | None = None, max_tokens: int | None = None):
        """Loads the model.

        Args:
          model_dir: a multiple-choice model, its export, or a language model; see `open_model`.
          base_dir: of an adapter, the model that it was trained on.
          max_tokens: of context, question and choices; default: as the model was trained, or its window.

        Raises:
          ValueError: there is no such model, it is damaged, its window is smaller, or `base_dir` is not needed.
        """
        model = open_model(model_dir, base_dir, max_tokens)
        self.trained, self._likelihood = (None, model) if isinstance(model, Likelihood) else (model, None)

    def probabilities(self, asked: Sequence[Asked]) -> dict[str, Scores]:
        """Returns the probabilities of choices: those of the trained model, or those of each normalization."""
        if self.trained:
            return {"trained": self.trained.probabilities(asked)}
        sums = self._likelihood.sums(asked)
        return {name: [softmax(values) for values in normalized(sums, asked, name)] for name in NORMALIZATIONS}

    def answers(self, train: Sequence[Asked], asked: Sequence[Asked], own_answers: bool = True) -> dict[str, Answers]:
        """Returns the answers of each score.

        Args:
          train: questions to fit the thresholds of an untrained model on.
          asked: the questions.
          own_answers: whether series are also answered behind the model's own earlier answers.
        """
        if self.trained:
            thresholds = {"trained": self.trained.threshold}
        else:
            of_train = self.probabilities(train)
            thresholds = {name: fit_threshold(probs, train) for name, probs in of_train.items()}
        result = self._answers(asked, thresholds)
        if own_answers and any(question.earlier for question in asked):
            for name, threshold in thresholds.items():
                result[f"{name}, own earlier answers"] = self._behind_own_answers(asked, name, threshold)
        return result

    def _behind_own_answers(self, asked: Sequence[Asked], name: str, threshold: float) -> Answers:
        def answers(some: Sequence[Asked]) -> Answers:
            return self._answers(some, {name: threshold})[name]

        return answers(evaluation.behind_own_answers(asked, lambda some: answers(some).chosen))

    def _answers(self, asked: Sequence[Asked], thresholds: Mapping[str, float]) -> dict[str, Answers]:
        found = self.probabilities(asked)
        return {
            name: Answers(choose(found[name], asked, threshold), found[name]) for name, threshold in thresholds.items()
        }


def evaluate(
    chooser: Chooser | None,
    prepared: PreparedFolder,
    split: str,
    num_train: int,
    own_answers: bool = True,
    rotations: bool = False,
) -> dict[str, Any]:
    """Scores the baselines and a model.

    Args:
      chooser: the model; None: baselines only.
      prepared: the questions.
      split: those to score.
      num_train: questions of train, where several may be right, to fit an untrained model's threshold on.
      own_answers: whether series are also answered behind the model's own earlier answers.
      rotations: whether each question is also asked with its choices in rotated orders.

    Returns:
      The results, see `evaluation.evaluate`, with the accuracy of "chance", and the "order_bias" of each score.

    Raises:
      ValueError: the split has no question.
    """
    train, asked = (questions.read(prepared, name) for name in (splits.TRAIN, split))
    if not asked:
        raise ValueError(f"{prepared.path} has no question in {split}. Prepare it with another --dev_share.")
    several = [question for question in train if question.row.several][:num_train]
    systems = {name: Answers(chosen) for name, chosen in baselines.answers(train, asked).items()}
    systems |= chooser.answers(several, asked, own_answers) if chooser else {}
    result = evaluation.evaluate(systems, asked, against=baselines.MAJORITY) | {"chance": baselines.chance(asked)}
    if chooser and rotations:
        result["order_bias"] = evaluation.order_bias(chooser.probabilities, asked)
    return result


def show(result: Mapping[str, Any]) -> None:
    """Prints the results as tables on standard error."""
    print(report.results(result), file=sys.stderr)


def show_answer(answer: ChoiceAnswer) -> None:
    """Prints an answer for people on standard error, the likeliest choice first; an emergency comes before all."""
    lines = [f"!! {answer.emergency}\n"] if answer.emergency else []
    if not answer.trained:
        lines.append("The model was not trained to choose: how likely it finds the words of each choice decides.")
    if answer.context_shortened:
        lines.append("The context is too long for the model: its end was not read.")
    if answer.question_shortened:
        lines.append("The question is too long for the model: its beginning was not read.")
    for choice in sorted(answer.choices, key=lambda choice: (-choice.probability, not choice.chosen)):
        lines.append(f"{'*' if choice.chosen else ' '} {choice.probability:6.1%}  {choice.choice}")
    print("\n".join(["", *lines, "", DISCLAIMER, ""]), file=sys.stderr)


def main(argv: list[str]) -> None:
    """Answers or scores what the flags describe."""
    values = command.begin(argv)
    logging.set_verbosity(logging.WARNING)
    with command.errors_on_one_line():
        if bool(values.prepared_dir) == bool(values.question):
            raise ValueError("Expected either --question with --choice, or --prepared_dir.")
        if values.prepared_dir:
            prepared = PreparedFolder(values.prepared_dir, CHOICES)
            chooser = Chooser(values.model_dir, values.base_dir, values.max_tokens) if values.model_dir else None
            result = evaluate(chooser, prepared, values.split, values.num_train, values.own_answers, values.rotations)
            show(result)
            print(json.dumps(result))
            return
        if not values.model_dir:
            raise ValueError("--model_dir is missing: the model that chooses.")
        model = (values.model_dir, values.emergency_list, values.base_dir, values.max_tokens)
        answer = ChoiceAnswerer.load(*model).ask(values.question, values.choice, values.context, values.several)
        show_answer(answer)
        print(json.dumps(answer.as_json(), ensure_ascii=False))


if __name__ == "__main__":
    flags.DEFINE_string(
        "model_dir", None, "Multiple-choice model or its export; or language model: folder, GGUF file, adapter."
    )
    flags.DEFINE_string("base_dir", None, "Of an adapter: the model that it was trained on.")
    flags.DEFINE_string("question", None, "Question to answer.")
    flags.DEFINE_multi_string("choice", [], "An answer to choose from; give two or more.")
    flags.DEFINE_bool("several", False, "Whether several answers may be right.")
    flags.DEFINE_string("context", "", "What is read before the question.")
    flags.DEFINE_string("emergency_list", sample.EMERGENCY_LIST, "File with the terms of emergencies.")
    flags.DEFINE_string("prepared_dir", None, "Questions of data_pipeline.prepare --rows=choices, to score.")
    flags.DEFINE_enum("split", splits.DEV, splits.SPLITS, "Split to score.")
    tokens_help = (
        "Maximum tokens of context, question and choices; default: as in training; of a language model, its window, "
        "at most 1,024 with --question."
    )
    flags.DEFINE_integer("max_tokens", None, tokens_help, lower_bound=8)
    flags.DEFINE_integer(
        "num_train", 500, "Train questions with several right choices that the threshold is fitted on."
    )
    flags.DEFINE_bool(
        "own_answers", True, "Whether series are also answered behind the model's own answers to earlier questions."
    )
    flags.DEFINE_bool("rotations", False, "Whether each question is also asked with its choices in rotated orders.")
    app.run(main)
