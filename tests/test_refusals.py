"""Indexes that decide by all signals: calibrated, opened, and what is suggested where an answer is refused."""

import dataclasses
import json
import random
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.refusals import read_content
from data_pipeline import cleaning
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.other_words import SYNONYM
from data_pipeline.prepare import PrepareSettings, prepare
from docproduct import index
from docproduct.answering import Answerer, Query, terminal
from docproduct.answering.query import Suggestion, suggestions
from docproduct.index import Hit, Index, IndexSettings, refusals
from docproduct.index.content import OTHER_NAMES, Content
from docproduct.search.answerable import DEPTH, AnswerableModel, Signals
from docproduct.search.shared_words import WordWeights
from tests.conftest import with_first_values, write_csv

LETTERS = "abcdefghij"
ROWS = [
    (f"what is {a}{b}{c}?", f"the {a} {b} {c} {'xyz'[i % 3]}.")
    for i, (a, b, c) in enumerate((a, b, c) for a in LETTERS for b in LETTERS for c in "klm")
][:210]


@pytest.fixture(scope="module")
def words_index(tiny_retriever, vocab_file, tmp_path_factory):
    """An index of 210 questions, enough for a model."""
    folder = tmp_path_factory.mktemp("refusals")
    retriever = with_first_values(tiny_retriever)
    prepare(PrepareSettings((write_csv(folder / "t.csv", ROWS),), vocab_file, dev_share=0.0), str(folder / "p"))
    index.build(retriever, PreparedFolder(str(folder / "p")), str(folder / "i"), IndexSettings(kept=0.8))
    return folder / "i"


def test_an_index_with_enough_questions_decides_by_its_model(retriever, words_index):
    stored = json.loads((words_index / "manifest.json").read_text())["answerable"]
    # All 210 questions are halved.
    assert (stored["of"], stored["fitted"], stored["questions"]) == ("all", 105, 105)
    assert stored["guaranteed"] >= 0.8 - 1e-9
    assert set(stored["answered"]) >= {"table", "name", "asked"}
    assert set(stored["refused"]) == {"other aspect", "other topic"}
    opened = Index(str(words_index), retriever)
    question = "can you tell me what is abk?"
    vector = retriever.embed_few([question], "question")
    result = opened.search_many(vector, 1, "answer", [question])[0]
    # By brute force.
    pairs = opened.pairs.table()
    answers, questions = (retriever.embed(pairs[side].to_pylist(), side).head for side in ("answer", "question"))
    cosines = answers @ vector[0]
    order = np.argsort(-cosines)[:DEPTH]
    nearest = (pairs["question"][order[0]].as_py(), pairs["answer"][order[0]].as_py())
    weights = WordWeights.build(f"{pair['question']} {pair['answer']}" for pair in pairs.to_pylist())
    signals = Signals.of(question, cosines[order], questions[order] @ vector[0], nearest, weights)
    log_odds = AnswerableModel.from_json(stored["model"]).log_odds(np.array([signals]))[0]
    decider = opened._deciders[False]
    for shift, answerable in ((-0.01, True), (0.01, False)):
        decider.by_search = decider.by_search._replace(least=log_odds + shift)
        for search_by in ("answer", "question"):
            again = opened.search_many(vector, 1, search_by, [question])[0]
            assert again.decision.answerable == again.is_answerable() == answerable
            # A cosine of the user's decides in place of the model.
            assert again.is_answerable(result.cosine - 1e-3)
            assert not again.is_answerable(result.cosine + 1e-3)


def test_the_benchmark_reads_pairs_with_their_vectors(retriever, words_index):
    content = read_content(str(words_index.parent / "p"), Index(str(words_index), retriever))
    assert (len(content.pairs), content.pairs[OTHER_NAMES].to_pylist()) == (210, [""] * 210)
    for side in ("question", "answer"):
        expected = retriever.embed(content.pairs[side].to_pylist(), side).head
        np.testing.assert_allclose(content.vectors[side], expected, atol=1e-5)


