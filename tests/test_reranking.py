"""The order that a reranker gives to hits: in answers, in evaluations, in contexts."""

import dataclasses
import types

import numpy as np
import pytest

from data_pipeline import beir
from docproduct import evaluate, index
from docproduct.answering import Answerer, Folders, Query
from docproduct.contexts import ContextFinder
from docproduct.evaluate import EvaluationSettings, ranking
from docproduct.index import Hit, Index, SearchResult
from docproduct.index.reranking import HitReranker
from docproduct.search.fusion import Hybrid
from docproduct.systems.reranker import Reranker, RerankerConfig, TrainedReranker
from docproduct.systems.reranker import folder as reranker_folder
from docproduct.systems.reranker.rankings import reranked
from docproduct.web import schemas
from tests.conftest import TINY_BERT, with_first_values
from tests.test_evaluate import write

QUESTION = "what helps against a z?"


class ByLength:
    """A reranker that prefers short answers, whatever their cosine."""

    weight, retriever = 1.0, "another"

    def scores(self, question, answers, cosines):
        return self.logits_many([(question, answers)])[0]

    def logits_many(self, pairs):
        return [-np.array([len(answer) for answer in answers], np.float32) for _, answers in pairs]


@pytest.fixture(scope="module")
def index_dir(tiny_retriever, prepared, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("index") / "i")
    retriever = with_first_values(tiny_retriever)
    index.build(retriever, prepared, path)
    return path


@pytest.fixture
def opened(index_dir, retriever):
    return Index(index_dir, retriever)


def hit(number, answer):
    return Hit(1 - number / 10, number, f"q{number}", answer, "", "")


def test_the_first_hits_are_ordered_and_the_others_stay():
    hits = [hit(0, "xxx"), hit(1, "x"), hit(2, "xx"), hit(3, "")]
    result = SearchResult(hits, 0.9)
    (ordered,) = HitReranker(ByLength(), 3)(["q"], [result])
    assert [one.pair_id for one in ordered.hits] == [1, 2, 0, 3]
    assert [one.rerank_score for one in ordered.hits] == [-1, -2, -3, None]
    assert [one.score for one in ordered.hits] == pytest.approx([0.9, 0.8, 1.0, 0.7])
    assert ordered.cosine == 0.9


@pytest.mark.parametrize(("num_own", "expected"), [(1, [0, 1, 2, 3]), (3, [0, 1, 2, 3]), (4, [0, 1, 2, 3])])
def test_answers_of_a_stored_question_stay_first(num_own, expected):
    hits = [hit(0, "xxxx"), hit(1, "xxx"), hit(2, "xxxxx"), hit(3, "x")]
    (ordered,) = HitReranker(ByLength(), 3)(["q"], [SearchResult(hits, 0.9, True, num_own)])
    assert [one.pair_id for one in ordered.hits] == expected
    assert [one.rerank_score for one in ordered.hits[:num_own]] == [None] * num_own


def test_an_answerer_shows_the_best_of_more_hits(retriever, opened):
    plain, reranking = Answerer(retriever, opened), Answerer(retriever, opened, rerank=HitReranker(ByLength(), 20))
    (all_hits,) = plain.retrieve([Query(QUESTION, 20)])
    queries = [Query(QUESTION, 20), Query("what is a3?", 2), Query(QUESTION, 3, "question"), Query(QUESTION, 3)]
    answers = reranking.retrieve(queries)
    assert [len(answer.hits) for answer in answers] == [20, 2, 3, 3]
    first = answers[0]
    assert {one.pair_id for one in first.hits} == {one.pair_id for one in all_hits.hits}  # a permutation
    lengths = [len(one.answer) for one in first.hits]
    assert lengths == sorted(lengths)
    assert [one.pair_id for one in answers[3].hits] == [one.pair_id for one in first.hits[:3]]
    for query, answer in zip(queries, answers, strict=True):  # several clients together are answered as alone
        assert [one.pair_id for one in reranking.answer(query).hits] == [one.pair_id for one in answer.hits]
    # A stored question keeps its own answer first.
    assert answers[1].hits[0].question == "what is a3?"
    assert answers[1].hits[0].rerank_score is None
    assert set(first.seconds) == {"encode", "search", "rerank"}
    assert plain.retrieve([Query(QUESTION, 2)])[0].as_json()["sources"][0]["rerank_score"] is None
    shown = first.as_json()["sources"][0]
    assert shown["rerank_score"] == -lengths[0]
    assert schemas.Source(**shown).rerank_score == -lengths[0]


