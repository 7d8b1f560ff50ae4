"""Answerable questions: stored ones always, others from a calibrated cosine upwards."""

import itertools
import json
import pathlib

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_pipeline import cleaning
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from docproduct import index
from docproduct.answering import Answerer, Query
from docproduct.index import Index, IndexSettings
from docproduct.search import threshold
from docproduct.search.threshold import calibrate, choose
from tests.conftest import write_csv
from tests.test_bert import randomize

# Questions that differ in case and marks, entities, one question with two answers, one answer under two questions.
ROWS = [
    ("what is a1?", "the a."),
    ("What is the  B &amp;lt; c", "b is c."),
    ("what helps against d?", "rest."),
    ("what helps against D", "the d. what is it?"),
    ("is it the e?", "Rest"),
    ("what is f, the g?", "f helps against g."),
    ("h?", "i j k l m n o p q r s t u v w x y z"),
    ("the i", "the i is the j."),
    ("what is k?", "k."),
    ("l?", "l against k."),
]


def answer(question, retriever, opened, *settings, **more):
    return Answerer(retriever, opened).answer(Query(question, *settings, **more))


def retrieve(queries, retriever, opened, threshold=None):
    return Answerer(retriever, opened, threshold=threshold).retrieve(queries)


def indexed(retriever, vocab_file, folder, rows, **settings):
    table = write_csv(pathlib.Path(f"{folder}.csv"), rows)
    prepare(PrepareSettings((table,), vocab_file, dev_share=0.0), f"{folder}-prepared")
    index.build(retriever, PreparedFolder(f"{folder}-prepared"), f"{folder}-index", IndexSettings(**settings))
    return Index(f"{folder}-index", retriever)


@pytest.mark.parametrize("search_by", ["answer", "question"])
@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_a_stored_question_is_answered_with_its_own_answers_first(retriever, vocab_file, tmp_path, size, search_by):
    randomize(retriever.model)
    rows = ROWS[:size]
    opened = indexed(retriever, vocab_file, tmp_path / "t", rows)
    own = {}
    for question, text in rows:
        own.setdefault(cleaning.group(cleaning.clean(question)), set()).add(cleaning.group(text))
    most = opened.num_answers
    queries = [Query(question, k, search_by) for (question, _), k in itertools.product(rows, {1, most})]
    together = retrieve(queries, retriever, opened)
    for query, of_batch in zip(queries, together, strict=True):
        # Neither the threshold of the index refuses it, nor one that no cosine reaches.
        for result in (of_batch, answer(query.question, retriever, opened, query.k, search_by, threshold=2.0)):
            own_answers = own[cleaning.group(cleaning.clean(query.question))]
            first = [cleaning.group(hit.answer) for hit in result.hits[: len(own_answers)]]
            assert result.answerable
            assert result.answer == result.hits[0].answer
            assert set(first) <= own_answers
            assert len(set(first)) == min(len(own_answers), query.k)
            assert len({cleaning.group(hit.answer) for hit in result.hits}) == len(result.hits) == query.k
            texts = [getattr(hit, search_by) for hit in result.hits]
            cosines = retriever.embed(texts, search_by).head @ retriever.embed_few(
                [cleaning.clean(query.question)], "question"
            ).reshape(-1)
            np.testing.assert_allclose([hit.score for hit in result.hits], cosines, atol=1e-5)
            own_scores = [hit.score for hit in result.hits[: len(own_answers)]]
            assert own_scores == sorted(own_scores, reverse=True)


def test_case_and_marks_of_a_stored_question_do_not_matter(retriever, vocab_file, tmp_path):
    randomize(retriever.model)
    opened = indexed(retriever, vocab_file, tmp_path / "t", ROWS)
    for question in ("WHAT IS A1", "what is\n a1 ?!", " what is a1"):
        result = answer(question, retriever, opened, 1, threshold=2.0)
        assert (result.answerable, result.answer) == (True, "the a.")
    # The stored text, whose entity serving decodes once more, and the text as it was in the table.
    for question in ("What is the B &lt; c", "What is the  B &amp;lt; c"):
        assert answer(question, retriever, opened, 1, threshold=2.0).answer == "b is c."
    assert not answer("what is a2?", retriever, opened, 1, threshold=2.0).answerable


