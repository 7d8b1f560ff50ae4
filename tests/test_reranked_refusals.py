"""Which questions are answerable where a reranker has a say: calibrated, decided, and kept by a live index."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from docproduct import index
from docproduct.answering import Answerer, Folders
from docproduct.index import Hit, Index, IndexSettings, SearchResult, compaction, refusals
from docproduct.index.content import Content
from docproduct.index.decision import Decider, Decision, Evidence
from docproduct.index.reranking import HitReranker
from docproduct.search.answerable import DEPTH, OF_SEARCH, AnswerableModel, Signals
from docproduct.search.shared_words import WordWeights
from docproduct.systems.reranker import Reranker, RerankerConfig, TrainedReranker
from tests import commands
from tests.conftest import TINY_BERT, with_first_values, write_csv
from tests.test_refusals import ROWS

QUESTION = "can you tell me what is abk?"


class ByLetters:
    """A reranker that knows what an answer is about: the logit is the number of letters of the question in it."""

    weight, retriever = 0.5, "another"

    def __init__(self):
        self.read = []

    def fingerprint(self):
        return "by letters"

    def logits_many(self, pairs):
        self.read += pairs
        return [
            np.array([len(set(question.split()[-1]) & set(answer.split()[1:4])) for answer in answers], np.float32)
            for question, answers in pairs
        ]


@pytest.fixture(scope="module")
def folder(tiny_retriever, vocab_file, tmp_path_factory):
    """An index of 210 questions, calibrated with a reranker."""
    folder = tmp_path_factory.mktemp("reranked")
    retriever = with_first_values(tiny_retriever)
    prepare(PrepareSettings((write_csv(folder / "t.csv", ROWS),), vocab_file, dev_share=0.0), str(folder / "p"))
    prepared = PreparedFolder(str(folder / "p"))
    index.build(retriever, prepared, str(folder / "i"), IndexSettings(kept=0.8), reranker=ByLetters())
    return folder


@pytest.fixture
def opened(folder, retriever):
    return Index(str(folder / "i"), retriever)


def manifest_of(folder):
    return json.loads((folder / "i/manifest.json").read_text())


def test_both_calibrations_stand_in_the_manifest(folder):
    manifest = manifest_of(folder)
    by_search, reranked = manifest["answerable"], manifest["answerable_reranked"]
    assert reranked["reranker"] == "by letters"
    assert reranked["model"]["features"] == [*by_search["model"]["features"], "logit"]
    assert (reranked["fitted"], reranked["questions"]) == (by_search["fitted"], by_search["questions"])
    assert min(reranked["guaranteed"], by_search["guaranteed"]) >= 0.8 - 1e-9


def test_a_reranker_that_knows_the_answers_refuses_more():
    """The vectors place an answer among the nearest of its question, and say little more."""
    draw, places = np.random.default_rng(0), np.arange(len(ROWS))
    vectors = {"question": draw.normal(size=(len(ROWS), 24)).astype(np.float32)}
    vectors["answer"] = vectors["question"] + 1.5 * draw.normal(size=(len(ROWS), 24)).astype(np.float32)
    vectors = {side: rows / np.linalg.norm(rows, axis=1, keepdims=True) for side, rows in vectors.items()}
    row_of = {question.split()[-1]: row for row, (question, _) in enumerate(ROWS)}
    questions, answers = ([row[side] for row in ROWS] for side in (0, 1))
    columns = {"question": questions, "answer": answers, "focus": [""] * len(ROWS)}
    pairs = pa.table(columns | {"question_group": places, "answer_group": places})
    content = Content(pairs, np.full(len(ROWS), ""), vectors, places, np.zeros_like(places))

    def embed(texts):
        return vectors["question"][[row_of.get(text.split()[-1], 0) for text in texts]]

    words = WordWeights.build(answers)
    evidence = refusals.gather(content, words, embed, str, logits=ByLetters().logits_many)
    refused = [
        refusals.calibrate(evidence, 0.8, features)["refused"]["other topic"]["table"]
        for features in (OF_SEARCH, Signals._fields)
    ]
    assert refused[1] > refused[0] + 0.2
    # Without a reranker, the search tells the same, and there are no logits.
    alone = refusals.gather(content, words, embed, str)
    np.testing.assert_array_equal(alone.calibrating.signals[:, :-1], evidence.calibrating.signals[:, :-1])
    assert not alone.calibrating.signals[:, -1].any()


def test_no_answer_is_read_twice_for_a_question(folder, retriever, tmp_path):
    reranker = ByLetters()
    index.build(retriever, PreparedFolder(str(folder / "p")), str(tmp_path / "i"), reranker=reranker)
    questions = [question for question, _ in reranker.read]
    assert len(set(questions)) == len(questions)
    assert all(len(set(answers)) == len(answers) for _, answers in reranker.read)


def test_the_highest_logit_of_the_nearest_answers_decides(retriever, opened, folder):
    vector = retriever.embed_few([QUESTION], "question")
    (result,) = opened.search_many(vector, 30, "answer", [QUESTION])
    # By brute force.
    answers = opened.pairs.table()["answer"].to_pylist()
    cosines = retriever.embed(answers, "answer").head @ vector[0]
    nearest = [answers[row] for row in np.argsort(-cosines)[:DEPTH]]
    assert result.evidence.answers == nearest
    signals = []
    by_reranker = opened._deciders[False].by_reranker
    model = AnswerableModel.from_json(manifest_of(folder)["answerable_reranked"]["model"])
    assert by_reranker.model == model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AnswerableModel, "log_odds", lambda model, rows: signals.append(rows[0]) or [0.0])
        result.evidence.decide([0.5, 2.0, 1.0, -1.0, 0.0])
        result.evidence.decide(ByLetters().logits_many([(QUESTION, nearest)])[0])
    assert (signals.pop(0)[-1], signals[0][-1]) == (2.0, 1.0)
    assert signals[0][0] == pytest.approx(cosines.max(), abs=1e-6)
    log_odds = model.log_odds(np.array(signals))[0]
    for shift, answerable in ((-0.01, True), (0.01, False)):
        opened._deciders[False].by_reranker = by_reranker._replace(least=log_odds + shift)
        for depth, decides, expected in (
            (30, True, answerable),
            (DEPTH, True, answerable),
            (DEPTH - 1, True, result.decision.answerable),  # too few hits are read
            (30, False, result.decision.answerable),  # the index was calibrated with another reranker
        ):
            (found,) = opened.search_many(vector, 30, "answer", [QUESTION])
            (reranked,) = HitReranker(ByLetters(), depth, decides)([QUESTION], [found])
            assert reranked.is_answerable() == expected
            assert sorted(hit.pair_id for hit in reranked.hits) == sorted(hit.pair_id for hit in found.hits)
            # A cosine of the user's decides in place of both.
            assert reranked.is_answerable(result.cosine - 1e-3)
            assert not reranked.is_answerable(result.cosine + 1e-3)


class Fixed:
    """A stand-in for a calibration with a reranker: a question is answerable if a logit is above 0."""

    def decide(self, signals):
        return Decision(signals.logit > 0, signals.logit > -1)


class ByNumber:
    """A reranker for which an answer is its logit."""

    weight = 1.0

    def __init__(self):
        self.read = []

    def logits_many(self, pairs):
        self.read.append(dict(pairs))
        return [np.array(list(map(float, answers)), np.float32) for _, answers in pairs]


def found(answers, nearest=None, of_passages=(), **rest):
    """Returns the result of a search that would refuse."""
    hits = [Hit(1 - number / 10, number, f"q{number}", answer, "", "") for number, answer in enumerate(answers)]
    evidence = Evidence(nearest, Signals(0.9, 0.1, 0.5, 0.5, 1.0), Fixed(), list(of_passages)) if nearest else None
    return SearchResult(hits, 0.9, evidence=evidence, **rest)


def test_each_of_several_questions_is_decided_by_its_own_answers():
    yes, no = Decision(answerable=True, near=True), Decision(answerable=False, near=False)
    results = {
        "answered": found(["-3", "-4"], ["-3", "2"]),
        "refused": found(["-3", "-4"], ["-3", "-2"]),
        "by passages": found(["-3", "-4"], ["-3", "-2"], [yes]),
        "no reranker": found(["5", "-4"]),
        "stored": found(["-5", "5"], ["-5", "6"], stored=True, num_own=1),
        "filtered": found([]),
    }
    reranker = ByNumber()
    reranked = HitReranker(reranker, 4, decides=True)(list(results), list(results.values()))
    assert [result.decision for result in reranked] == [yes, no, yes, no, no, no]
    assert [result.is_answerable() for result in reranked] == [True, False, True, False, True, False]
    assert reranker.read[0]["answered"] == ["-3", "-4", "2"]
    assert reranker.read[0]["stored"] == ["5"]  # its own answer stays first


def test_no_more_answers_are_read_than_fit():
    """The nearest answers are not always among the first hits; then fewer hits are ordered."""
    answers, nearest = list("012345678"), ["-1", "1", "-2"]
    for depth, ordered in ((6, [3, 2, 1, 0]), (4, [1, 0]), (3, [0])):
        reranker = ByNumber()
        (result,) = HitReranker(reranker, depth, decides=True)(["q"], [found(answers, nearest)])
        assert len(reranker.read[0]["q"]) <= depth
        assert [hit.pair_id for hit in result.hits] == [*ordered, *range(len(ordered), 9)]
        assert result.decision.answerable
    # Two are too few to decide.
    (result,) = HitReranker(ByNumber(), 2, decides=True)(["q"], [found(answers, nearest)])
    assert ([hit.pair_id for hit in result.hits], result.decision.answerable) == ([1, 0, *range(2, 9)], False)


def test_questions_that_come_together_are_decided_within_the_budget():
    rerank = HitReranker(ByNumber(), 5, decides=True)
    rerank.most_pairs = 10
    results = [found(list("12345678"), ["-1", "1", "-2"])] * 4
    assert [result.decision.answerable for result in rerank(list("abc"), results[:3])] == [True] * 3
    assert sum(map(len, rerank.reranker.read[0].values())) == 9
    assert not any(result.decision.answerable for result in rerank(list("abcd"), results))


def test_passages_are_decided_by_the_search(retriever, opened, monkeypatch):
    vector = retriever.embed_few([QUESTION], "question")
    of_pairs = opened._deciders[False]
    never, always = (of_pairs.by_search._replace(least=least) for least in (99.0, -99.0))
    (result,) = opened.search_many(vector, 5, "answer", [QUESTION])
    passages = opened.pairs.passages.copy()
    passages[opened.pairs.row_of(result.hits[0].pair_id)] = True
    monkeypatch.setattr(opened.pairs, "passages", passages)
    of_pairs.by_search = never
    for of_passages, by_reranker, expected in (
        (always, never, (True, True)),
        (never, never, (False, False)),
        (never, always, (False, True)),
    ):
        opened._deciders[True] = Decider(0.0, of_passages, None, of_pairs.words)
        of_pairs.by_reranker = of_pairs.by_reranker._replace(least=by_reranker.least)
        (result,) = opened.search_many(vector, 5, "answer", [QUESTION])
        assert (result.decision.answerable, result.evidence.decide([0.0]).answerable) == expected
        assert result.hits[0].answer not in result.evidence.answers


def test_without_a_text_nothing_is_read(retriever, opened):
    (result,) = opened.search_many(retriever.embed_few([QUESTION], "question"), 5)
    assert result.evidence is None


def test_a_live_index_keeps_the_calibration(retriever, folder, tmp_path):
    """The one of the search is made anew."""
    (tmp_path / "i.live").mkdir()
    manifest, opened = manifest_of(folder), Index(str(folder / "i"), retriever, live=True)
    for pair_id in opened.pairs.table()["pair_id"].to_pylist()[:5]:
        opened.drop(pair_id)
    new = compaction.write_new(manifest, opened.settings, opened.snapshot(), str(tmp_path / "i"), retriever)
    with open(f"{new}/manifest.json", encoding="utf-8") as file:
        written = json.load(file)
    assert written["answerable_reranked"] == manifest["answerable_reranked"]
    assert written["answerable"] != manifest["answerable"]
    question = retriever.embed_few([QUESTION], "question")
    for each in (opened, Index(new, retriever)):
        assert each.calibrated_reranker == "by letters"
        assert each.search_many(question, 5, "answer", [QUESTION])[0].evidence


def test_the_index_command_calibrates_with_the_reranker_of_the_service(retriever, folder, tokenizer, tmp_path):
    model, path = tmp_path / "m", str(tmp_path / "i")
    model.mkdir()
    retriever.save_config(str(model), {})
    retriever.save_weights(str(model))
    for seed, (name, weight) in enumerate((("r", 0.3), ("zero", 0.0))):
        (tmp_path / name).mkdir()
        reranker = TrainedReranker(Reranker(RerankerConfig(TINY_BERT, 20, 10), seed), tokenizer, weight)
        reranker.save_config(str(tmp_path / name), {})
        reranker.save_weights(str(tmp_path / name))

    def built(name, source):
        return commands.run(
            "docproduct.index",
            source,
            f"--model_dir={model}",
            f"--index_dir={path}",
            "--overwrite",
            f"--reranker_dir={name}",
        )

    def decides(name):
        folders = Folders(str(model), path, reranker_dir=name)
        return Answerer.load(folders).rerank.decides

    r, zero = str(tmp_path / "r"), str(tmp_path / "zero")
    printed = json.loads(built(r, f"--prepared_dir={folder / 'p'}").stdout)
    assert printed["answerable_reranked"]["reranker"] == TrainedReranker.load(r).fingerprint()
    assert decides(r)
    assert not decides(zero)
    refused = built(r, "--vectors=pairs.parquet")
    assert (refused.returncode, "--reranker_dir belongs to --prepared_dir" in refused.stderr) == (1, True)
    assert "answerable_reranked" not in json.loads(built(zero, f"--prepared_dir={folder / 'p'}").stdout)
    assert not decides(r)


def test_a_reranker_without_a_say_is_told(caplog):
    def told(depth, decides, calibrated, weight=0.5, model=True):
        reranker = ByLetters()
        reranker.weight = weight
        caplog.clear()
        index = SimpleNamespace(
            calibrated_reranker=calibrated, manifest={"answerable": {} if not model else {"model": 1}}
        )
        HitReranker(reranker, depth, decides).warn_if_silent("folder", index)
        return caplog.text

    assert "calibrated without it. Build it with docproduct.index --reranker_dir=folder" in told(30, False, None)
    assert "calibrated with another one" in told(30, False, "another")
    for depth in (0, 4):
        assert f"it reads {depth} hits of a question, and deciding takes 5. Raise" in told(depth, True, "this")
    assert not told(5, True, "this")
    assert not told(30, False, None, weight=0.0)  # another warning says that it is not used
    assert not told(30, False, None, model=False)  # the index has too few pairs


def test_an_index_of_few_pairs_is_calibrated_without_the_reranker(retriever, prepared, tmp_path, caplog):
    manifest = index.build(retriever, prepared, str(tmp_path / "i"), reranker=ByLetters())
    assert "answerable_reranked" not in manifest
    assert "too few pairs to calibrate with the reranker" in caplog.text
