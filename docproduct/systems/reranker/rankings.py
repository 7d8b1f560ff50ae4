"""Whole rankings in the order of a reranker, for evaluations.

C documents
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from docproduct.search.fusion import top

Scores = Callable[[str, Sequence[str], Sequence[float]], np.ndarray]  # see TrainedReranker.scores


def reranked(
    scores_of: Scores,
    queries: Sequence[str],
    documents: Sequence[str],
    rows: Iterable[np.ndarray],
    cosines: Iterable[np.ndarray],
    depth: int,
    judged: Sequence[Sequence[int]] | None = None,
) -> Iterator[np.ndarray]:
    """Yields for each query the scores of all documents, [C], with the reranker's order of the first ones.

    Args:
      scores_of: `TrainedReranker.scores`, of the first documents; all others stay behind them, in their order.
      queries: Clean texts.
      documents: C clean texts.
      rows: For each query the scores that rank the documents, [C].
      cosines: For each query the retriever's cosines, [C].
      depth: Number of first documents that are reranked.
      judged: For each query the documents that are reranked, instead of the first ones.
    """
    each = zip(queries, rows, cosines, judged or [None] * len(queries), strict=True)
    for query, row, cosine, of_query in tqdm(each, desc="reranking", total=len(queries), unit=" queries"):
        first = top(row, depth) if of_query is None else np.array(of_query, int)
        first = first[np.argsort(-row[first], kind="stable")]
        answers = [documents[i] for i in first.tolist()]
        scores = scores_of(query, answers, cosine[first])
        result = np.array(row, np.float32)
        others = np.delete(result, first)
        # The lowest reranked score is one above the highest of the others.
        result[first] = scores - scores.min() + others.max(initial=0.0) + 1
        yield result