@pytest.mark.parametrize("search_by", ["answer", "question"])
@pytest.mark.parametrize(
    "settings",
    [
        {"factory": "IVF8,Flat", "search_parameters": "nprobe=1"},
        {"factory": "IVF4,SQ8"},
        {"factory": "HNSW2", "search_parameters": "efSearch=1"},
        {"hybrid": "rrf"},
        {"hybrid": "weight", "bm25_weight": 9.0},
        {"passage_tokens": 6, "passage_overlap": 1},
        {"dims": 2},
    ],
)
def test_stored_questions_are_answered_with_any_index_settings(retriever, prepared, tmp_path, settings, search_by):
    randomize(retriever.model)
    index.build(retriever, prepared, str(tmp_path / "i"), IndexSettings(**settings))
    opened = Index(str(tmp_path / "i"), retriever)
    pairs = prepared.table(["pair_id", "question", "question_group"]).to_pylist()
    own = {}
    for pair in pairs:
        own.setdefault(pair["question_group"], []).append(pair["pair_id"])
    result = retrieve([Query(pair["question"], 1, search_by) for pair in pairs], retriever, opened, threshold=2.0)
    for pair, of_pair in zip(pairs, result, strict=True):
        assert of_pair.answerable
        assert of_pair.hits[0].pair_id in own[pair["question_group"]]


def test_an_own_answer_is_as_near_as_its_best_passage(retriever, prepared, tmp_path):
    randomize(retriever.model)
    settings = IndexSettings(passage_tokens=6, passage_overlap=1, export_embeddings=True)
    index.build(retriever, prepared, str(tmp_path / "i"), settings)
    passages = pq.read_table(tmp_path / "i/passages.parquet")["pair_id"].to_pylist()
    vectors = np.load(tmp_path / "i/answer_head.npy")
    opened = Index(str(tmp_path / "i"), retriever)
    for pair in prepared.table(["pair_id", "question"]).to_pylist()[:20]:
        hit = answer(pair["question"], retriever, opened, 1).hits[0]
        query = retriever.embed_few([pair["question"]], "question")[0]
        of_answer = [vectors[row] @ query for row, owner in enumerate(passages) if owner == hit.pair_id]
        assert hit.score == pytest.approx(max(of_answer), abs=1e-5)


def test_a_stored_question_is_answered_even_if_the_search_finds_nothing(retriever, prepared, tmp_path, monkeypatch):
    index.build(retriever, prepared, str(tmp_path / "i"))
    opened = Index(str(tmp_path / "i"), retriever)
    for side in opened._sides.values():
        monkeypatch.setattr(side, "nearest", lambda vectors, *_: [[] for _ in vectors])
    assert answer("what is a3?", retriever, opened, 3, "question").answer == "the z z z 3."
    with pytest.raises(ValueError, match="found nothing.*--search_parameters"):
        answer("what is b3?", retriever, opened)


def test_an_index_of_an_older_version_finds_stored_questions(retriever, prepared, tmp_path):
    index.build(retriever, prepared, str(tmp_path / "i"))
    path = tmp_path / "i/pairs.parquet"
    table = pq.read_table(path)
    assert table["question_group"].equals(prepared.table(["question_group"])["question_group"])
    pq.write_table(table.drop_columns(["question_group"]), path)
    opened = Index(str(tmp_path / "i"), retriever)
    assert answer("WHAT IS A3", retriever, opened, threshold=2.0).answer == "the z z z 3."


