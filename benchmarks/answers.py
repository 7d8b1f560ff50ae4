"""Does the generator use what was retrieved? Its answers beside a closed-book model's, and beside the nearest answer.

    python -m benchmarks.answers --prepared_dir=prepared --tokens_dir=contexts --model_dir=answers \
        --closed_book_dir=closed_book

Perplexity of dev's right answers, per token and per byte: with the retrieved pairs in the prompt, with those of another
question (the control), without any, and by a closed-book model with the same vocabulary. ROUGE-L of greedy answers to
some dev questions, and of the nearest answer that may stand in the prompt. Ends with one line of JSON.
"""

import os
from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq
from absl import app, flags

from benchmarks import measuring
from data_pipeline import prompts, splits
from data_pipeline.prepared import PreparedFolder
from data_pipeline.token_folder import CLOSED_BOOK, CONTEXT_ANSWER, TokenFolder, TokenRow
from docproduct import training
from docproduct.contexts import CONTEXTS_FILE
from docproduct.metrics import rouge_l
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.generator.dev import DevEvaluation, asked_of, read_rows


def without_contexts(rows: Sequence[TokenRow], starts: Sequence[int]) -> list[TokenRow]:
    """Returns the rows with their questions alone."""
    return [row._replace(prompt_ids=row.prompt_ids[start:]) for row, start in zip(rows, starts, strict=True)]


def with_other_contexts(rows: Sequence[TokenRow], starts: Sequence[int], window: int) -> list[TokenRow]:
    """Returns the rows with the retrieved pairs of other rows, cut at their beginning where the window needs it."""
    order = np.random.default_rng(0).permutation(len(rows))
    found = []
    for place, i in enumerate(order):
        other = order[(place + 1) % len(order)]
        question = rows[i].prompt_ids[starts[i] :]
        room = window - len(question) - len(rows[i].target_ids)
        contexts = rows[other].prompt_ids[: starts[other]]
        found.append(rows[i]._replace(prompt_ids=[*contexts[max(0, len(contexts) - room) :], *question]))
    return found


def nearest_answer_score(values: flags.FlagValues, rows: Sequence[TokenRow]) -> float:
    """Returns the mean ROUGE-L of the nearest answers that may stand in the prompts, as they are."""
    pairs = PreparedFolder(values.prepared_dir).pairs(["pair_id", "answer"])
    answer_of = dict(zip(*pairs.to_pydict().values(), strict=True))
    found = pq.read_table(os.path.join(values.tokens_dir, CONTEXTS_FILE)).to_pylist()
    nearest = {row["pair_id"]: row["context_pair_ids"] for row in found}
    return float(
        np.mean([rouge_l(answer_of[row.pair_id], answer_of[near[0]]) for row in rows if (near := nearest[row.pair_id])])
    )


def main(argv: list[str]) -> None:
    """Measures what the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    values = flags.FLAGS
    training.set_up()
    folder = TokenFolder(values.tokens_dir)
    rows = read_rows(folder, splits.DEV)[: values.max_rows or None]
    tokenizer, window = folder.tokenizer(), folder.manifest["settings"]["prompt"]["window"]
    starts = [prompts.question_start(tokenizer, row.prompt_ids) for row in rows]
    alone, shuffled = without_contexts(rows, starts), with_other_contexts(rows, starts, window)
    contestants = {"with contexts": (values.model_dir, rows, CONTEXT_ANSWER, values.count)}
    contestants["with another question's contexts"] = (values.model_dir, shuffled, CONTEXT_ANSWER, 0)
    contestants["without contexts"] = (values.model_dir, alone, CLOSED_BOOK, 0)
    if values.closed_book_dir:
        contestants["closed book"] = (values.closed_book_dir, alone, CLOSED_BOOK, values.count)
    scores = {}
    for name, (model_dir, asked, kind, count) in contestants.items():
        scores[name] = DevEvaluation(TrainedGenerator.load(model_dir), asked, kind, count)()
        print(name, "  ".join(f"{metric} {score:.4f}" for metric, score in scores[name].items()), flush=True)
    nearest = nearest_answer_score(values, asked_of(rows, values.count))
    print(f"nearest answer  ROUGE-L {nearest:.4f}")
    ours = scores.pop("with contexts")
    peers = {name: found["perplexity"] for name, found in scores.items()}
    rouge = {name: found["ROUGE-L"] for name, found in scores.items() if "ROUGE-L" in found}
    metrics = [
        measuring.metric("dev_perplexity", "", ours["perplexity"], peers),
        measuring.metric("rouge_l", "", ours["ROUGE-L"], rouge | {"nearest answer": nearest}),
    ]
    measuring.finish("answers", ["tensorflow", "keras"], metrics)


if __name__ == "__main__":
    flags.DEFINE_string("prepared_dir", None, "The prepared folder.", required=True)
    flags.DEFINE_string("tokens_dir", None, "What docproduct.contexts wrote of it.", required=True)
    flags.DEFINE_string("model_dir", None, "What train_gpt2.py --task=context_answer wrote.", required=True)
    flags.DEFINE_string("closed_book_dir", None, "What train_gpt2.py --task=closed_book wrote; none: left out.")
    flags.DEFINE_integer("count", 100, "Dev questions that are answered, for ROUGE-L.")
    flags.DEFINE_integer("max_rows", 0, "Dev rows, at most; 0: all.")
    app.run(main)
