"""Hard negatives: answers that a model, or BM25, ranks close to a question's own, and that do not answer it.

    python -m docproduct.negatives --model_dir=/tmp/model --prepared_dir=/tmp/prepared --output_dir=/tmp/negatives

    negatives.parquet   pair_id, score (of the own answer), negative_pair_ids and negative_scores, the best first
    manifest.json       written last: encoder, settings, statistics

The scores are cosines of the model. A table of the same columns with another teacher's scores serves as well, for
distillation. Ends with one line of JSON: the statistics.

    N pairs, Q different questions, C different answers, D width
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import app, flags, logging

from data_pipeline import splits
from data_pipeline.batches.hard_negatives import FORMAT, KIND, NEGATIVES_FILE, SCHEMA
from data_pipeline.folders import files
from data_pipeline.folders.manifest import MANIFEST_FILE
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.settings import Settings, define_flags, flag_values, setting
from docproduct import command
from docproduct.layers import precision
from docproduct.search.faiss_engine import nearest
from docproduct.search.fusion import top
from docproduct.search.words import WordIndex
from docproduct.systems.retriever import TrainedRetriever

_COLUMNS = ["pair_id", "question", "answer", "question_group", "answer_group"]
_RULES = ("related", "rank", "margin", "max_score")  # that leave candidates out


@dataclasses.dataclass(frozen=True)
class MiningSettings(Settings):
    """Which candidates become hard negatives."""

    by: str = setting(
        "model", "Ranking to take candidates from; both: from both rankings.", choices=("model", "bm25", "both")
    )
    first_rank: int = setting(
        1, "First rank to take candidates from, as the highest ranks often are right answers; 1: all.", least=1
    )
    last_rank: int = setting(100, "Last rank to take candidates from.", least=1)
    max_negatives: int = setting(
        20, "Maximum number of hard negatives per pair; the best candidates are taken.", least=1
    )
    absolute_margin: float | None = setting(
        None, "Minimum distance of a candidate's cosine below the right answer's; default: no limit."
    )
    relative_margin: float = setting(
        0.95, "Maximum cosine of a candidate, as a share of the right answer's cosine.", above=0, most=10
    )
    max_score: float = setting(1.0, "Maximum cosine of a candidate.")

    def __post_init__(self) -> None:
        """Raises a ValueError for an impossible setting."""
        super().__post_init__()
        if self.first_rank > self.last_rank:
            raise ValueError(
                f"first_rank is {self.first_rank}, last_rank {self.last_rank}; expected 1 <= first_rank <= last_rank."
            )


def mine(
    retriever: TrainedRetriever,
    prepared: PreparedFolder,
    output_dir: str,
    settings: MiningSettings = MiningSettings(),
    encoder_name: str = "",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Finds hard negatives for every pair of train among train's answers and writes them, whole or not at all.

    The answers of all pairs with an equal question, and answers of equal text, are never negatives.

    Returns:
      The statistics: pairs, pairs_with_negatives, negatives_per_pair (mean), mean_own_score, mean_negative_score, and
      the number of candidates that each rule left out: related, rank, margin, max_score.

    Raises:
      ValueError: there are no train pairs.
    """
    if not prepared.num_rows(splits.TRAIN):
        raise ValueError(f"{prepared.path} has no train pairs. Prepare it again, with more pairs.")
    pairs = prepared.table(_COLUMNS, splits.TRAIN)
    with files.whole_folder(output_dir, overwrite, KIND) as folder:
        rows, left_out = _mined(retriever, pairs, settings)
        pq.write_table(pa.table(rows, schema=SCHEMA), os.path.join(folder, NEGATIVES_FILE))
        statistics = _statistics(rows) | {"left_out": left_out}
        manifest = {
            "kind": KIND,
            "format": FORMAT,
            "encoder": {
                "name": encoder_name,
                "fingerprint": retriever.fingerprint(),
                "dtype_policy": retriever.dtype_policy,
            },
            "prepared": prepared.fingerprint(),
            "settings": dataclasses.asdict(settings),
            "statistics": statistics,
        }
        files.write_json(os.path.join(folder, MANIFEST_FILE), manifest)
    return statistics


