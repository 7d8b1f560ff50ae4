"""Ranks the documents of a BEIR folder for each query, and scores the rankings with ir-measures.

Documents with equal text count once. The metrics: Success@1, Success@5, Success@10, R@100, RR@10, nDCG@10, AP@10.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ir_measures
import numpy as np
import tensorflow as tf
from ir_measures import AP, RR, R, Success, nDCG

from data_pipeline import beir, cleaning
from data_pipeline.folders import files
from data_pipeline.settings import Settings, setting
from docproduct.evaluate.record import Record
from docproduct.index import windows
from docproduct.layers.precision import PRECISIONS
from docproduct.search.fusion import AUTO, HYBRIDS, Hybrid, choose, fuse, top
from docproduct.search.words import WordIndex
from docproduct.systems.reranker import TrainedReranker
from docproduct.systems.reranker.folder import DEPTH
from docproduct.systems.reranker.rankings import reranked
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.folder import shorten

_DEPTH = 1_000  # documents of each ranking that are scored
_QUERIES_TOGETHER = 256
BM25 = "bm25"
TUNE = "tune"
# Settings that a report shows.
DECISIVE = ("candidates", "relevance", "dims", "max_text_tokens", "passage_tokens", "passage_overlap")
_WARM_UP = 64  # texts


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
        choices=(AUTO, *HYBRIDS, TUNE),
    )
    bm25_weight: float = setting(0.1, "Weight of BM25, with --hybrid=weight.", least=0, below=float("inf"))
    dims: int = setting(0, "Number of first components of the vectors to compare; 0: all.", least=0)
    precision: str = setting(
        "float32", "Precision of the encoder; auto: bfloat16 where it is fast.", choices=PRECISIONS
    )
    max_text_tokens: int = setting(0, "Tokens at which texts are cut; 0: as the model's folder says.", least=0)
    passage_tokens: int = setting(
        0,
        "Tokens per passage; a document's nearest passage counts. 0: each document is one, cut at the maximum length.",
        least=0,
    )
    passage_overlap: int = setting(32, "Number of tokens that two consecutive passages share.", least=0)
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
    record: Record | None = None,
) -> dict[str, Any]:
    """Ranks documents for each query and scores the rankings.

    Args:
      model_dir: A trained retriever, a bare encoder folder, or bm25.
      data: Documents, queries and judgments.
      settings: How retrieval is evaluated.
      run_file: Where to write the rankings, in TREC format; None: nowhere.
      record: Is filled with each query's values, and with the time; None: not needed.

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
    record = record or Record()
    outputs = (run_file, record)  # of the one pass that counts

    def measured(rows: Iterable[np.ndarray], *outputs: Any) -> dict[str, Any]:
        return measure(model_dir, documents, qrels, rows, settings, *outputs)

    if model_dir.lower() == BM25:
        unused = {name: getattr(settings, name) for name in ("hybrid", "dims", "max_text_tokens", "passage_tokens")}
        if given := [f"{name} is {value}" for name, value in unused.items() if value not in (AUTO, "none", 0)]:
            raise ValueError(
                f"{', '.join(given)}: BM25 alone has no vectors, and reads whole texts. Leave these flags out."
            )
        if settings.reranker_dir:
            raise ValueError("A reranker's scores build on the cosines of a retriever. Give it as model_dir.")
        return measured(_bm25_scores(*texts, record), *outputs)
    retriever = TrainedRetriever.load_for_many(
        model_dir, settings.precision, max_tokens=settings.max_text_tokens or None
    )
    cosines = _encoder_scores(retriever, *texts, settings, record)
    reranker = TrainedReranker.load(settings.reranker_dir, settings.precision) if settings.reranker_dir else None

    def ranked(rows: Iterable[np.ndarray]) -> dict[str, Any]:
        """Returns the results of the final rankings, reranked if there is a reranker."""
        if not reranker:
            return measured(rows, *outputs)
        column = {key: i for i, key in enumerate(documents)}
        judged = [[column[key] for key in grades] for grades in qrels.values()]
        of_judged = judged if settings.candidates == "judged" else None
        in_order = reranked(reranker.scores, *texts, rows, cosines, settings.rerank_depth, of_judged)
        before = measured(rows)
        described = {"rerank_depth": settings.rerank_depth, "rerank_weight": reranker.weight}
        without = {name: value for name, value in before.items() if "@" in name}
        return measured(in_order, *outputs) | described | {"without_reranker": without}

    chosen = retriever.hybrid if settings.hybrid == AUTO else Hybrid(settings.hybrid, settings.bm25_weight)
    if chosen.method == "none":
        return ranked(cosines) | {"hybrid": "none"}
    word_scores = _bm25_scores(*texts, record)

    def fused(hybrid: Hybrid) -> Iterable[np.ndarray]:
        return _Rows(lambda: (fuse(*scores, *hybrid) for scores in zip(cosines, word_scores, strict=True)))

    tried = {}
    if settings.hybrid == TUNE:
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
    record: Record | None = None,
) -> dict[str, Any]:
    """Scores the rankings of a model; returns what `retrieval` returns.

    Args:
      name: Name of the model, for errors.
      documents: C texts by key.
      qrels: The grades of documents for each query; see `merge_equal_documents`.
      rows: For each query the scores of all documents, [C].
      settings: Only `candidates` and `relevance` are used.
      run_file: As in `retrieval`.
      record: As in `retrieval`.
    """
    record = record or Record()
    keys = list(documents)
    column = {key: i for i, key in enumerate(keys)}
    run: dict[str, dict[str, float]] = {}
    scored: dict[str, dict[str, float]] = {}
    for query, row in zip(qrels, record.timed(rows), strict=True):  # row: [C]
        with record.queries():
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
    titles = {measure: title for title, measure in measures(relevance).items()}
    values = {title: dict.fromkeys(relevant, 0.0) for title in titles.values()}
    for metric in ir_measures.iter_calc(list(titles), relevant, run):
        values[titles[metric.measure]][metric.query_id] = float(metric.value)
    record.per_query = values
    return {
        **{title: round(float(np.mean(list(of.values()))), 4) for title, of in values.items()},
        "queries": len(run),
        "documents": len(documents),
        "queries_without_relevant": sum(not any(grades.values()) for grades in relevant.values()),
    }


