"""Measures ways to read answers that are longer than the encoder was trained to read.

    python -m benchmarks.long_answers --model_dir=MODEL --beir_dir=beir

Each text is encoded once: the first 256 and 512 tokens, the first and the last 128, and passages of 256 and 128 tokens,
of which the nearest to the question counts. Ends with one line of JSON: of each way, RR@10 of the vectors alone, the
difference from the first 256 tokens with its 95 % interval (paired bootstrap), and RR@10 of the questions whose answer
is longer than 256 tokens, and of all others. With --reranker_dir, each way has a second row, with its first hits in the
order of the reranker, which always reads the beginning of an answer; its difference is from the first 256 tokens with
the reranker.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app, flags

from data_pipeline import beir
from docproduct.evaluate import ranking
from docproduct.evaluate.bootstrap import intervals
from docproduct.evaluate.record import Record
from docproduct.index import windows
from docproduct.systems.reranker import TrainedReranker
from docproduct.systems.reranker.folder import DEPTH
from docproduct.systems.reranker.mixing import mix
from docproduct.systems.reranker.rankings import Scores, reranked
from docproduct.systems.retriever import TrainedRetriever
from docproduct.training.devices import set_up

SIZE, LONGEST = 256, 512  # tokens
_OVERLAP = 32
_METRIC = "RR@10"


class Texts:
    """The documents of a BEIR folder, the queries' vectors, and how well other vectors find one with the other."""

    def __init__(self, retriever: TrainedRetriever, data: beir.BeirData):
        """Tokenizes the documents, and encodes the queries."""
        self.retriever = retriever
        self.documents, self.qrels = ranking.merge_equal_documents(data)
        self.texts = list(self.documents.values())
        self.ids = retriever.tokenizer.encode(self.texts, 2**30).to_list()
        self.lengths = np.array(list(map(len, self.ids)))
        self.questions = list(data.queries.values())
        self.queries = retriever.embed(self.questions, "question").head  # [Q, D]
        place = {key: number for number, key in enumerate(self.documents)}
        longest = [
            max((self.lengths[place[key]] for key, grade in grades.items() if grade), default=0)
            for grades in self.qrels.values()
        ]
        self.asks_long = np.array(longest) > SIZE  # [Q]

    def cosines(self, ids: tf.RaggedTensor) -> np.ndarray:
        """Returns the cosines of all queries with tokenized texts [N, (T)], [Q, N]."""
        return self.queries @ self.retriever.embed_ids(ids, "answer", progress="texts").head.T

    def cosines_of_lists(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns the same for N lists."""
        lengths = np.array(list(map(len, ids)), np.int32)
        return self.cosines(tf.RaggedTensor.from_row_lengths(np.concatenate(ids).astype(np.int32), lengths))

    def first(self, size: int) -> list[list[int]]:
        """Returns the ids of all documents, cut at a number of tokens."""
        return [ids if len(ids) <= size else [*ids[: size - 1], ids[-1]] for ids in self.ids]

    def nearest_passages(self, rows: np.ndarray, size: int) -> np.ndarray:
        """Returns for some documents the cosines of their nearest passages, [Q, N]."""
        cut = windows.cut([self.texts[row] for row in rows], self.retriever, size, _OVERLAP)
        return np.maximum.reduceat(self.cosines(cut.ids), np.flatnonzero(cut.numbers == 0), axis=1)

    def reciprocal_ranks(self, rows: Iterable[np.ndarray]) -> np.ndarray:
        """Returns the RR@10 of each query, [Q], from its scores of all documents, [N] each."""
        record = Record()
        ranking.measure("vectors", self.documents, self.qrels, rows, record=record)
        return np.array(list(record.per_query[_METRIC].values()))


def ways(texts: Texts) -> dict[str, np.ndarray]:
    """Returns the cosines of all queries with all documents by each way, [Q, N]; only long texts are read anew."""
    long, middle = np.flatnonzero(texts.lengths > SIZE), np.flatnonzero(texts.lengths > SIZE // 2)
    whole = texts.cosines_of_lists(texts.first(SIZE))

    def changed(rows: np.ndarray, cosines: np.ndarray) -> np.ndarray:
        result = whole.copy()
        result[:, rows] = cosines
        return result

    half, longer = SIZE // 2, texts.first(LONGEST)
    ends = [[*texts.ids[row][:half], *texts.ids[row][-half:]] for row in long]
    short_passages = changed(middle, texts.nearest_passages(middle, half))
    return {
        f"the first {SIZE}": whole,
        f"the first {LONGEST}": changed(long, texts.cosines_of_lists([longer[row] for row in long])),
        f"the first and the last {half}": changed(long, texts.cosines_of_lists(ends)),
        f"passages of {SIZE}": changed(long, texts.nearest_passages(long, SIZE)),
        f"passages of {half}": short_passages,
        f"mean of the first {SIZE} and the nearest passage of {half}": (whole + short_passages) / 2,
    }


def scores_read_once(reranker: TrainedReranker) -> Scores:
    """Returns a function like `TrainedReranker.scores` that reads no pair twice: the ways find much the same texts."""
    logit_of: dict[tuple[str, str], float] = {}

    def scores(question: str, answers: Sequence[str], cosines: Sequence[float]) -> np.ndarray:
        if new := [answer for answer in answers if (question, answer) not in logit_of]:
            (logits,) = reranker.logits_many([(question, new)])
            logit_of.update({(question, answer): logit for answer, logit in zip(new, logits.tolist(), strict=True)})
        return mix(cosines, np.array([logit_of[question, answer] for answer in answers]), reranker.weight)

    return scores


def compare(texts: Texts, reranker: TrainedReranker | None = None) -> dict[str, Any]:
    """Returns the results of all ways, and of all once more with a reranker."""
    cosines_of = ways(texts)
    results = table({name: texts.reciprocal_ranks(cosines) for name, cosines in cosines_of.items()}, texts.asks_long)
    if reranker:
        scores, ranks = scores_read_once(reranker), {}
        for name, cosines in cosines_of.items():
            rows = reranked(scores, texts.questions, texts.texts, cosines, cosines, DEPTH)
            ranks[f"{name}, reranked"] = texts.reciprocal_ranks(rows)
        results |= table(ranks, texts.asks_long)
    return results


def table(ranks: dict[str, np.ndarray], long: np.ndarray) -> dict[str, Any]:
    """Returns the means of several ways, and their differences from the first one.

    Args:
      ranks: By way, RR@10 of each query, [Q].
      long: Whether its answer is long, [Q].
    """
    base = next(iter(ranks.values()))
    bounds = intervals(np.array([values - base for values in ranks.values()]))
    return {
        name: {
            "RR@10": round(float(values.mean()), 4),
            "difference": [round(float(bound), 4) for bound in interval],
            "long answers": round(float(values[long].mean()), 4),
            "others": round(float(values[~long].mean()), 4),
        }
        for (name, values), interval in zip(ranks.items(), bounds, strict=True)
    }


def main(argv: list[str]) -> None:
    """Prints the table and one line of JSON."""
    del argv
    values = flags.FLAGS
    set_up()
    retriever = TrainedRetriever.load_for_many(values.model_dir, max_tokens=LONGEST)
    texts = Texts(retriever, beir.read(values.beir_dir, values.split or beir.default_split(values.beir_dir)))
    counts = {
        "queries": len(texts.qrels),
        "of long answers": int(texts.asks_long.sum()),
        "long documents": round(float((texts.lengths > SIZE).mean()), 3),
    }
    results = compare(texts, TrainedReranker.load(values.reranker_dir, "auto") if values.reranker_dir else None)
    for name, row in results.items():
        print(
            f"| {name} | {row['RR@10']:.3f} | {row['difference']} | {row['long answers']:.3f} | {row['others']:.3f} |"
        )
    print(json.dumps(counts | {"ways": results}))


if __name__ == "__main__":
    flags.DEFINE_string("model_dir", None, "Trained retriever, or bare encoder, that reads 512 tokens.", required=True)
    flags.DEFINE_string("reranker_dir", None, "Reranker of the first hits; default: none.")
    flags.DEFINE_string("beir_dir", None, "Folder with corpus.jsonl, queries.jsonl and qrels/.", required=True)
    flags.DEFINE_string("split", None, "File of qrels/ to use; default: test, or the only one.")
    app.run(main)