def test_without_a_text_or_a_model_the_cosine_decides(retriever, words_index, tmp_path):
    opened = Index(str(words_index), retriever)
    vector = retriever.embed_few(["what is xyz?"], "question")
    result = opened.search_many(vector, 1)[0]
    for least, answerable, near in ((-0.01, True, True), (0.05, False, True), (0.15, False, False)):
        opened._deciders[False].least_cosine = result.cosine + least
        assert opened.search_many(vector, 1)[0].decision == (answerable, near)
    # An older index has no model.
    manifest = json.loads((words_index / "manifest.json").read_text())
    older = tmp_path / "older"
    older.mkdir()
    for path in words_index.iterdir():
        if path.name != "words.parquet":
            (older / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="words.parquet is missing or damaged"):
        Index(str(older), retriever)
    (older / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if k != "answerable"}))
    opened = Index(str(older), retriever)
    result = opened.search_many(vector, 1, "answer", ["what is xyz?"])[0]
    assert result.is_answerable() == (result.cosine >= opened.threshold)


def test_few_questions_are_halved_for_nobody(retriever, prepared, tmp_path):
    assert index.build(retriever, prepared, str(tmp_path / "i"))["answerable"] is None
    assert not (tmp_path / "i/words.parquet").exists()


def test_the_questions_that_fit_and_those_that_calibrate():
    groups = np.array([*range(800), 3, 4])
    dev = np.array(["dev"] * 300 + ["train"] * 502)
    fitting, calibrating, source = refusals.halves(groups, dev)
    assert (len(fitting), len(calibrating), source) == (150, 150, "dev")
    assert set(fitting) | set(calibrating) == set(range(300))
    # A small dev calibrates, others fit; without dev, all are halved.
    dev[60:] = "train"
    fitting, calibrating, source = refusals.halves(groups, dev)
    assert (len(fitting), set(calibrating), source) == (300, set(range(60)), "dev")
    assert not set(fitting) & set(range(60))
    dev[:] = "train"
    fitting, calibrating, source = refusals.halves(groups, dev)
    assert (len(fitting), len(calibrating), source) == (300, 500, "all")
    assert not set(fitting) & set(calibrating)
    assert set(calibrating) < set(range(800))
    assert [len(part) for part in refusals.halves(groups[:199], dev[:199])[:2]] == [0, 0]
    assert [len(part) for part in refusals.halves(groups[:200], dev[:200])[:2]] == [100, 100]


def test_questions_in_other_words_are_corrected():
    pairs = pa.table({"question": ["What is measles?"], "focus": ["measles"], "question_group": [1]})
    content = Content(pairs, np.array(["dev"]), {}, np.zeros(1, int), np.zeros(1, int))
    table, *others = refusals.asked_questions(content, np.array([0]), random.Random(0), str.upper)
    assert table.text == "What is measles?"
    assert len(others) > 2
    assert all(asked.text.isupper() for asked in others)


def test_questions_are_asked_by_the_other_names_of_their_own_topic():
    columns = {"question": ["What is measles?", "What is mumps?"], "focus": ["measles", "mumps"]}
    columns |= {"question_group": [1, 2], OTHER_NAMES: [" rubeola|Measles", None]}  # a pair that was added has none
    content = Content(pa.table(columns), np.array(["dev"] * 2), {}, np.arange(2), np.zeros(2, int))
    asked = refusals.asked_questions(content, np.arange(2), random.Random(0), str.lower)
    assert [(row, text) for row, text, kind in asked if kind == SYNONYM] == [(0, "what is rubeola?")]


def test_what_is_refused_of_each_kind_by_hand():
    # The log odds are 100 times the signal less 50. All are to pass, but for names from elsewhere: the threshold is 0.
    table, other, topic = refusals.TABLE, refusals.OTHER_WORDS, refusals.OTHER_TOPIC
    rows = [(0.9, table, "with its answers", 0), (0.5, "asked", "with its answers", 0)]
    rows += [(signal, SYNONYM, "with its answers", 0) for signal in (0.6, 0.1)]
    rows += [(0.8, table, topic, 0), (0.3, "asked", topic, 0), (0.7, SYNONYM, topic, 0), (0.2, SYNONYM, topic, 0)]
    signals, *others = map(np.array, zip(*rows, strict=True))
    model = SimpleNamespace(log_odds=lambda signals: 100 * signals[:, 0] - 50)
    result = refusals._threshold(model, refusals.Observed(signals[:, None], *others), 1.0)
    assert result["least_log_odds"] == 0
    assert result["answered"] == {table: 1.0, "asked": 1.0, SYNONYM: 0.5}
    assert result["answered_other_words"] == 1
    assert result["refused"][topic] == {table: 0.0, other: 1.0, "asked": 1.0, SYNONYM: 0.5}
    assert set(result["refused"][refusals.OTHER_ASPECT].values()) == {None}
    told = "Of these, 100.0% are answered and 0.0% are refused where nothing on their topic is stored."
    assert refusals.summary(result) == told


