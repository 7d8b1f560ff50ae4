"""Evaluates retrieval on data in BEIR layout, with the metrics of ir-measures.

    python -m docproduct.evaluate retrieval --model_dir=/tmp/model --beir_dir=/tmp/beir --split=dev

--model_dir is a trained retriever, a bare encoder folder (zero-shot), or bm25. Documents with equal text count once.
Ends with one line of JSON: Success@1, Success@5, Success@10, R@100, RR@10, nDCG@10, AP@10.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ir_measures
import numpy as np
from absl import app, flags
from ir_measures import AP, RR, R, Success, nDCG

from data_pipeline import beir, cleaning
from data_pipeline.folders import files
from docproduct.layers.precision import PRECISIONS, dtype_policy
from docproduct.search.lexical import AUTO, HYBRIDS, Hybrid, Lexical, choose, fuse, top
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.folder import shorten
from docproduct.training.devices import set_up

CANDIDATES = ("all", "judged")
_DEPTH = 1_000  # documents kept of each ranking
_QUERIES_TOGETHER = 256
_TUNE = "tune"


def retrieval(
    model_dir: str,
    data: beir.BeirData,
    candidates: str = "all",
    relevance: int = 1,
    run_file: str | None = None,
    hybrid: str = AUTO,
    bm25_weight: float = 0.1,
    dims: int = 0,
    precision: str = "float32",
) -> dict[str, Any]:
    """Ranks documents for each query and scores the rankings.

    Args:
      model_dir: a trained retriever, a bare encoder folder, or bm25.
      data: what to evaluate on.
      candidates: all documents, or for each query only those that its qrels name (judged).
      relevance: the lowest grade that is relevant; nDCG takes the grades from there up as gains.
      run_file: where to write the rankings, in TREC format; None: nowhere.
      hybrid: how BM25 counts beside the model. auto: as was best on dev when it was trained; none, rrf or weight: see
        `lexical.fuse`; tune: what is best here, see `lexical.choose`.
      bm25_weight: for `weight`.
      dims: components of the vectors that count; 0: all.
      precision: of the encoder: float32, bfloat16, or auto.

    Returns:
      {"Success@1", "Success@5", "Success@10", "R@100", "RR@10", "nDCG@10", "AP@10": mean over all judged queries,
      "queries", "documents", "queries_without_relevant": counts}; of an encoder also "hybrid"; where BM25 is joined,
      "bm25_weight" and "vectors_alone", the means without it; of tune also "tried", the RR@10 of each way.

    Raises:
      ValueError: model_dir holds no model, or one whose scores are no numbers.
      FileNotFoundError: there is no folder for run_file.
    """
    if run_file and not os.path.isdir(os.path.dirname(os.path.abspath(run_file))):
        raise FileNotFoundError(f"There is no folder for {run_file}. Make it first.")  # now, not after an hour
    documents, qrels = merge_equal_documents(data)
    texts = list(data.queries.values()), list(documents.values())
    how = candidates, relevance
    if hybrid not in (AUTO, *HYBRIDS, _TUNE) or candidates not in CANDIDATES:
        raise ValueError(
            f"hybrid is {hybrid!r}, candidates {candidates!r}; expected {AUTO}, {', '.join(HYBRIDS)} or {_TUNE}, and "
            f"{' or '.join(CANDIDATES)}."
        )
    if not 0 <= bm25_weight < float("inf"):
        raise ValueError(f"bm25_weight is {bm25_weight}; expected a number from 0 up.")
    if model_dir.lower() == "bm25":
        if hybrid not in (AUTO, "none") or dims:
            raise ValueError(f"hybrid is {hybrid}, dims {dims}: BM25 alone has no vectors. Take them away.")
        return measure(model_dir, documents, qrels, _bm25_scores(*texts), *how, run_file)
    retriever = TrainedRetriever.load_for_many(model_dir, precision)
    dense = _encoder_scores(retriever, *texts, dims)
    chosen = retriever.hybrid if hybrid == AUTO else Hybrid(hybrid, bm25_weight)
    if chosen.method == "none":
        return measure(model_dir, documents, qrels, dense, *how, run_file) | {"hybrid": "none"}
    words = _bm25_scores(*texts)

    def joined(chosen: Hybrid, run_file: str | None = None) -> dict[str, Any]:
        rows = (fuse(*scores, *chosen) for scores in zip(dense, words, strict=True))
        return measure(model_dir, documents, qrels, rows, *how, run_file)

    tried = {}
    if hybrid == _TUNE:
        chosen, shown = choose(lambda choice: joined(choice)["RR@10"])
        tried = {"tried": shown}
    results = joined(chosen, run_file) | {"hybrid": chosen.method, "bm25_weight": chosen.weight} | tried
    means = [name for name in results if "@" in name]
    alone = joined(Hybrid("none"))
    return results | {"vectors_alone": {name: alone[name] for name in means}}


def merge_equal_documents(data: beir.BeirData) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """Returns documents and judgments, where documents with equal text are one."""
    representative = _representatives(data.corpus)
    documents = {key: data.corpus[key] for key in representative.values()}
    qrels: dict[str, dict[str, int]] = {}
    for query, grades in data.qrels.items():
        merged = qrels.setdefault(query, {})
        for document, grade in grades.items():
            # Of the grades of equal texts, the highest counts.
            key = representative[document]
            merged[key] = max(grade, merged.get(key, grade))
    return documents, qrels


def measure(
    model_dir: str,
    documents: dict[str, str],
    qrels: dict[str, dict[str, int]],
    rows: Iterable[np.ndarray],
    candidates: str = "all",
    relevance: int = 1,
    run_file: str | None = None,
) -> dict[str, Any]:
    """Returns what `retrieval` returns, of the scores that a model gave.

    Args:
      model_dir: what an error calls the model.
      documents: texts by key, C of them.
      qrels: for each query the grades of documents; see `merge_equal_documents`.
      rows: for each query the scores of all documents, [C].
      candidates: as in `retrieval`.
      relevance: as in `retrieval`.
      run_file: as in `retrieval`.
    """
    keys = list(documents)
    column = {key: i for i, key in enumerate(keys)}
    run: dict[str, dict[str, float]] = {}
    scored: dict[str, dict[str, float]] = {}
    for query, row in zip(qrels, rows, strict=True):  # row: [C]
        chosen = [column[key] for key in qrels[query]] if candidates == "judged" else top(row, _DEPTH)
        if not np.all(np.isfinite(row)):
            raise ValueError(f"{model_dir} scores query {query!r} with NaN or infinity. Its weights are damaged.")
        # The measures break ties in different ways: they are given ranks. Equal scores earn nothing: among them, the
        # less relevant document comes first.
        ranked = sorted((-float(row[i]), qrels[query].get(keys[i], 0), keys[i]) for i in chosen)
        scored[query] = {key: -negated for negated, _, key in ranked}
        run[query] = {key: -float(rank) for rank, (_, _, key) in enumerate(ranked)}
    if run_file:
        _write_run(scored, run_file)
    relevant = {
        query: {key: grade if grade >= relevance else 0 for key, grade in grades.items()}
        for query, grades in qrels.items()
    }
    measures = {
        **{f"Success@{k}": Success(rel=relevance) @ k for k in (1, 5, 10)},
        "R@100": R(rel=relevance) @ 100,
        "RR@10": RR(rel=relevance) @ 10,
        "nDCG@10": nDCG @ 10,
        "AP@10": AP(rel=relevance) @ 10,
    }
    results = ir_measures.calc_aggregate(list(measures.values()), relevant, run)
    return {
        **{name: round(float(results[measure]), 4) for name, measure in measures.items()},
        "queries": len(run),
        "documents": len(documents),
        "queries_without_relevant": sum(not any(grades.values()) for grades in relevant.values()),
    }


def _representatives(corpus: dict[str, str]) -> dict[str, str]:
    """Returns for each document the first one whose text is equal in normal form."""
    first: dict[int, str] = {}
    return {key: first.setdefault(cleaning.group(cleaning.clean(text)), key) for key, text in corpus.items()}


class _Rows:
    """Scores of all documents for each query, [C]; computed as they are asked for, each time: all would fill memory."""

    def __init__(self, scores: Callable[[], Iterator[np.ndarray]]):
        self._scores = scores

    def __iter__(self) -> Iterator[np.ndarray]:
        return self._scores()


def _encoder_scores(
    retriever: TrainedRetriever, queries: list[str], documents: list[str], dims: int
) -> Iterable[np.ndarray]:
    """Returns for each query the cosines with all documents, [C]."""
    shorten(np.ones((1, retriever.config.width), np.float32), dims)  # fails now, not after the work
    document_vectors = shorten(retriever.embed(documents, "answer", progress="documents").head, dims)  # [C, D]
    query_vectors = shorten(retriever.embed(queries, "question", progress="queries").head, dims)  # [Q, D]
    starts = range(0, len(queries), _QUERIES_TOGETHER)
    return _Rows(lambda: (row for i in starts for row in query_vectors[i : i + _QUERIES_TOGETHER] @ document_vectors.T))


def _bm25_scores(queries: list[str], documents: list[str]) -> Iterable[np.ndarray]:
    """Returns for each query the BM25 scores of all documents, [C]."""
    lexical = Lexical.build(documents)
    return _Rows(lambda: map(lexical.scores, queries))


def _write_run(run: dict[str, dict[str, float]], path: str) -> None:
    lines = []
    for query, scores in run.items():
        lines += [
            f"{query} Q0 {key} {rank} {score:.6f} docproduct" for rank, (key, score) in enumerate(scores.items(), 1)
        ]
    files.write_text(path, "\n".join(lines) + "\n")


def _define_flags() -> None:
    flags.DEFINE_string("model_dir", None, "Trained retriever, bare encoder folder, or bm25.", required=True)
    flags.DEFINE_string("beir_dir", None, "Folder with corpus.jsonl, queries.jsonl and qrels/.", required=True)
    flags.DEFINE_string("split", None, "Which file of qrels/; default: test, or the only one.")
    flags.DEFINE_enum("candidates", "all", CANDIDATES, "What is ranked for a query.")
    flags.DEFINE_integer("relevance", 1, "The lowest grade that is relevant.", lower_bound=1)
    flags.DEFINE_enum(
        "hybrid", AUTO, [AUTO, *HYBRIDS, _TUNE], "How BM25 counts beside the model; auto: as was best in training."
    )
    flags.DEFINE_float("bm25_weight", 0.1, "Of BM25, with --hybrid=weight.")
    flags.DEFINE_integer("dims", 0, "Components of the vectors that count; 0: all.")
    flags.DEFINE_enum("precision", "auto", PRECISIONS, "Of the encoder; auto: bfloat16 where it is fast.")
    flags.DEFINE_string("run_file", None, "Where to write the rankings, in TREC format.")


def main(argv: list[str]) -> None:
    """Evaluates what the flags describe."""
    if argv[1:] != ["retrieval"]:
        raise app.UsageError(f"Expected what to evaluate: retrieval. Received: {' '.join(argv[1:]) or 'nothing'}.")
    values = flags.FLAGS
    set_up()
    try:
        split = values.split or beir.default_split(values.beir_dir)
        data = beir.read(values.beir_dir, split)
        if data.missing:
            print(f"{data.missing} judged documents are not in the corpus and do not count.", file=sys.stderr)
        options = values.hybrid, values.bm25_weight, values.dims, values.precision
        results = retrieval(values.model_dir, data, values.candidates, values.relevance, values.run_file, *options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing was measured.")
    policy = None if values.model_dir.lower() == "bm25" else dtype_policy(values.precision)
    what = {"model_dir": values.model_dir, "beir_dir": values.beir_dir, "split": split, "dtype_policy": policy}
    how = {"dims": values.dims, "candidates": values.candidates, "relevance": values.relevance}
    if values.hybrid == _TUNE:
        how["tuned_on"] = "these queries: score others with what was chosen"
    print(json.dumps(what | how | results))


if __name__ == "__main__":
    _define_flags()
    app.run(main)