@pytest.mark.parametrize("hybrid", ["none", "rrf"])
def test_the_nearest_answer_decides_whichever_side_is_searched(retriever, prepared, tmp_path, hybrid):
    index.build(retriever, prepared, str(tmp_path / "index"), IndexSettings(hybrid=hybrid))
    opened = Index(str(tmp_path / "index"), retriever)
    questions = [f"{question} what" for question in prepared.table(["question"])["question"].to_pylist()[:6]]
    answers = retriever.embed(prepared.table(["answer"])["answer"].to_pylist(), "answer").head
    cosines = (retriever.embed(questions, "question").head @ answers.T).max(axis=1)
    for search_by, k in itertools.product(("answer", "question"), (1, 5)):
        queries = [Query(question, k, search_by) for question in questions]
        for query, cosine in zip(queries, cosines.tolist(), strict=True):
            for least, answerable in ((cosine - 1e-4, True), (cosine + 1e-4, False)):
                assert retrieve([query], retriever, opened, least)[0].answerable == answerable


def test_a_threshold_by_hand():
    # The vectors of both questions are the axes: a column has the cosines of one question with all answers.
    answers = np.array([[1.0, 0.1], [0.9, 0.2], [0.5, 0.7], [0.3, 0.65], [0.2, 0.4]], np.float32)
    # The first two answer the first question, one of them by its text alone; the next two the second one.
    keys = np.array([[0, 9, 1, 1, 7], [0, 0, 5, 8, 7]])
    questions = np.array([[0, 1], [0, 5]])
    result = calibrate(np.eye(2, dtype=np.float32), questions, answers, keys, 1.0)
    # With their answers the best cosines are 1 and 0.7, without them 0.5 and 0.4. There is no
    # ceil(3 * 1) = 3rd of two cosines: the lowest is taken, which a third question reaches in two of three orders.
    assert result == {
        "cosine": pytest.approx(0.7),
        "precision": 1,
        "recall": 1,
        "refused": 1,
        "questions": 2,
        "unseen": 0,
        "guaranteed": pytest.approx(2 / 3),
    }
    # ceil(3 * 0.3) = 1: the highest.
    result = calibrate(np.eye(2, dtype=np.float32), questions, answers, keys, 0.3)
    assert (result["cosine"], result["recall"], result["guaranteed"]) == (1, 0.5, pytest.approx(1 / 3))


def test_answers_of_all_pairs_of_a_question_are_its_own():
    # One question (group 1) with the answers 5 and 6; the last candidate is the text 6 under another question.
    answers = np.array([[0.7], [0.8], [0.6], [0.9]], np.float32)
    keys = np.array([[1, 1, 2, 3], [5, 6, 7, 6]])
    result = calibrate(np.ones((1, 1), np.float32), np.array([[1], [5]]), answers, keys, 0.5)
    # With its own answers the best is 0.9, without them 0.6: refused. 0.8 and 0.9 are right.
    assert (result["cosine"], result["refused"]) == (pytest.approx(0.9), 1)
    result = calibrate(np.ones((1, 1), np.float32), np.array([[1], [5]]), answers[[2]], keys[:, [2]], 0.5)
    assert (result["cosine"], result["refused"]) == (pytest.approx(0.6), 0)


@pytest.mark.parametrize(
    ("n", "kept", "rank", "guaranteed"),
    [
        (1, 0.95, 1, 1 / 2),  # ceil(1.9) = 2, more than there are
        (18, 0.95, 18, 18 / 19),  # ceil(18.05) = 19
        (19, 0.95, 19, 19 / 20),  # ceil(19.0) = 19: the lowest of 19 guarantees 0.95 exactly
        (39, 0.95, 38, 38 / 40),  # ceil(38.0) = 38
        (99, 0.95, 95, 95 / 100),  # ceil(95.0): the 95th, where 94 others would not do
        (100, 0.95, 96, 96 / 101),  # ceil(95.95) = 96, not the 95th
        (100, 1.0, 100, 100 / 101),
    ],
)
def test_the_quantile_of_split_conformal_prediction(n, kept, rank, guaranteed):
    cosines = np.arange(1, n + 1)[::-1] / 128  # the first is the highest; exact in float32
    questions, answer_keys = np.random.default_rng(n).permutation(n), np.array([[0], [0]])
    keys = np.stack([questions + 1, questions + 1])
    result = calibrate(
        cosines[questions, None].astype(np.float32), keys, np.ones((1, 1), np.float32), answer_keys, kept
    )
    assert result["cosine"] == cosines[rank - 1]
    assert result["guaranteed"] == pytest.approx(guaranteed)