def test_weight_zero_keeps_the_order_at_no_cost(retriever, opened, monkeypatch, tokenizer):
    reranker = TrainedReranker(Reranker(RerankerConfig(TINY_BERT, 20, 10)), tokenizer)
    monkeypatch.setattr(reranker, "logits_many", None)
    answerer = Answerer(retriever, opened, rerank=HitReranker(reranker))
    expected = Answerer(retriever, opened).retrieve([Query(QUESTION, 7)])[0].hits
    assert answerer.retrieve([Query(QUESTION, 7)])[0].hits == expected
    assert reranker.scores(QUESTION, ["a", "b"], [0.2, 0.1]).tolist() == pytest.approx([4, 2])


class Slow(ByLength):
    """Takes 4 ms a pair, by a clock of its own."""

    def __init__(self, monkeypatch):
        self.seconds = 0.0
        monkeypatch.setattr("docproduct.index.reranking.time", types.SimpleNamespace(perf_counter=lambda: self.seconds))

    def logits_many(self, pairs):
        self.seconds += 0.004 * sum(len(answers) for _, answers in pairs)
        return super().logits_many(pairs)


def test_a_budget_lowers_the_depth(opened, monkeypatch):
    """Ten hits take 40 ms: within 15 ms, three (12 ms) are reranked; within 5 ms none, as one has no order."""
    for most_ms, depth in ((15, 3), (5, 0), (100, 10)):
        rerank = HitReranker(Slow(monkeypatch), 10)
        rerank.keep_within(most_ms, opened)
        assert rerank.depth == depth
    lengths = [len(answer) for answer in opened.longest_answers(60)]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize(("num_questions", "expected"), [(1, 10), (2, 10), (5, 5), (12, 2), (13, 0)])
def test_questions_that_come_together_share_the_budget(opened, monkeypatch, num_questions, expected):
    """101 ms are enough for 25 pairs of 4 ms: ten for each of two questions, five for each of five.

    For thirteen there is one each, which has no order: none is read.
    """
    slow = Slow(monkeypatch)
    rerank = HitReranker(slow, 10)
    rerank.keep_within(101, opened)
    start = slow.seconds
    result = SearchResult([hit(number, "x" * (20 - number)) for number in range(12)], 0.9)
    reranked = rerank(["q"] * num_questions, [result] * num_questions)
    assert 1_000 * (slow.seconds - start) == pytest.approx(4 * expected * num_questions)
    for each in reranked:
        assert [one.pair_id for one in each.hits] == [*reversed(range(expected)), *range(expected, 12)]


def test_what_a_small_index_lacks_is_timed_with_long_answers(monkeypatch):
    """A live index may be empty at the start, and grow."""
    slow, timed = Slow(monkeypatch), []
    reads = slow.logits_many
    monkeypatch.setattr(slow, "logits_many", lambda pairs: timed.append(pairs[0][1]) or reads(pairs))
    rerank = HitReranker(slow, 10)
    rerank.keep_within(15, types.SimpleNamespace(longest_answers=lambda count: ["short"]))
    assert rerank.depth == 3
    assert timed[0][0] == "short"
    assert [len(answer.split()) > 512 for answer in timed[0]] == [False] + [True] * 9


