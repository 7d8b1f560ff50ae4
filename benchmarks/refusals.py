"""Measures which questions an index answers: each signal's ROC-AUC, and what is refused, by words and by distance.

    python -m benchmarks.refusals --model_dir=model --prepared_dir=prepared --index_dir=index

The signals are those of questions of the calibration that set the threshold; docproduct/index/refusals.py makes them.
Questions of another field are about everyday things. "changed" tells how many words of topics, all right ones, would be
taken for slips if the table lacked them. With --reranker_dir, "reranked" has the same figures with the reranker's logit
as another signal. Ends with one line of JSON for each --kept.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from absl import app, flags, logging

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.other_words import SYNONYM
from data_pipeline.tokenizers import Tokenizer
from docproduct.index import Index, refusals
from docproduct.index.content import OTHER_NAMES, Content
from docproduct.metrics import roc_auc
from docproduct.search.answerable import OF_SEARCH, AnswerableModel, Signals, conformal
from docproduct.search.shared_words import WordWeights, words_of
from docproduct.search.spelling import Speller
from docproduct.systems.reranker import TrainedReranker
from docproduct.systems.retriever import TrainedRetriever

EVERYDAY = (
    "How do I fix a flat bicycle tyre?",
    "What is the capital of France?",
    "How long do I boil an egg?",
    "Which train goes to Vienna?",
    "What is the best way to learn chess?",
    "How do I file my tax return?",
    "Who won the football match last night?",
    "How many people live in Brazil?",
    "How do I remove a red wine stain from a carpet?",
    "When was the printing press invented?",
    "What does a compiler do?",
    "How can I renew my passport?",
    "Which wood is good for a bookshelf?",
    "Why is the sky blue?",
    "How far away is the moon?",
    "How do I tune a guitar?",
    "What is the price of gold today?",
    "Can you recommend a hotel in Rome?",
    "How do I reset the password of my email?",
    "When do tulips have to be planted?",
    "asdf qwer zxcv",
    "Wie wird das Wetter morgen in Hamburg?",
)
OTHER_FIELD = "other field"


def read_content(prepared_dir: str, index: Index) -> Content:
    """Returns what an index with one vector for each answer searches."""
    prepared = PreparedFolder(prepared_dir).table(["pair_id", "split", "synonyms"]).to_pydict()
    split_of, names_of = (dict(zip(prepared["pair_id"], prepared[name], strict=True)) for name in ("split", "synonyms"))
    pairs, vectors = index.pairs.table(), {side: index.vectors(side) for side in index.sides}
    splits = np.array([split_of[pair_id] for pair_id in pairs["pair_id"].to_pylist()])
    if OTHER_NAMES not in pairs.column_names:  # an index that was built before it held other names
        pairs = pairs.append_column(OTHER_NAMES, [[names_of[pair_id] for pair_id in pairs["pair_id"].to_pylist()]])
    numbers = np.arange(len(pairs))
    return Content(pairs, splits, vectors, numbers, np.zeros_like(numbers))


def aucs(model: AnswerableModel, observed: refusals.Observed) -> dict[str, dict[str, float]]:
    """Returns the ROC-AUC of each signal and of all together, on questions in other words, by distance."""
    columns = {name: observed.signals[:, Signals._fields.index(name)] for name in model.features}
    columns["together"] = model.log_odds(observed.signals)
    other_words = ~np.isin(observed.kinds, (refusals.TABLE, SYNONYM))
    found = {}
    for case in (refusals.OTHER_ASPECT, refusals.OTHER_TOPIC):
        rows = other_words & np.isin(observed.cases, (case, refusals.WITH_ANSWER))
        if case == refusals.OTHER_ASPECT:
            rows &= ~np.isin(observed.kinds, list(refusals.SUBJECT_ALONE))
        answered = observed.cases[rows] == refusals.WITH_ANSWER
        found[case] = {
            name: round(roc_auc(column[rows][answered], column[rows][~answered]), 3) for name, column in columns.items()
        }
    return found


def cosine_alone(observed: refusals.Observed, kept: float) -> dict[str, dict[str, float]]:
    """Returns which share is refused by a threshold on the cosine that keeps the same promise."""
    cosines = observed.signals[:, Signals._fields.index("cosine")]
    of_table, has_answer = observed.kinds == refusals.TABLE, observed.cases == refusals.WITH_ANSWER
    pools = {"table": of_table, "other words": ~of_table & (observed.kinds != SYNONYM)}
    rows = [has_answer & pool for pool in pools.values()]
    least = min(conformal(cosines[pool], kept, observed.rows[pool])[0] for pool in rows)
    return {
        case: {name: float((cosines[pool & (observed.cases == case)] < least).mean()) for name, pool in pools.items()}
        for case in (refusals.OTHER_ASPECT, refusals.OTHER_TOPIC)
    }


def changed(words: WordWeights, tokenizer: Tokenizer, topics: Iterable[str]) -> dict[str, object]:
    """Takes each word of the topics that the vocabulary cuts into pieces out of the table, and asks for it.

    Returns:
      The number of these words, which share of them is corrected, and ten of these with what is made of them.
    """
    of_topics = sorted(frozenset().union(*map(words_of, topics)))
    cut = [word for word in of_topics if word.isalpha() and len(word) >= 5 and Speller({}, tokenizer).unknown([word])]
    made = {}
    for word in cut:
        others = {other: count for other, count in words.counts.items() if other != word}
        if (corrected := Speller(others, tokenizer).correct(word)) != word:
            made[word] = corrected
    return {"words": len(cut), "share": len(made) / max(len(cut), 1), "some": dict(list(made.items())[:10])}


def main(argv: list[str]) -> None:
    """Runs the benchmark."""
    values = flags.FLAGS
    retriever = TrainedRetriever.load(values.model_dir)
    index = Index(values.index_dir, retriever)
    content = read_content(values.prepared_dir, index)
    pairs = content.pairs.to_pylist()
    words = WordWeights.build(f"{pair['question']}\n{pair['answer']}" for pair in pairs)

    def embed(texts: list[str]) -> np.ndarray:
        return retriever.embed(texts, "question").head

    correct = Speller(words.counts, retriever.tokenizer).correct if values.correct else lambda text: text
    logits = None
    if values.reranker_dir:
        reranker = TrainedReranker.load(values.reranker_dir, "auto")
        reranker.compile_for_many()
        logits = reranker.logits_many
    if not (evidence := refusals.gather(content, words, embed, correct, logits=logits)):
        raise SystemExit("error: the index has too few questions for a model. Prepare more pairs.")
    searches = refusals.Searches(content, words, embed, logits=logits)
    everyday = searches.observe([refusals.Asked(0, text, OTHER_FIELD) for text in EVERYDAY])
    everyday = everyday.signals[everyday.cases == refusals.WITH_ANSWER]

    def measured(kept: float, features: Sequence[str]) -> dict[str, Any]:
        calibrated = refusals.calibrate(evidence, kept, features)
        refusals.report(calibrated)
        model = AnswerableModel.from_json(calibrated["model"])
        shown = ("guaranteed", "questions", "fitted", "answered", "answered_other_words")
        result = {name: calibrated[name] for name in shown}
        refused = float((model.log_odds(everyday) < calibrated["least_log_odds"]).mean())
        result["refused"] = calibrated["refused"] | {OTHER_FIELD: refused}
        result["auc"] = aucs(model, evidence.calibrating)
        result["weights"] = dict(zip(model.features, np.round(model.weights, 2).tolist(), strict=True))
        return result

    of_words = changed(words, retriever.tokenizer, (pair["focus"] or pair["question"] for pair in pairs))
    for kept in values.kept:
        result = {"benchmark": "refusals", "kept": kept} | measured(kept, OF_SEARCH)
        result["cosine_alone"] = cosine_alone(evidence.calibrating, kept)
        if logits:
            logging.info("With the reranker:")
            result["reranked"] = measured(kept, Signals._fields)
        print(json.dumps(result | {"changed": of_words}))


if __name__ == "__main__":
    flags.DEFINE_string("model_dir", None, "Trained retriever, or a bare encoder folder.", required=True)
    flags.DEFINE_string("prepared_dir", None, "Prepared folder.", required=True)
    flags.DEFINE_string("index_dir", None, "Index of both, without passages.", required=True)
    flags.DEFINE_string("reranker_dir", None, "Reranker that has a say; default: none.")
    flags.DEFINE_bool("correct", True, "Correct the spelling of questions, as the index does.")
    flags.DEFINE_multi_float("kept", [0.95], "Share of new questions with an answer that should count as answerable.")
    app.run(main)
