"""How far a calibration is off when an index has grown since, beside a new calibration.

    python -m benchmarks.live_threshold --encoder_dir=ENCODER

An index of half of the topics of the bundled sample is calibrated. Then pairs of other topics are added. Questions of
the grown index are asked, in the table's words and in others, with their answers and without all of their topic; see
docproduct/index/refusals.py. Ends with one line of JSON.
"""

from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import measuring
from docproduct.index import refusals, sample_vectors
from docproduct.index.calibrating import sample_content
from docproduct.index.content import Content
from docproduct.index.settings import IndexSettings
from docproduct.search.answerable import AnswerableModel
from docproduct.search.shared_words import WordWeights
from docproduct.search.spelling import Speller
from docproduct.systems.retriever import TrainedRetriever
from docproduct.training.devices import set_up

_ADDED = (0.0, 0.1, 0.25, 0.5, 1.0)  # of the number of pairs


def gather(content: Content, retriever: TrainedRetriever) -> refusals.Evidence:
    """Asks the questions of a calibration."""
    texts = zip(content.pairs["question"].to_pylist(), content.pairs["answer"].to_pylist(), strict=True)
    words = WordWeights.build(f"{question}\n{answer}" for question, answer in texts)
    correct = Speller(words.counts, retriever.tokenizer).correct
    return refusals.gather(content, words, lambda asked: retriever.embed(asked, "question").head, correct)


def shares(stored: dict[str, Any], observed: refusals.Observed) -> dict[str, float]:
    """Returns which share of the questions a calibration answers or refuses."""
    passes = AnswerableModel.from_json(stored["model"]).log_odds(observed.signals) >= stored["least_log_odds"]
    of_table, has_answer = observed.kinds == refusals.TABLE, observed.cases == refusals.WITH_ANSWER
    of_others = observed.cases == refusals.OTHER_TOPIC
    return {
        "answered, table's words": float(passes[has_answer & of_table].mean()),
        "answered, other words": float(passes[has_answer & ~of_table].mean()),
        "refused, other topic": float(1 - passes[of_others].mean()),
    }


def main(argv: list[str]) -> None:
    """Measures both calibrations after changes of several sizes."""
    del argv
    set_up()
    retriever = TrainedRetriever.load(flags.FLAGS.encoder_dir)
    whole = sample_content(sample_vectors.cached(retriever), IndexSettings())
    topics = np.unique(np.array(whole.pairs["focus"].to_pylist()), return_inverse=True)[1]
    order = np.argsort(np.random.default_rng(flags.FLAGS.seed).permutation(topics.max() + 1)[topics], kind="stable")
    half, stale, metrics = len(order) // 2, None, []
    for change in _ADDED:
        chosen = np.isin(np.arange(len(order)), order[: int(half * (1 + change))])
        evidence = gather(whole.taken(chosen), retriever)
        new = refusals.calibrate(evidence, flags.FLAGS.kept)
        stale = stale or new
        before, after = (shares(stored, evidence.calibrating) for stored in (stale, new))
        measuring.show(f"{chosen.sum()} pairs ({change:+.0%})", [(name, [before[name]], "") for name in before])
        for name in before:
            print(f"    calibrated anew: {name:32s} {after[name]:.3f}")
            metrics.append(measuring.metric(f"{name}, {change:+.0%}", "", before[name], {"anew": after[name]}))
    measuring.finish("live_threshold", ["tensorflow"], metrics)


if __name__ == "__main__":
    flags.DEFINE_string("encoder_dir", None, "all-MiniLM-L6-v2, or another encoder.", required=True)
    flags.DEFINE_float("kept", 0.95, "Share of the questions with an answer that should pass.")
    flags.DEFINE_integer("seed", 0, "Seed of the order of the topics.")
    app.run(main)