def test_the_guarantee_holds_over_many_draws():
    """With 10 questions and kept=0.7 the rank is ceil(7.7) = 8, and a new question passes in 8 of 11 draws."""
    cosines = np.random.default_rng(0).normal(size=(4_000, 11)).astype(np.float32)
    keys, answer_vector = np.arange(10) + 1, np.ones((1, 1), np.float32)
    passed = 0
    for row in cosines:
        result = calibrate(row[:10, None], np.stack([keys, keys]), answer_vector, np.zeros((2, 1), int), 0.7)
        passed += row[10] >= result["cosine"]
    assert passed / len(cosines) == pytest.approx(8 / 11, abs=0.025)  # 3.5 standard deviations


def test_unseen_questions_lower_the_threshold():
    # The lowest unseen cosine is 0.5; of all four, the ceil(5 * 0.5) = 3rd is 0.7. With 0.9 unseen, 0.7 is lower.
    cosines = np.array([[0.9], [0.8], [0.7], [0.5]], np.float32)
    keys = np.stack([np.arange(1, 5)] * 2)
    answers_and_share = np.ones((1, 1), np.float32), np.zeros((2, 1), int), 0.5
    result = calibrate(cosines, keys, *answers_and_share, np.array([False, False, False, True]))
    assert (result["cosine"], result["unseen"], result["questions"]) == (0.5, 1, 4)
    assert result["guaranteed"] == pytest.approx(3 / 5)
    result = calibrate(cosines, keys, *answers_and_share, np.array([True, False, False, False]))
    assert (result["cosine"], result["unseen"]) == (pytest.approx(0.7), 1)


def test_questions_chosen_for_calibration():
    # 50 dev questions are enough, and no question counts twice.
    groups = np.array([*range(100), 0, 1])
    names = np.array(["dev"] * 50 + ["train"] * 50 + ["dev"] * 2)
    rows, source = choose(groups, names)
    assert (rows.tolist(), source) == (list(range(50)), "dev")
    names[49] = "test"
    rows, source = choose(groups, names)
    assert (rows.tolist(), source) == (list(range(100)), "all")
    # All dev questions, and as many others as there is room for, from the first to the last.
    groups, names = np.arange(5_000), np.array(["train"] * 4_000 + ["dev"] * 7 + ["train"] * 993)
    rows, source = choose(groups, names)
    assert (len(rows), source, rows[0], rows[-1]) == (1_000, "all", 0, 4_999)
    assert set(range(4_000, 4_007)) <= set(rows.tolist())
    assert len(set(rows.tolist())) == 1_000
    names[:] = "dev"
    rows, source = choose(groups, names)
    assert (len(rows), source, rows[0], rows[-1]) == (1_000, "dev", 0, 4_999)


