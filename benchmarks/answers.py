"""Measures whether a generator uses the retrieved pairs, beside a closed-book model and the nearest answers.

    python -m benchmarks.answers --prepared_dir=prepared --tokens_dir=contexts --model_dir=answers \
        --closed_book_dir=closed_book

Measures the perplexity of the right answers of dev, per token and per byte: with the retrieved pairs in the prompt,
with the pairs of another question (the control), without pairs, and by a closed-book model with the same vocabulary.
Right answers are cut to the room that the longest prompt leaves. ROUGE-L compares with the whole right answers: greedy
answers to some dev questions, and the nearest allowed answer, whole and cut to the same length. Ends with one line of
JSON.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from absl import app, flags

from benchmarks import measuring
from data_pipeline import splits
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.folders.token_folder import CONTEXT_ANSWER, TokenFolder, TokenRow
from data_pipeline.prompts import answer_prompts
from data_pipeline.prompts.answer_prompts import PromptSettings
from data_pipeline.tokenizers import BytePairs
from docproduct.contexts import CONTEXTS_FILE, gives_away
from docproduct.index import Hit
from docproduct.metrics import rouge_l
from docproduct.model_folder import METRICS_FILE
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.generator.dev import DevEvaluation, asked_of, read_rows
from docproduct.systems.generator.folder import CONFIG_FILE
from docproduct.training.devices import set_up


class Questions:
    """The questions of dev with their retrieved pairs, with pairs of other questions, and alone.

    Attributes:
      rows: The rows of the token folder, with each answer cut to the room that the longest prompt leaves.
    """

    def __init__(self, tokens_dir: str, prepared_dir: str, max_rows: int = 0):
        """Reads at most `max_rows` rows, or all rows if it is 0.

        Raises:
          ValueError: There are fewer than two rows, or they were made from other pairs.
        """
        folder, prepared = TokenFolder(tokens_dir), PreparedFolder(prepared_dir)
        if folder.rows != CONTEXT_ANSWER or folder.manifest["made_of"]["prepared"] != prepared.fingerprint():
            raise ValueError(f"{tokens_dir} was not made by docproduct.contexts from {prepared_dir}.")
        self.tokenizer: BytePairs = folder.tokenizer()
        self._settings = PromptSettings(**folder.manifest["settings"]["prompt"])
        contexts = pq.read_table(os.path.join(tokens_dir, CONTEXTS_FILE)).to_pylist()
        self._contexts = {row["pair_id"]: row["context_pair_ids"] for row in contexts}
        pairs = prepared.table(["pair_id", "question", "answer"]).to_pylist()
        self._pairs = {pair["pair_id"]: pair for pair in pairs}
        rows = read_rows(folder, splits.DEV)[: max_rows or None]
        if len(rows) < 2:
            raise ValueError(f"{tokens_dir} has {len(rows)} rows of dev; expected 2 or more.")
        self.rows = [row._replace(target_ids=row.target_ids[: self._settings.answer_tokens]) for row in rows]

    def alone(self) -> list[TokenRow]:
        """Returns the rows without retrieved pairs."""
        return [self._with(row, []) for row in self.rows]

    def with_other_contexts(self) -> list[TokenRow]:
        """Returns each row with the pairs of another question, except pairs that give its answer away."""
        order = np.random.default_rng(0).permutation(len(self.rows))
        other = dict(zip(order, np.roll(order, 1), strict=True))
        return [self._with(row, self._contexts[self.rows[other[i]].pair_id]) for i, row in enumerate(self.rows)]

    def _with(self, row: TokenRow, context_ids: Sequence[int]) -> TokenRow:
        pair, pairs = self._pairs[row.pair_id], [self._pairs[i] for i in context_ids]
        hits = [Hit(0.0, other["pair_id"], other["question"], other["answer"], "", "") for other in pairs]
        own = (pair["pair_id"], pair["question"], pair["answer"])
        contexts = [(hit.question, hit.answer) for hit in hits if not gives_away(hit, *own)]
        prompt = answer_prompts.answer_prompt(self.tokenizer, self._settings, pair["question"], contexts)
        return row._replace(prompt_ids=prompt.ids)

    def scores(self, answers: Mapping[int, str]) -> float:
        """Returns the mean ROUGE-L of answers, given by pair_id, with the whole right answers."""
        return float(np.mean([rouge_l(self._pairs[i]["answer"], answer) for i, answer in answers.items()]))

    def nearest_answers(self, rows: Sequence[TokenRow], cut: bool) -> dict[int, str]:
        """Returns the nearest answer allowed in the prompt of each row, or an empty text if there is none."""
        nearest = {row.pair_id: self._contexts[row.pair_id][:1] for row in rows}
        answers = {row: "".join(self._pairs[i]["answer"] for i in ids) for row, ids in nearest.items()}
        if cut:
            ids = self.tokenizer.encode(list(answers.values()))
            texts = [self.tokenizer.decode(of_text[: self._settings.answer_tokens]) for of_text in ids]
            answers = dict(zip(answers, texts, strict=True))
        return answers


def load(model_dir: str, tokenizer: BytePairs) -> TrainedGenerator:
    """Loads a contestant, and prints how long it was trained.

    Raises:
      ValueError: It has another vocabulary, so that perplexities per token are not comparable, or is still in training.
    """
    generator = TrainedGenerator.load(model_dir)
    if generator.tokenizer.fingerprint != tokenizer.fingerprint:
        raise ValueError(f"{model_dir} has another vocabulary than --tokens_dir: perplexities cannot be compared.")
    history, config = (files.read_json(os.path.join(model_dir, name)) for name in (METRICS_FILE, CONFIG_FILE))
    if history is None:
        raise ValueError(f"{model_dir} has no {METRICS_FILE}: its training has not ended. Continue it with --resume.")
    print(
        f"{model_dir}: {len(history['losses']):,} steps on {history['real_tokens']:,} tokens, "
        f"{history['seconds'] / 60:.1f} min; start {config['start'][:12]}"
    )
    return generator


def main(argv: list[str]) -> None:
    """Measures what the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    values = flags.FLAGS
    set_up()
    try:
        metrics = _measure(values)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    measuring.finish("answers", ["tensorflow", "keras"], metrics)


