"""Evaluates retrieval on data in BEIR layout, with the metrics of ir-measures.

    python -m docproduct.evaluate retrieval --model_dir=/tmp/model --beir_dir=/tmp/beir --split=dev

--model_dir is a trained retriever, a bare encoder folder (zero-shot), or bm25. Documents with equal text count once.
Ends with one line of JSON: Success@1, Success@5, Success@10, R@100, RR@10, nDCG@10, AP@10.
"""

import dataclasses
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
from data_pipeline.settings import Settings, define_flags, flag_values, setting
from docproduct import command
from docproduct.layers.precision import PRECISIONS, dtype_policy
from docproduct.search.fusion import AUTO, HYBRIDS, Hybrid, choose, fuse, top
from docproduct.search.words import WordIndex
from docproduct.systems.reranker import TrainedReranker
from docproduct.systems.reranker.folder import DEPTH
from docproduct.systems.reranker.rankings import reranked
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.folder import shorten
from docproduct.training.devices import set_up

_DEPTH = 1_000  # documents of each ranking that are scored
_QUERIES_TOGETHER = 256
_TUNE = "tune"


@dataclasses.dataclass(frozen=True)
class EvaluationSettings(Settings):
    """How retrieval is evaluated; `fusion.fuse` describes the values of `hybrid`, nDCG takes grades as gains."""

    candidates: str = setting(
        "all", "Documents to rank for a query: all, or those that its qrels name.", choices=("all", "judged")
    )
    relevance: int = setting(1, "Lowest grade that counts as relevant.", least=1)
    hybrid: str = setting(
        AUTO,
        "How BM25 is combined with the model; auto: the best way on dev in training; tune: the best way here.",
        choices=(AUTO, *HYBRIDS, _TUNE),
    )
    bm25_weight: float = setting(0.1, "Weight of BM25, with --hybrid=weight.", least=0, below=float("inf"))
    dims: int = setting(0, "Number of first components of the vectors to compare; 0: all.", least=0)
    precision: str = setting(
        "float32", "Precision of the encoder; auto: bfloat16 where it is fast.", choices=PRECISIONS
    )
    reranker_dir: str | None = setting(
        None, "Reranker, trained with train_embeddings.py --task=reranker, that orders the first documents."
    )
    rerank_depth: int = setting(
        DEPTH, "Number of first documents to rerank; with --candidates=judged, all are.", least=2
    )


def retrieval(
    model_dir: str,
    data: beir.BeirData,
    settings: EvaluationSettings = EvaluationSettings(),
    run_file: str | None = None,
) -> dict[str, Any]:
    """Ranks documents for each query and scores the rankings.

    Args:
      model_dir: A trained retriever, a bare encoder folder, or bm25.
      data: Documents, queries and judgments.
      settings: How retrieval is evaluated.
      run_file: Where to write the rankings, in TREC format; None: nowhere.

    Returns:
      {"Success@1", "Success@5", "Success@10", "R@100", "RR@10", "nDCG@10", "AP@10": mean over all judged queries,
      "queries", "documents", "queries_without_relevant": counts}. For an encoder also "hybrid"; if BM25 is joined,
      "bm25_weight" and "vectors_alone", the means without it; for tune also "tried", the RR@10 of each way. With a
      reranker also "rerank_depth", "rerank_weight" and "without_reranker", the means without it.

    Raises:
      ValueError: model_dir holds no model, or one whose scores are no numbers.
      FileNotFoundError: the folder of run_file does not exist.
    """
    if run_file and not os.path.isdir(os.path.dirname(os.path.abspath(run_file))):
        # Raised before the work, which may take an hour.
        raise FileNotFoundError(f"There is no folder for {run_file}. Make it first.")
    documents, qrels = merge_equal_documents(data)
    texts = list(data.queries.values()), list(documents.values())

    def measured(rows: Iterable[np.ndarray], run_file: str | None = None) -> dict[str, Any]:
        return measure(model_dir, documents, qrels, rows, settings, run_file)

    if model_dir.lower() == "bm25":
        if settings.hybrid not in (AUTO, "none") or settings.dims:
            raise ValueError(
                f"hybrid is {settings.hybrid}, dims {settings.dims}: BM25 alone has no vectors. Leave these flags out."
            )
        if settings.reranker_dir:
            raise ValueError("A reranker's scores build on the cosines of a retriever. Give it as model_dir.")
        return measured(_bm25_scores(*texts), run_file)
    retriever = TrainedRetriever.load_for_many(model_dir, settings.precision)
    cosines = _encoder_scores(retriever, *texts, settings.dims)
    reranker = TrainedReranker.load(settings.reranker_dir, settings.precision) if settings.reranker_dir else None

    def ranked(rows: Iterable[np.ndarray]) -> dict[str, Any]:
        """Returns the results of the final rankings, reranked if there is a reranker."""
        if not reranker:
            return measured(rows, run_file)
        column = {key: i for i, key in enumerate(documents)}
        judged = [[column[key] for key in grades] for grades in qrels.values()]
        of_judged = judged if settings.candidates == "judged" else None
        in_order = reranked(reranker, *texts, rows, cosines, settings.rerank_depth, of_judged)
        before = measured(rows)
        described = {"rerank_depth": settings.rerank_depth, "rerank_weight": reranker.weight}
        without = {name: value for name, value in before.items() if "@" in name}
        return measured(in_order, run_file) | described | {"without_reranker": without}

    chosen = retriever.hybrid if settings.hybrid == AUTO else Hybrid(settings.hybrid, settings.bm25_weight)
    if chosen.method == "none":
        return ranked(cosines) | {"hybrid": "none"}
    word_scores = _bm25_scores(*texts)

    def fused(hybrid: Hybrid) -> Iterable[np.ndarray]:
        return _Rows(lambda: (fuse(*scores, *hybrid) for scores in zip(cosines, word_scores, strict=True)))

    tried = {}
    if settings.hybrid == _TUNE:
        chosen, rr_of = choose(lambda hybrid: measured(fused(hybrid))["RR@10"])
        tried = {"tried": rr_of}
    results = ranked(fused(chosen)) | {"hybrid": chosen.method, "bm25_weight": chosen.weight} | tried
    alone = measured(fused(Hybrid("none")))
    return results | {"vectors_alone": {name: alone[name] for name in results if "@" in name}}


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
    name: str,
    documents: dict[str, str],
    qrels: dict[str, dict[str, int]],
    rows: Iterable[np.ndarray],
    settings: EvaluationSettings = EvaluationSettings(),
    run_file: str | None = None,
) -> dict[str, Any]:
    """Scores the rankings of a model; returns what `retrieval` returns.

    Args:
      name: Name of the model, for errors.
      documents: C texts by key.
      qrels: The grades of documents for each query; see `merge_equal_documents`.
      rows: For each query the scores of all documents, [C].
      settings: Only `candidates` and `relevance` are used.
      run_file: As in `retrieval`.
    """
    keys = list(documents)
    column = {key: i for i, key in enumerate(keys)}
    run: dict[str, dict[str, float]] = {}
    scored: dict[str, dict[str, float]] = {}
    for query, row in zip(qrels, rows, strict=True):  # row: [C]
        chosen = [column[key] for key in qrels[query]] if settings.candidates == "judged" else top(row, _DEPTH)
        if not np.all(np.isfinite(row)):
            raise ValueError(f"{name} scores query {query!r} with NaN or infinity. Its weights are damaged.")
        # The measures break ties in different ways, so they get ranks. Equal scores earn nothing: among them, the less
        # relevant document comes first.
        ranked = sorted((-float(row[i]), qrels[query].get(keys[i], 0), keys[i]) for i in chosen)
        scored[query] = {key: -negated for negated, _, key in ranked}
        run[query] = {key: -float(rank) for rank, (_, _, key) in enumerate(ranked)}
    if run_file:
        _write_run(scored, run_file)
    relevance = settings.relevance
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
        **{title: round(float(results[measure]), 4) for title, measure in measures.items()},
        "queries": len(run),
        "documents": len(documents),
        "queries_without_relevant": sum(not any(grades.values()) for grades in relevant.values()),
    }