def test_what_is_left_out_in_each_case():
    # Two topics; the first question has two answers, one of which stands under another question, too.
    rows = [
        ("What is a?", "1", "a"),
        ("What is a?", "2", "a"),
        ("Why?", "2", ""),
        ("Is a bad?", "3", "a"),
        ("b?", "4", "b"),
    ]
    columns = dict(zip(("question", "answer", "focus"), map(list, zip(*rows, strict=True)), strict=True))
    for side in ("question", "answer"):
        columns[f"{side}_group"] = list(map(cleaning.group, columns[side]))
    vectors = {"question": np.eye(5, dtype=np.float32), "answer": np.eye(5, dtype=np.float32)[::-1].copy()}
    content = Content(pa.table(columns), np.array(["train"] * 5), vectors, np.arange(5), np.zeros(5, int))
    searches = refusals.Searches(content, WordWeights.build(columns["answer"]), lambda texts: vectors["question"][:1])
    left_out = {case: set(np.flatnonzero(mask)) for case, mask in searches._cases(refusals.Asked(0, "", "asked"))}
    assert left_out == {"with its answers": set(), "other topic": {0, 1, 2, 3}, "other aspect": {0, 1, 2}}
    # Whoever asks for the subject alone is answered by any of its pairs.
    assert [case for case, _ in searches._cases(refusals.Asked(0, "", "name"))] == ["with its answers", "other topic"]
    # The vector of the first question is that of the last answer; its own question does not count in the table's words.
    seen = searches.observe([refusals.Asked(4, "b?", refusals.TABLE), refusals.Asked(4, "b", "name")])
    assert seen.cases.tolist() == ["with its answers", "other topic", "other aspect", "with its answers", "other topic"]
    assert seen.signals[:, 0].tolist() == [1, 1, 1, 1, 0]
    assert seen.rows.tolist() == [4] * 5
    # The vector of "b?" is that of its own stored question, whose word is its only one; neither is seen.
    assert seen.signals[0, 2] == 0
    # "b" has the vector of the first stored question, which is of another topic and is seen.
    assert seen.signals[3:, 2].tolist() == [1, 1]


def test_suggestions_are_different_topics():
    hit = Hit(0.5, 1, "What is measles?", "It is an infection.", "t", "Measles")
    hits = [hit]
    for question, focus in (("Is measles bad?", "measles"), ("Why?", ""), ("why", ""), ("c?", "c"), ("d?", "d")):
        hits.append(dataclasses.replace(hit, question=question, focus=focus))
    expected = (Suggestion("Measles", "What is measles?"), Suggestion("Why?", "Why?"), Suggestion("c", "c?"))
    assert suggestions(hits) == expected
    assert suggestions([]) == ()


def test_suggestions_only_where_an_answer_is_refused_and_not_hopeless(retriever, words_index, capsys, monkeypatch):
    opened = Index(str(words_index), retriever)
    answerer, decider = Answerer(retriever, opened), opened._deciders[False]
    query = Query("what is abx?", k=5)
    least = decider.by_search.least
    log_odds = []
    monkeypatch.setattr(AnswerableModel, "log_odds", lambda model, signals: np.array(log_odds[-1:]))
    for below, suggested in ((-0.1, 0), (0.1, 3), (0.9, 3), (1.1, 0)):
        log_odds.append(least - below)
        answer = answerer.answer(query)
        assert (answer.answerable, len(answer.suggestions)) == (below < 0, suggested)
        assert answer.as_json()["suggestions"] == [dataclasses.asdict(suggestion) for suggestion in answer.suggestions]
        terminal.show([answer])
        shown = capsys.readouterr().err
        assert ("Did you mean" in shown) == bool(suggested)
        assert all(suggestion.question in shown for suggestion in answer.suggestions)
        # A suggestion asks a stored question, which is always answered.
        for suggestion in answer.suggestions:
            assert answerer.answer(Query(suggestion.question)).answerable