def _mined(
    retriever: TrainedRetriever, pairs: pa.Table, settings: MiningSettings
) -> tuple[dict[str, list[Any]], dict[str, int]]:
    """Returns the columns of negatives.parquet, and how many candidates each rule left out; `pairs` has N rows."""
    pair_ids, question_groups, answer_groups = (
        pairs[name].to_numpy() for name in ("pair_id", "question_group", "answer_group")
    )
    # Equal questions are asked once, equal answers are one candidate: [Q] and [C] rows of the table.
    _, question_rows, question_of_pair = np.unique(question_groups, return_index=True, return_inverse=True)
    _, answer_rows, answer_of_pair = np.unique(answer_groups, return_index=True, return_inverse=True)
    questions = pairs["question"].take(pa.array(question_rows)).to_pylist()
    answers = pairs["answer"].take(pa.array(answer_rows)).to_pylist()
    question_vectors = retriever.embed(questions, "question", progress="questions").head  # [Q, D]
    answer_vectors = retriever.embed(answers, "answer", progress="answers").head  # [C, D]
    related: list[set[int]] = [set() for _ in questions]  # the answers of each question
    for question, answer in zip(question_of_pair, answer_of_pair, strict=True):
        related[question].add(int(answer))
    depth = min(settings.last_rank + max(map(len, related), default=0), len(answers))
    rankings = []  # [Q, depth] answers each
    if settings.by != "bm25":
        rankings.append(nearest(answer_vectors, question_vectors, depth))
    if settings.by != "model":
        rankings.append(_bm25_ranking(questions, answers, depth))
    left_out = dict.fromkeys(_RULES, 0)
    rows: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for pair_id, question, answer in zip(pair_ids, question_of_pair, answer_of_pair, strict=True):
        own = float(question_vectors[question] @ answer_vectors[answer])
        candidates = _candidates([ranking[question] for ranking in rankings], related[question], settings, left_out)
        scores = answer_vectors[candidates] @ question_vectors[question]
        best = _best(scores, own, settings, left_out)
        rows["pair_id"].append(pair_id)
        rows["score"].append(own)
        rows["negative_pair_ids"].append(pair_ids[answer_rows[candidates[best]]])
        rows["negative_scores"].append(scores[best])
    return rows, left_out


def _candidates(
    rankings: Sequence[np.ndarray], related: set[int], settings: MiningSettings, left_out: dict[str, int]
) -> np.ndarray:
    """Returns the answers inside the rank window; ranks are counted without the question's own answers."""
    candidates: list[int] = []
    for ranking in rankings:
        others = [answer for answer in ranking.tolist() if answer not in related]
        left_out["related"] += len(ranking) - len(others)
        left_out["rank"] += min(settings.first_rank - 1, len(others))
        candidates += others[settings.first_rank - 1 : settings.last_rank]
    return np.array(list(dict.fromkeys(candidates)), int)


def _best(scores: np.ndarray, own: float, settings: MiningSettings, left_out: dict[str, int]) -> np.ndarray:
    """Returns the positions of the highest scores that are far enough below the own answer's."""
    limits = [own * settings.relative_margin if own > 0 else own]
    limits += [] if settings.absolute_margin is None else [own - settings.absolute_margin]
    within_margin, too_high = scores > min(limits), scores > settings.max_score
    left_out["margin"] += int(within_margin.sum())
    left_out["max_score"] += int((too_high & ~within_margin).sum())
    allowed = np.flatnonzero(~within_margin & ~too_high)
    return allowed[np.argsort(-scores[allowed], kind="stable")][: settings.max_negatives]


def _bm25_ranking(questions: Sequence[str], answers: Sequence[str], depth: int) -> list[np.ndarray]:
    """Returns for each question the answers that share a word with it, the best first."""
    words = WordIndex.build(answers)
    rankings = []
    for question in questions:
        scores = words.scores(question)
        best = top(scores, depth)
        best = best[np.argsort(-scores[best], kind="stable")]
        rankings.append(best[scores[best] > 0])
    return rankings


def _statistics(rows: dict[str, list[Any]]) -> dict[str, Any]:
    counts = np.array([len(negatives) for negatives in rows["negative_pair_ids"]])
    scores = np.concatenate([np.zeros(0, np.float32), *rows["negative_scores"]])
    return {
        "pairs": len(counts),
        "pairs_with_negatives": int((counts > 0).sum()),
        "negatives_per_pair": float(counts.mean()) if len(counts) else 0.0,
        "mean_own_score": float(np.mean(rows["score"])) if len(counts) else 0.0,
        "mean_negative_score": float(scores.mean()) if len(scores) else 0.0,
    }


def _define_flags() -> None:
    flags.DEFINE_string("model_dir", None, "Trained retriever, or a bare encoder folder.", required=True)
    flags.DEFINE_string("prepared_dir", None, "Prepared folder whose train pairs are mined.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder to write.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace output_dir.")
    flags.DEFINE_enum(
        "precision", "auto", precision.PRECISIONS, "Precision of the encoder; auto: bfloat16 where it is fast."
    )
    define_flags(MiningSettings)


def main(argv: list[str]) -> None:
    """Mines the hard negatives that the flags describe."""
    values = command.begin(argv)
    with command.errors_on_one_line():
        statistics = mine(
            TrainedRetriever.load_for_many(values.model_dir, values.precision),
            PreparedFolder(values.prepared_dir),
            values.output_dir,
            MiningSettings(**flag_values(MiningSettings)),
            values.model_dir,
            values.overwrite,
        )
    if not statistics["pairs_with_negatives"]:
        logging.warning("No candidate was left for any pair: raise --last_rank or --relative_margin.")
    print(json.dumps({"output_dir": values.output_dir, **statistics}))


if __name__ == "__main__":
    _define_flags()
    app.run(main)