def _measure(values: flags.FlagValues) -> list[dict[str, Any]]:
    """Prints and returns perplexities and ROUGE-L."""
    questions = Questions(values.tokens_dir, values.prepared_dir, values.max_rows)
    ours = load(values.model_dir, questions.tokenizer)
    contestants = {
        "with contexts": (ours, questions.rows, values.count),
        "with another question's contexts": (ours, questions.with_other_contexts(), 0),
        "without contexts": (ours, questions.alone(), 0),
    }
    if values.closed_book_dir:
        closed_book = load(values.closed_book_dir, questions.tokenizer)
        contestants["closed book"] = (closed_book, questions.alone(), values.count)
    asked_rows = asked_of(questions.rows, values.count)
    perplexities, rouge = {}, {}
    for name, (generator, rows, count) in contestants.items():
        evaluation = DevEvaluation(generator, rows, CONTEXT_ANSWER, count)
        perplexities[name] = evaluation()
        if count:
            texts = [sample.answer for sample in evaluation.samples]
            rouge[name] = questions.scores(dict(zip([row.pair_id for row in asked_rows], texts, strict=True)))
    rouge["nearest answer"] = questions.scores(questions.nearest_answers(asked_rows, cut=False))
    rouge["nearest answer, cut"] = questions.scores(questions.nearest_answers(asked_rows, cut=True))
    against = "closed book" if values.closed_book_dir else "without contexts"
    metrics = [
        _metric(name, "perplexity", {contestant: scores[name] for contestant, scores in perplexities.items()}, against)
        for name in ("perplexity", "byte_perplexity")
    ]
    return [*metrics, _metric("rouge_l", "ROUGE-L", rouge, "nearest answer")]


def _metric(name: str, unit: str, scores: dict[str, float], against: str) -> dict[str, Any]:
    """Prints and returns the scores of all contestants."""
    measuring.show(name, [(contestant, [score], "") for contestant, score in scores.items()])
    peers = {contestant: score for contestant, score in scores.items() if contestant != "with contexts"}
    return measuring.metric(name, unit, scores["with contexts"], peers, against)


if __name__ == "__main__":
    flags.DEFINE_string("prepared_dir", None, "The prepared folder.", required=True)
    flags.DEFINE_string("tokens_dir", None, "Rows that docproduct.contexts made from it.", required=True)
    flags.DEFINE_string("model_dir", None, "Model of train_gpt2.py --task=context_answer.", required=True)
    flags.DEFINE_string("closed_book_dir", None, "Model of train_gpt2.py --task=closed_book; default: none.")
    flags.DEFINE_integer("count", 100, "Number of dev questions to answer for ROUGE-L.", lower_bound=1)
    flags.DEFINE_integer("max_rows", 0, "Maximum number of dev rows; 0: all.")
    app.run(main)
