"""Measures kinds of FAISS indexes on your own vectors and questions, and names the one for a wished recall.

    python -m docproduct.tune_index --index_dir=INDEX --recall=0.95

Searches the answers of an index that keeps its vectors (such as Flat) with its stored questions, or with those of
--questions, a text file with one a line, which --model_dir encodes. For each kind and setting it prints the recall@k
against the exact search, milliseconds of a question that is asked alone, questions a second together, bytes a vector in
memory, and seconds to build; --output_dir gets the table, its numbers and a plot. Ends with one line of JSON: the flags
for docproduct.index. Times are of this machine: let nothing else run beside it.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags

from data_pipeline import cleaning
from data_pipeline.folders import files
from docproduct import command
from docproduct.index import Index
from docproduct.index.folder import kind_of
from docproduct.search import tuning
from docproduct.search.tuning import Candidate, Measured
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.folder import shorten
from docproduct.training import cards, curves

_SEED = 0


def vectors_of(
    index: Index, questions: Sequence[str], retriever: TrainedRetriever | None, num_questions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the vectors of an index's answers, [N, D] float32, and those of questions, [Q, D] float32.

    Args:
      index: an index that keeps its vectors.
      questions: those to ask; empty: stored ones.
      retriever: encodes them.
      num_questions: maximum number of stored questions, drawn at random.

    Raises:
      ValueError: the vectors of the index are not exact; or no questions are known.
    """
    kind = kind_of(index.manifest, "answer")
    if not kind.keeps_vectors:
        raise ValueError(
            f"The index is of the factory {kind.factory}, which does not keep the exact vectors; expected Flat, HNSW32 "
            "or one that ends in RFlat. Build it from the same pairs with docproduct.index --factory=Flat."
        )
    answers = index.vectors("answer")
    if questions:
        return answers, shorten(retriever.embed(questions, "question").head, answers.shape[1])
    if not index.has_questions:
        raise ValueError("The index holds no vectors of questions. Give --questions and --model_dir.")
    stored = index.vectors("question")
    rows = np.random.default_rng(_SEED).permutation(len(stored))[:num_questions]
    return answers, stored[rows]


def table(measured: Sequence[Measured], k: int) -> str:
    """Returns a Markdown table; those that no other one beats are bold."""
    good = tuning.frontier(measured)
    head = ["factory", "search parameters", f"recall@{k}", "ms alone", "questions/s", "bytes a vector", "build s"]
    lines = []
    for each in measured:
        name = f"**{each.factory}**" if each in good else each.factory
        numbers = [f"{each.recall:.4f}", f"{each.ms:.3f}", f"{each.queries_per_s:,.0f}"]
        numbers += [f"{each.bytes_per_vector:,.0f}", f"{each.build_seconds:.1f}"]
        lines.append([name, each.search_parameters, *numbers])
    return cards.table(head, lines)


def tune(vectors: np.ndarray, queries: np.ndarray, tried: Sequence[Candidate], k: int) -> list[Measured]:
    """Measures kinds of indexes and tells about each on standard error."""
    measured = []
    for each in tuning.measure(vectors, queries, tried, k):
        measured.append(each)
        words = f"{each.factory} {each.search_parameters}".rstrip()
        print(f"{words}: recall {each.recall:.4f}, {each.queries_per_s:,.0f} questions/s", file=sys.stderr)
    return measured


def recommended(measured: Sequence[Measured], least_recall: float, prefer: str) -> dict[str, Any]:
    """Returns the flags of docproduct.index for a recall, with what they reach.

    Raises:
      ValueError: nothing reaches it.
    """
    best = tuning.best(measured, least_recall, prefer)
    if best is None:
        raise ValueError(f"Nothing reaches a recall of {least_recall}; add --factories=Flat, which is exact.")
    described = dataclasses.asdict(best)
    chosen = {f"--{name}": described.pop(name) for name in ("factory", "search_parameters")}
    return {"flags": [f"{name}={value}" for name, value in chosen.items() if value], **described}


def save(output_dir: str, measured: Sequence[Measured], k: int) -> None:
    """Writes table, numbers and plot into a new folder."""
    os.makedirs(output_dir, exist_ok=True)
    series: dict[str, list[tuple[float, float, float]]] = {}
    for each in measured:
        series.setdefault(each.factory, []).append((each.recall, each.queries_per_s, each.bytes_per_vector))
    labels = (f"recall@{k}", "questions a second", "bytes a vector")
    curves.draw_costs(series, labels, os.path.join(output_dir, "plot.png"))
    files.write_json(os.path.join(output_dir, "measured.json"), list(map(dataclasses.asdict, measured)))
    files.write_text(os.path.join(output_dir, "README.md"), f"{table(measured, k)}\n\n![plot](plot.png)\n")


def main(argv: list[str]) -> None:
    """Measures what the flags describe."""
    values = command.begin(argv)
    with command.errors_on_one_line():
        questions: list[str] = []
        if values.questions:
            questions = list(filter(None, map(cleaning.clean, files.read_text(values.questions).splitlines())))
            if not questions or not values.model_dir:
                raise ValueError("--questions needs a text file with a question a line, and --model_dir.")
        if values.output_dir:
            files.check_free(values.output_dir, overwrite=None)
        retriever = TrainedRetriever.load(values.model_dir) if values.model_dir else None
        index = Index(values.index_dir, retriever) if retriever else Index.open_vectors(values.index_dir)
        vectors, queries = vectors_of(index, questions, retriever, values.num_questions)
        k = min(values.k, len(vectors))
        tried = list(map(_candidate, values.factories)) or tuning.candidates(*vectors.shape)
        measured = tune(vectors, queries, tried, k)
        print(f"\n{len(vectors):,} vectors, {len(queries):,} questions\n\n{table(measured, k)}\n", file=sys.stderr)
        if values.output_dir:
            save(values.output_dir, measured, k)
        print(json.dumps(recommended(measured, values.recall, values.prefer)))


def _candidate(described: str) -> Candidate:
    """Returns a candidate of --factories, such as HNSW32:efSearch=16:efSearch=64."""
    factory, *parameters = described.split(":")
    return Candidate(factory, tuple(parameters) or ("",))


if __name__ == "__main__":
    index_help = "Index of a factory that keeps the vectors: Flat, HNSW32, or one that ends in RFlat."
    flags.DEFINE_string("index_dir", None, index_help, required=True)
    flags.DEFINE_string("model_dir", None, "With --questions: the encoder of the index.")
    flags.DEFINE_string("questions", None, "Text file with a question a line; default: stored questions.")
    flags.DEFINE_integer("num_questions", 1_000, "Stored questions to ask.", lower_bound=1)
    flags.DEFINE_integer("k", 10, "Neighbours of which the recall is the share that is found.", lower_bound=1)
    flags.DEFINE_float("recall", 0.95, "Recall to reach.", lower_bound=0, upper_bound=1)
    flags.DEFINE_enum("prefer", "speed", ("speed", "memory"), "What to prefer among those that reach the recall.")
    flags.DEFINE_multi_string(
        "factories", [], "FAISS factory string to try, with settings: HNSW32:efSearch=16:efSearch=64. Default: many."
    )
    flags.DEFINE_string("output_dir", None, "Folder for table, numbers and plot.")
    app.run(main)
