"""Chooses among the answers of a question with a language model, or scores it on prepared questions.

    python -m docproduct.choices --model_dir=MODEL --question="Which vitamin is made in the skin?" \
        --choice="Vitamin C" --choice="Vitamin D"
    python -m docproduct.choices --model_dir=MODEL --prepared_dir=PREPARED --split=dev

The model may be any causal language model that loads: a folder, a GGUF file, or an adapter with --base_dir. It is not
trained: the log-probability of each choice behind the question decides, as it is (acc), divided by its characters
(acc_norm) or by its bytes (acc_bytes). Where several may be right, the threshold with the most exact matches in train
decides. Ends with one line of JSON. What it chooses is not medical advice.
"""

import json
import sys
from collections.abc import Sequence

import numpy as np
from absl import app, flags, logging

from data_pipeline import cleaning, splits
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.rows import CHOICES, Choices
from docproduct import command
from docproduct.answering import DISCLAIMER
from docproduct.systems.generator.open import load_model
from docproduct.systems.multiple_choice import baselines, questions
from docproduct.systems.multiple_choice.likelihood import NORMALIZATIONS, Likelihood, normalized, probabilities
from docproduct.systems.multiple_choice.metrics import choose, fit_threshold, metrics
from docproduct.systems.multiple_choice.questions import Asked

_METRICS = ("accuracy", "exact_match_several", "exact_match", "hamming")
_LONGEST_NAME = 14


def ask(likelihood: Likelihood, question: str, choices: Sequence[str], context: str = "") -> dict[str, float]:
    """Returns the probability of each choice under `acc_norm`, the likeliest first.

    Raises:
      ValueError: the question is empty, or there are fewer than two choices, an empty one, or two equal ones.
    """
    question, context, *choices = map(cleaning.clean, (question, context, *choices))
    if not question:
        raise ValueError("The question is empty. Expected a text.")
    if len(choices) < 2 or not all(choices) or len(set(choices)) < len(choices):
        raise ValueError(f"The choices are {', '.join(map(repr, choices)) or 'missing'}; expected two or more texts.")
    asked = [Asked(Choices(question, tuple(choices), (), 0, context, question))]
    (values,) = probabilities(normalized(likelihood.sums(asked), asked, "acc_norm"))
    order = np.argsort(-values, kind="stable").tolist()
    return {choices[place]: float(values[place]) for place in order}


def evaluate(
    likelihood: Likelihood | None, prepared: PreparedFolder, split: str, num_train: int
) -> dict[str, dict[str, float]]:
    """Returns the metrics of the baselines and of each normalization.

    Args:
      likelihood: scores choices; None: baselines only.
      prepared: the questions.
      split: those to score.
      num_train: questions of train, where several may be right, to fit the threshold on.

    Raises:
      ValueError: the split has no question.
    """
    train, asked = (questions.read(prepared, name) for name in (splits.TRAIN, split))
    if not asked:
        raise ValueError(f"{prepared.path} has no question in {split}. Prepare it with another --dev_share.")
    result = baselines.evaluate(train, asked)
    if likelihood:
        some = [question for question in train if question.row.several][:num_train]
        of_some, of_asked = likelihood.sums(some), likelihood.sums(asked)
        for how in NORMALIZATIONS:
            of_train, scores = (
                probabilities(normalized(sums, of, how)) for sums, of in ((of_some, some), (of_asked, asked))
            )
            result[how] = metrics(choose(scores, asked, fit_threshold(of_train, some)), asked)
    return result


def show(result: dict[str, dict[str, float]]) -> None:
    """Prints a table on standard error."""
    names = [name for name in _METRICS if any(name in row for row in result.values())]
    lines = [f"{'':{_LONGEST_NAME}}  " + "  ".join(f"{name.replace('_', ' '):>19}" for name in names)]
    for title, row in result.items():
        cells = [f"{row[name]:.3f} ± {row.get(f'{name}_stderr', 0):.3f}" if name in row else "" for name in names]
        lines.append(f"{title:{_LONGEST_NAME}}  " + "  ".join(f"{cell:>19}" for cell in cells))
    print("\n".join(lines), file=sys.stderr)


def main(argv: list[str]) -> None:
    """Answers or scores what the flags describe."""
    values = command.begin(argv)
    logging.set_verbosity(logging.WARNING)
    with command.errors_on_one_line():
        if bool(values.prepared_dir) == bool(values.question):
            raise ValueError("Expected either --question with --choice, or --prepared_dir.")
        prepared = PreparedFolder(values.prepared_dir, CHOICES) if values.prepared_dir else None
        likelihood = None
        if values.model_dir:
            likelihood = Likelihood(load_model(values.model_dir, values.base_dir), values.max_tokens)
        if prepared:
            result = evaluate(likelihood, prepared, values.split, values.num_train)
            show(result)
            print(json.dumps(result))
            return
        if not likelihood:
            raise ValueError("--model_dir is missing: the language model that chooses.")
        answer = ask(likelihood, values.question, values.choice, values.context)
        print("\n".join(f"  {prob:6.1%}  {choice}" for choice, prob in answer.items()), file=sys.stderr)
        print(f"\n{DISCLAIMER}", file=sys.stderr)
        print(json.dumps({"question": values.question, "choices": answer, "disclaimer": DISCLAIMER}))


if __name__ == "__main__":
    flags.DEFINE_string("model_dir", None, "Language model: a folder, a GGUF file, or an adapter.")
    flags.DEFINE_string("base_dir", None, "Of an adapter: the model that it was trained on.")
    flags.DEFINE_string("question", None, "Question to answer.")
    flags.DEFINE_multi_string("choice", [], "An answer to choose from; give two or more.")
    flags.DEFINE_string("context", "", "What is read before the question.")
    flags.DEFINE_string("prepared_dir", None, "Questions of data_pipeline.prepare --rows=choices, to score.")
    flags.DEFINE_string("split", splits.DEV, "Split to score.")
    flags.DEFINE_integer("max_tokens", None, "Maximum tokens of context, question and choices; default: the window.")
    flags.DEFINE_integer(
        "num_train", 500, "Train questions with several right choices that the threshold is fitted on."
    )
    app.run(main)
