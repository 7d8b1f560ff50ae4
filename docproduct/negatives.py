"""Hard negatives: answers that a model, or BM25, ranks near a question's own, and that do not answer it.

    python -m docproduct.negatives --model_dir=/tmp/model --prepared_dir=/tmp/prepared --output_dir=/tmp/negatives

    negatives.parquet   pair_id, score (of the own answer), negative_pair_ids and negative_scores, the best first
    manifest.json       written last: encoder, settings, statistics

The scores are cosines of the model. A table of the same columns with another teacher's scores serves as well, for
distillation. Ends with one line of JSON: the statistics.
"""

import dataclasses
import json
import os
import sys
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
from docproduct import index
from docproduct.layers.precision import PRECISIONS
from docproduct.search.lexical import Lexical, top
from docproduct.systems.retriever import TrainedRetriever
from docproduct.training.devices import set_up

MINERS = ("model", "bm25", "both")


@dataclasses.dataclass(frozen=True)
class MiningSettings:
    """Which candidates are taken.

    Attributes:
      by: whose ranking: model, bm25, or both (their candidates together).
      first_rank: candidates ranked before it are left out (1: none); the first ones often are answers.
      last_rank: candidates ranked after it are left out.
      max_negatives: kept for each pair, the best of those that remain.
      absolute_margin: a candidate's cosine is at most the own answer's minus this; None: no such limit.
      relative_margin: a candidate's cosine is at most this share of the own answer's (where that is above 0).
      max_score: a candidate's cosine is at most this.
    """

    by: str = "model"
    first_rank: int = 1
    last_rank: int = 100
    max_negatives: int = 20
    absolute_margin: float | None = None
    relative_margin: float = 0.95
    max_score: float = 1.0

    def __post_init__(self) -> None:
        """Raises a ValueError for an impossible setting."""
        if self.by not in MINERS:
            raise ValueError(f"by is {self.by!r}; expected {', '.join(MINERS)}.")
        if not 1 <= self.first_rank <= self.last_rank:
            raise ValueError(
                f"first_rank is {self.first_rank}, last_rank {self.last_rank}; expected 1 <= first_rank <= last_rank."
            )
        if not 0 < self.relative_margin <= 10:
            raise ValueError(f"relative_margin is {self.relative_margin}; expected a share above 0, such as 0.95.")
        if self.max_negatives < 1:
            raise ValueError(f"max_negatives is {self.max_negatives}; expected 1 or more.")