def measures(relevance: int = 1) -> dict[str, ir_measures.measures.Measure]:
    """Returns the metrics by name, for a lowest grade that counts as relevant."""
    return {
        **{f"Success@{k}": Success(rel=relevance) @ k for k in (1, 5, 10)},
        "R@100": R(rel=relevance) @ 100,
        "RR@10": RR(rel=relevance) @ 10,
        "nDCG@10": nDCG @ 10,
        "AP@10": AP(rel=relevance) @ 10,
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
    retriever: TrainedRetriever, queries: list[str], documents: list[str], settings: EvaluationSettings, record: Record
) -> Iterable[np.ndarray]:
    """Returns for each query the cosines with all documents, [C]; a document has that of its nearest passage."""
    dims, size = settings.dims, settings.passage_tokens

    def token_ids(texts: list[str]) -> tuple[tf.RaggedTensor, np.ndarray | None]:
        """Returns the ids of P texts or passages, [P, (T)], and the number of each text's first passage, [N]."""
        if not size:
            return retriever.token_ids(texts, "answer"), None
        passages = windows.cut(texts, retriever, size, settings.passage_overlap)
        return passages.ids, np.flatnonzero(passages.numbers == 0)

    shorten(np.ones((1, retriever.config.width), np.float32), dims)  # raises its error before the work
    retriever.embed_ids(token_ids(documents[:_WARM_UP])[0], "answer")  # traces the graph, which is not timed
    retriever.embed(queries[:_WARM_UP], "question")
    with record.documents():
        ids, first = token_ids(documents)
        document_vectors = shorten(retriever.embed_ids(ids, "answer", progress="documents").head, dims)  # [P, D]
    with record.queries():
        query_vectors = shorten(retriever.embed(queries, "question", progress="queries").head, dims)  # [Q, D]
    starts = range(0, len(queries), _QUERIES_TOGETHER)

    def rows() -> Iterator[np.ndarray]:
        for start in starts:
            cosines = query_vectors[start : start + _QUERIES_TOGETHER] @ document_vectors.T  # [Q, P]
            yield from np.maximum.reduceat(cosines, first, axis=1) if size else cosines

    return _Rows(rows)


def _bm25_scores(queries: list[str], documents: list[str], record: Record) -> Iterable[np.ndarray]:
    """Returns for each query the BM25 scores of all documents, [C]."""
    with record.documents():
        words = WordIndex.build(documents)
    return _Rows(lambda: map(words.scores, queries))


def _write_run(run: dict[str, dict[str, float]], path: str) -> None:
    lines = []
    for query, scores in run.items():
        lines += [
            f"{query} Q0 {key} {rank} {score:.6f} docproduct" for rank, (key, score) in enumerate(scores.items(), 1)
        ]
    files.write_text(path, "\n".join(lines) + "\n")