@pytest.mark.parametrize(("num_dev", "source"), [(0, "all"), (49, "all"), (50, "dev")])
def test_the_threshold_passes_the_requested_share(retriever, vocab_file, tmp_path, caplog, num_dev, source):
    """By brute force over all pairs, each question with its answers and without them."""
    rows = [(f"what is {'abc'[i % 3]}{i}?", f"the {'xy '[: i % 3]} {'z ' * (i % 7)}{i // 2}.") for i in range(70)]
    train = write_csv(tmp_path / "train.csv", [*rows[num_dev:], ("What is the shared", "z.")])
    dev = (write_csv(tmp_path / "dev.csv", rows[:num_dev]),) if num_dev else ()
    prepare(PrepareSettings((train,), vocab_file, dev_inputs=dev, dev_share=0.0), str(tmp_path / "p"))
    prepared = PreparedFolder(str(tmp_path / "p"))
    table = prepared.table(["question", "answer", "question_group", "answer_group", "split"]).to_pylist()
    calibrating = [pair for pair in table if source == "all" or pair["split"] == "dev"]
    questions = retriever.embed([pair["question"] for pair in calibrating], "question").head
    answers = retriever.embed([pair["answer"] for pair in table], "answer").head
    best = {True: [], False: []}
    for vector, pair in zip(questions, calibrating, strict=True):
        own = [any(pair[g] == other[g] for g in ("question_group", "answer_group")) for other in table]
        scores = answers @ vector
        best[True].append(scores.max())
        best[False].append(max(score for score, mine in zip(scores, own, strict=True) if not mine))
    best_of_dev = sorted(
        (score for score, pair in zip(best[True], calibrating, strict=True) if pair["split"] == "dev"), reverse=True
    )
    ranks = {71: {0.5: 36, 0.9: 65, 1.0: 71}, 50: {0.5: 26, 0.9: 46, 1.0: 50}, 49: {0.5: 25, 0.9: 45, 1.0: 49}}
    for kept in (0.5, 0.9, 1.0):
        settings = IndexSettings(kept=kept)
        result = index.build(retriever, prepared, str(tmp_path / str(kept)), settings)["threshold"]
        expected = sorted(best[True], reverse=True)[ranks[len(calibrating)][kept] - 1]
        if num_dev:
            expected = min(expected, best_of_dev[ranks[num_dev][kept] - 1])
        assert result["cosine"] == pytest.approx(expected, abs=1e-6)
        passed, wrong = (sum(score >= result["cosine"] - 1e-6 for score in best[has]) for has in (True, False))
        assert result["recall"] == pytest.approx(passed / len(calibrating))
        assert result["precision"] == pytest.approx(passed / (passed + wrong))
        assert result["refused"] == pytest.approx(1 - wrong / len(calibrating))
        assert (result["questions"], result["of"], result["unseen"]) == (len(calibrating), source, num_dev)
        assert result["guaranteed"] == pytest.approx(ranks[len(calibrating)][kept] / (len(calibrating) + 1))
    assert "The threshold is calibrated on only" not in caplog.text


def test_few_questions_give_a_warning(retriever, vocab_file, tmp_path, caplog):
    indexed(retriever, vocab_file, tmp_path / "t", ROWS)
    # 10 rows, of which two questions are one in normal form. ceil(10 * 0.95) is 10, of 9: 9 / 10 are guaranteed.
    assert "The threshold is calibrated on only 9 questions (all; 0 of dev)" in caplog.text
    assert "50 or more are advised" in caplog.text
    assert "passes with a probability of 90.0% or more" in caplog.text
    assert "Prepare more pairs, or choose a cosine yourself with --threshold of serve.py" in caplog.text
    result = json.loads((tmp_path / "t-index/manifest.json").read_text())["threshold"]
    assert (result["questions"], result["of"], result["guaranteed"]) == (9, "all", 0.9)


def test_rounding_refuses_nothing(retriever, prepared, tmp_path):
    index.build(retriever, prepared, str(tmp_path / "i"))
    calibrated = json.loads((tmp_path / "i/manifest.json").read_text())["threshold"]["cosine"]
    assert Index(str(tmp_path / "i"), retriever).threshold == calibrated - 1e-3
    # Measured on a processor: 4e-7 and 3e-3 at most.
    assert threshold.margin("float32") == 1e-3
    assert threshold.margin("mixed_bfloat16") == 5e-3
    with pytest.raises(ValueError, match="kept is 0"):
        IndexSettings(kept=0)