def mine(
    retriever: TrainedRetriever,
    prepared: PreparedFolder,
    output_dir: str,
    settings: MiningSettings = MiningSettings(),
    encoder_name: str = "",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Finds hard negatives for every pair of train among train's answers and writes them, whole or not at all.

    Never a negative: the answers of all pairs with an equal question, and answers of equal text.

    Returns:
      The statistics: pairs, pairs_with_negatives, negatives_per_pair (mean), mean_own_score, mean_negative_score, and
      how many candidates each rule left out: related, rank, margin, max_score.
    """
    if not prepared.num_pairs(splits.TRAIN):
        raise ValueError(f"{prepared.path} has no train pairs. Prepare it again, with more pairs.")
    pairs = prepared.pairs(["pair_id", "question", "answer", "question_group", "answer_group"], splits.TRAIN)
    pair_ids, question_groups, answer_groups = (
        pairs[name].to_numpy() for name in ("pair_id", "question_group", "answer_group")
    )
    # Equal questions are asked once, equal answers are one candidate: [Q] and [C] rows of the table.
    _, asked, question_of_row = np.unique(question_groups, return_index=True, return_inverse=True)
    _, answered, answer_of_row = np.unique(answer_groups, return_index=True, return_inverse=True)
    texts = {"question": pairs["question"].take(pa.array(asked)), "answer": pairs["answer"].take(pa.array(answered))}
    with files.whole_folder(output_dir, overwrite, KIND) as folder:
        questions, answers = (
            retriever.embed(texts[side].to_pylist(), side, progress=f"{side}s").head for side in ("question", "answer")
        )
        related: list[set[int]] = [set() for _ in asked]  # of each question, the columns of its answers
        for question, answer in zip(question_of_row, answer_of_row, strict=True):
            related[question].add(int(answer))
        depth = min(settings.last_rank + max(map(len, related), default=0), len(answers))
        rankings = []  # [Q, depth] columns of answers
        if settings.by != "bm25":
            rankings.append(index.nearest(answers, questions, depth))
        if settings.by != "model":
            rankings.append(_bm25_ranking(texts["question"].to_pylist(), texts["answer"].to_pylist(), depth))
        left_out = dict.fromkeys(("related", "rank", "margin", "max_score"), 0)
        rows: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        for row in range(len(pairs)):
            question, own = question_of_row[row], float(questions[question_of_row[row]] @ answers[answer_of_row[row]])
            columns = _candidates([ranking[question] for ranking in rankings], related[question], settings, left_out)
            scores = answers[columns] @ questions[question]
            kept = _best(scores, own, settings, left_out)
            rows["pair_id"].append(pair_ids[row])
            rows["score"].append(own)
            rows["negative_pair_ids"].append(pair_ids[answered[columns[kept]]])
            rows["negative_scores"].append(scores[kept])
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


def _candidates(
    rankings: list[np.ndarray], related: set[int], settings: MiningSettings, left_out: dict[str, int]
) -> np.ndarray:
    """Returns the columns inside the rank window; ranks are counted without the question's own answers."""
    found: list[int] = []
    for ranking in rankings:
        others = [column for column in ranking.tolist() if column not in related]
        left_out["related"] += len(ranking) - len(others)
        left_out["rank"] += min(settings.first_rank - 1, len(others))
        found += others[settings.first_rank - 1 : settings.last_rank]
    return np.array(list(dict.fromkeys(found)), int)


def _best(scores: np.ndarray, own: float, settings: MiningSettings, left_out: dict[str, int]) -> np.ndarray:
    """Returns the positions of the highest scores that are far enough below the own answer's."""
    limits = [own * settings.relative_margin if own > 0 else own]
    limits += [] if settings.absolute_margin is None else [own - settings.absolute_margin]
    near, high = scores > min(limits), scores > settings.max_score
    left_out["margin"] += int(near.sum())
    left_out["max_score"] += int((high & ~near).sum())
    kept = np.flatnonzero(~near & ~high)
    return kept[np.argsort(-scores[kept], kind="stable")][: settings.max_negatives]


def _bm25_ranking(questions: list[str], answers: list[str], depth: int) -> list[np.ndarray]:
    """Returns for each question the columns of answers with a word of it, the best first."""
    lexical = Lexical.build(answers)
    rankings = []
    for question in questions:
        scores = lexical.scores(question)
        best = top(scores, depth)
        best = best[np.argsort(-scores[best], kind="stable")]
        rankings.append(best[scores[best] > 0])
    return rankings


def _statistics(rows: dict[str, list[Any]]) -> dict[str, Any]:
    counts = np.array([len(found) for found in rows["negative_pair_ids"]])
    scores = np.concatenate([np.zeros(0, np.float32), *rows["negative_scores"]])
    return {
        "pairs": len(counts),
        "pairs_with_negatives": int((counts > 0).sum()),
        "negatives_per_pair": float(counts.mean()) if len(counts) else 0.0,
        "mean_own_score": float(np.mean(rows["score"])) if len(counts) else 0.0,
        "mean_negative_score": float(scores.mean()) if len(scores) else 0.0,
    }


def _define_flags() -> None:
    defaults = MiningSettings()
    flags.DEFINE_string("model_dir", None, "Trained retriever, or a bare encoder folder.", required=True)
    flags.DEFINE_string("prepared_dir", None, "The prepared folder whose train pairs are mined.", required=True)
    flags.DEFINE_string("output_dir", None, "The folder to write.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace output_dir if it is there.")
    flags.DEFINE_enum("by", defaults.by, MINERS, "Whose ranking.")
    flags.DEFINE_integer("first_rank", defaults.first_rank, "Candidates ranked before it are left out.")
    flags.DEFINE_integer("last_rank", defaults.last_rank, "Candidates ranked after it are left out.")
    flags.DEFINE_integer("max_negatives", defaults.max_negatives, "Kept for each pair.")
    flags.DEFINE_float("absolute_margin", defaults.absolute_margin, "Least distance below the own answer's cosine.")
    flags.DEFINE_float("relative_margin", defaults.relative_margin, "Largest share of the own answer's cosine.")
    flags.DEFINE_float("max_score", defaults.max_score, "Largest cosine.")
    flags.DEFINE_enum("precision", "auto", PRECISIONS, "Of the encoder; auto: bfloat16 where it is fast.")


def main(argv: list[str]) -> None:
    """Mines what the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    logging.set_verbosity(logging.INFO)
    values = flags.FLAGS
    set_up()
    try:
        settings = MiningSettings(
            **{field.name: values[field.name].value for field in dataclasses.fields(MiningSettings)}
        )
        statistics = mine(
            TrainedRetriever.load_for_many(values.model_dir, values.precision),
            PreparedFolder(values.prepared_dir),
            values.output_dir,
            settings,
            values.model_dir,
            values.overwrite,
        )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing was written.")
    if not statistics["pairs_with_negatives"]:
        logging.warning("No candidate was left for any pair: raise --last_rank or --relative_margin.")
    print(json.dumps({"output_dir": values.output_dir, **statistics}))


if __name__ == "__main__":
    _define_flags()
    app.run(main)