def test_the_folders_of_an_answerer_name_a_reranker(retriever, index_dir, tokenizer, tmp_path):
    model, folder = tmp_path / "m", tmp_path / "r"
    model.mkdir(), folder.mkdir()
    retriever.save_config(str(model), {})
    retriever.save_weights(str(model))
    reranker = TrainedReranker(Reranker(RerankerConfig(TINY_BERT, 20, 10)), tokenizer, 0.3, retriever.fingerprint())
    reranker.save_config(str(folder), {})
    reranker.save_weights(str(folder))
    answerer = Answerer.load(Folders(str(model), index_dir, reranker_dir=str(folder), rerank_depth=4, rerank_ms=1e6))
    assert (answerer.rerank.depth, answerer.rerank.reranker.weight) == (4, 0.3)
    half = Answerer.load(Folders(str(model), index_dir, reranker_dir=str(folder), rerank_precision="bfloat16")).rerank
    assert half.reranker.model.bert.compute_dtype == "bfloat16"
    hits = answerer.answer(Query(QUESTION, 6)).hits
    assert [one.rerank_score is None for one in hits] == [False] * 4 + [True] * 2
    # The new head gives equal logits: the order is the retriever's.
    assert [one.pair_id for one in hits] == [
        one.pair_id for one in Answerer(retriever, Index(index_dir, retriever)).answer(Query(QUESTION, 6)).hits
    ]
    with pytest.raises(ValueError, match="holds no reranker: it has a config.json of 'docproduct retriever'"):
        Answerer.load(Folders(str(model), index_dir, reranker_dir=str(model)))


def test_contexts_follow_the_reranker(retriever, opened):
    vectors = retriever.embed_few([QUESTION], "question")
    pair = {"pair_id": -1, "question": QUESTION, "answer": "none of these"}
    (contexts,) = ContextFinder(opened, 3, rerank=HitReranker(ByLength(), 30))(vectors, [pair])
    hits = opened.search(vectors[0], 30, query=QUESTION)
    assert [len(one.answer) for one in contexts] == sorted(len(one.answer) for one in hits)[:3]


def test_whole_rankings_by_hand():
    rows = [np.array([0.5, 0.9, 0.1, 0.7], np.float32)]
    documents = ["xxx", "xx", "", "x"]
    (scores,) = reranked(ByLength().scores, ["q"], documents, rows, rows, depth=3)
    # The first three are 1, 3, 0; the shorter comes first. Document 2 stays last.
    assert np.argsort(-scores).tolist() == [3, 1, 0, 2]
    (scores,) = reranked(ByLength().scores, ["q"], documents, rows, rows, depth=3, judged=[[2, 0]])
    assert np.argsort(-scores).tolist() == [2, 0, 1, 3]


def test_evaluation_shows_both_orders(tmp_path, monkeypatch):
    """q: d1 (alpha), d2 (beta), d3 (gamma12) by cosine; by length d2, d1, d3."""
    corpus = {"d1": "alpha", "d2": "beta", "d3": "gamma12"}
    data = beir.read(write(tmp_path / "beir", corpus, {"q": "one"}, [("q", "d2", 1), ("q", "d3", 0)]), "test")
    model = types.SimpleNamespace(hybrid=Hybrid())
    monkeypatch.setattr(ranking.TrainedRetriever, "load_for_many", lambda *_, **__: model)
    monkeypatch.setattr(ranking, "_encoder_scores", lambda *_: [np.array([0.9, 0.5, 0.1])])
    monkeypatch.setattr(ranking.TrainedReranker, "load", lambda *_: ByLength())
    settings = EvaluationSettings(reranker_dir="r", rerank_depth=2)
    results = evaluate.retrieval("model", data, settings, str(tmp_path / "run"))
    assert (results["RR@10"], results["without_reranker"]["RR@10"]) == (1, 0.5)
    assert (results["rerank_depth"], results["rerank_weight"]) == (2, 1)
    assert [line.split()[2] for line in (tmp_path / "run").read_text().splitlines()] == ["d2", "d1", "d3"]
    judged = evaluate.retrieval("model", data, dataclasses.replace(settings, candidates="judged"))
    assert judged["without_reranker"]["RR@10"] == judged["RR@10"] == 1
    with pytest.raises(ValueError, match="build on the cosines of a retriever"):
        evaluate.retrieval("bm25", data, settings)


def test_the_default_depth_is_one_number():
    assert Folders("m", "i").rerank_depth == EvaluationSettings().rerank_depth == reranker_folder.DEPTH