def _representatives(corpus: dict[str, str]) -> dict[str, str]:
    """Returns for each document the first document whose text is equal in normal form."""
    first: dict[int, str] = {}
    return {key: first.setdefault(cleaning.group(cleaning.clean(text)), key) for key, text in corpus.items()}


class _Rows:
    """Scores of all documents for each query, [C]. Each iteration computes them anew, as all would fill memory."""

    def __init__(self, scores: Callable[[], Iterator[np.ndarray]]):
        self._scores = scores

    def __iter__(self) -> Iterator[np.ndarray]:
        return self._scores()


def _encoder_scores(
    retriever: TrainedRetriever, queries: list[str], documents: list[str], dims: int
) -> Iterable[np.ndarray]:
    """Returns for each query the cosines with all documents, [C]."""
    shorten(np.ones((1, retriever.config.width), np.float32), dims)  # raises its error before the work
    document_vectors = shorten(retriever.embed(documents, "answer", progress="documents").head, dims)  # [C, D]
    query_vectors = shorten(retriever.embed(queries, "question", progress="queries").head, dims)  # [Q, D]
    starts = range(0, len(queries), _QUERIES_TOGETHER)
    return _Rows(lambda: (row for i in starts for row in query_vectors[i : i + _QUERIES_TOGETHER] @ document_vectors.T))


def _bm25_scores(queries: list[str], documents: list[str]) -> Iterable[np.ndarray]:
    """Returns for each query the BM25 scores of all documents, [C]."""
    words = WordIndex.build(documents)
    return _Rows(lambda: map(words.scores, queries))


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
    flags.DEFINE_string("split", None, "File of qrels/ to use; default: test, or the only one.")
    define_flags(EvaluationSettings, precision="auto")
    flags.DEFINE_string("run_file", None, "Where to write the rankings, in TREC format.")


def main(argv: list[str]) -> None:
    """Evaluates what the flags describe."""
    if argv[1:] != ["retrieval"]:
        raise app.UsageError(f"Expected what to evaluate: retrieval. Received: {' '.join(argv[1:]) or 'nothing'}.")
    values = flags.FLAGS
    set_up()
    with command.errors_on_one_line("nothing was measured."):
        split = values.split or beir.default_split(values.beir_dir)
        data = beir.read(values.beir_dir, split)
        if data.missing:
            print(f"{data.missing} judged documents are not in the corpus and do not count.", file=sys.stderr)
        settings = EvaluationSettings(**flag_values(EvaluationSettings))
        results = retrieval(values.model_dir, data, settings, values.run_file)
    policy = None if values.model_dir.lower() == "bm25" else dtype_policy(values.precision)
    described = {"model_dir": values.model_dir, "beir_dir": values.beir_dir, "split": split, "dtype_policy": policy}
    described |= {name: getattr(settings, name) for name in ("dims", "candidates", "relevance")}
    if settings.hybrid == _TUNE:
        described["tuned_on"] = "these queries: score others with the way that was chosen"
    print(json.dumps(described | results))


if __name__ == "__main__":
    _define_flags()
    app.run(main)
