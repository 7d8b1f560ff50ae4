"""The pairs in a training prompt: the nearest ones, never what gives the answer away; and serving's prompts."""

import os

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_pipeline import cleaning
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.folders.token_folder import TokenFolder
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.prompts import answer_prompts
from data_pipeline.prompts.answer_prompts import PromptSettings
from data_pipeline.token_rows.pair_rows import write_closed_book
from data_pipeline.tokenizers import train_byte_pairs
from docproduct import contexts, index
from docproduct.answering import Answerer, Query
from docproduct.answering.query import NOT_ANSWERABLE
from docproduct.generation.session import Generation
from docproduct.index import Hit, Index, SearchResult
from docproduct.index.decision import Decision
from docproduct.systems.generator.dev import read_rows
from tests.conftest import write_csv

SETTINGS = PromptSettings(2, 120, 40)


@pytest.fixture(scope="module")
def bpe():
    return train_byte_pairs(["what is the cause? the x z helps against y."], 280)


@pytest.fixture
def opened(retriever, prepared, tmp_path):
    index.build(retriever, prepared, str(tmp_path / "index"))
    return Index(str(tmp_path / "index"), retriever)


def make(retriever, opened, prepared, bpe, path, prompt=SETTINGS, **settings):
    contexts.make(retriever, opened, prepared, bpe, contexts.ContextSettings(prompt, **settings), str(path))
    return TokenFolder(str(path))


def test_no_prompt_gives_its_answer_away(retriever, opened, prepared, bpe, tmp_path):
    folder = make(retriever, opened, prepared, bpe, tmp_path / "t")
    markers = folder.tokenizer()
    pairs = {pair["pair_id"]: pair for pair in prepared.table(["pair_id", "question", "answer", "split"]).to_pylist()}
    seen = set()
    for split in ("train", "dev"):
        rows = read_rows(folder, split)
        assert {row.pair_id for row in rows} == {i for i, pair in pairs.items() if pair["split"] == split}
        for row in rows:
            text = cleaning.normal_form(markers.show(row.prompt_ids))
            assert cleaning.normal_form(pairs[row.pair_id]["answer"]) not in text
            assert markers.decode(row.target_ids) == pairs[row.pair_id]["answer"]
            assert len(row.prompt_ids) <= SETTINGS.prompt_tokens
            assert len(row.prompt_ids) + len(row.target_ids) <= SETTINGS.window
    marker, standing = markers.added["<question>"], 0
    for split in ("train", "dev"):
        standing += sum(list(row.prompt_ids).count(marker) - 1 for row in read_rows(folder, split))
    assert folder.manifest["shortened"]["contexts_missing"] == 2 * len(pairs) - standing
    table = pq.read_table(tmp_path / "t" / contexts.CONTEXTS_FILE).to_pylist()
    for row in table:
        assert len(row["context_pair_ids"]) == 2
        assert row["context_scores"] == sorted(row["context_scores"], reverse=True)
        splits = {pairs[i]["split"] for i in row["context_pair_ids"]}
        assert splits <= ({"train"} if pairs[row["pair_id"]]["split"] == "train" else {"train", "dev"})
        seen |= splits
    assert seen == {"train", "dev"}


def test_a_share_of_the_questions_and_all_of_them_alone(retriever, opened, prepared, bpe, tmp_path, caplog):
    whole = make(retriever, opened, prepared, bpe, tmp_path / "whole")
    mixed = make(retriever, opened, prepared, bpe, tmp_path / "mixed", context_share=0.25, alone=True)
    assert "left out" not in caplog.text
    half = make(retriever, opened, prepared, bpe, tmp_path / "half", context_share=0.5)
    assert "questions are left out. --alone keeps them." in caplog.text
    write_closed_book(
        str(tmp_path / "alone"), prepared, bpe, PromptSettings(0, SETTINGS.window, SETTINGS.answer_tokens)
    )
    of = {name: rows_of(TokenFolder(str(tmp_path / name))) for name in ("whole", "mixed", "half", "alone")}
    with pytest.raises(ValueError, match="of .* questions of train none is drawn"):
        make(retriever, opened, prepared, bpe, tmp_path / "none", context_share=1e-6, alone=True)
    share = round(0.25 * len(of["whole"]["train"]))
    assert of["mixed"]["train"] >= of["alone"]["train"]
    drawn = of["mixed"]["train"] - of["alone"]["train"]
    assert len(drawn) == share
    assert drawn < of["half"]["train"] < of["whole"]["train"]
    assert len(of["half"]["train"]) == round(0.5 * len(of["whole"]["train"]))
    assert of["mixed"]["dev"] == of["half"]["dev"] == of["whole"]["dev"]
    marker = mixed.tokenizer().added["<question>"]
    standing = sum(prompt.count(marker) - 1 for prompt, *_ in [*drawn, *of["mixed"]["dev"]])
    assert mixed.manifest["shortened"]["contexts_missing"] == 2 * (share + len(of["mixed"]["dev"])) - standing
    found = pq.read_table(tmp_path / "half" / contexts.CONTEXTS_FILE)["pair_id"].to_pylist()
    assert sorted(found) == sorted(row[2] for split in ("train", "dev") for row in of["half"][split])
    assert half.fingerprint() != whole.fingerprint()
    with pytest.raises(ValueError, match="made differently: context_share was 0.5, is 1.0"):
        make(retriever, opened, prepared, bpe, tmp_path / "half")
    for wrong in (0, 1.1):
        with pytest.raises(ValueError, match=f"context_share is {wrong}; expected more than 0 and at most 1"):
            make(retriever, opened, prepared, bpe, tmp_path / "wrong", context_share=wrong)


def rows_of(folder):
    """The rows of each split, as tuples."""
    return {
        split: {(tuple(row.prompt_ids), tuple(row.target_ids), row.pair_id) for row in read_rows(folder, split)}
        for split in ("train", "dev")
    }


def test_they_are_the_nearest_that_may_be_taken(retriever, opened, prepared):
    pairs = prepared.table(["pair_id", "question", "answer", "answer_group"]).to_pylist()
    questions = retriever.embed([pair["question"] for pair in pairs], "question").head
    answers = retriever.embed([pair["answer"] for pair in pairs], "answer").head
    found = contexts.ContextFinder(opened, 3)(questions, pairs)
    for number, (pair, hits) in enumerate(zip(pairs, found, strict=True)):
        best = {}
        for row in np.argsort(-(answers @ questions[number]), kind="stable"):
            other = pairs[row]
            hit = Hit(0.0, other["pair_id"], other["question"], other["answer"], "", "")
            if not contexts.gives_away(hit, pair["pair_id"], pair["question"], pair["answer"]):
                best.setdefault(other["answer_group"], float(answers[row] @ questions[number]))
        np.testing.assert_allclose([hit.score for hit in hits], list(best.values())[:3], atol=1e-5)


class _Ranked:
    """An index that finds pair 0 first, then pair 1, ..., whatever is asked."""

    num_answers = 1_000

    def __init__(self):
        self.asked_for = []

    def search_many(self, vectors, k, search_by, questions):
        self.asked_for.append((len(questions), k))
        hits = [Hit(0.5, i, f"what is {i}?", f"{i} helps", "", "") for i in range(k)]
        return [SearchResult(hits, 0.5)] * len(questions)


def test_more_are_looked_at_where_the_first_may_not_be_taken():
    ranked, pairs = _Ranked(), [{"pair_id": 2_000, "question": "q", "answer": "a cure"}] * 3
    find = contexts.ContextFinder(ranked, 2)
    found = find(np.zeros((3, 4), np.float32), pairs, allowed=frozenset({0, 20, 40, 900}))
    assert [[hit.pair_id for hit in hits] for hits in found] == [[0, 20]] * 3
    assert ranked.asked_for == [(3, 8), (3, 16), (3, 32)]
    # Not for ever: what 32 times as many do not hold is left out.
    found = find(np.zeros((3, 4), np.float32), pairs, allowed=frozenset({0, 900}))
    assert [[hit.pair_id for hit in hits] for hits in found] == [[0]] * 3
    assert ranked.asked_for[-1] == (3, 64)


@pytest.mark.parametrize(
    ("hit", "expected"),
    [
        ((1, "other", "other"), True),
        ((2, "What is  A", "other"), False),  # not in normal form: prepared texts are clean
        ((2, "WHAT IS A", "other"), True),
        ((2, "other", "Tea helps."), True),
        ((2, "other", "They say: tea helps. And rest."), True),
        ((2, "does tea helps?", "other"), True),
        ((2, "what is b?", "Rest helps."), False),
    ],
)
def test_what_gives_an_answer_away(hit, expected):
    number, question, text = hit
    assert contexts.gives_away(Hit(0.5, number, question, text, "", ""), 1, "what is a?", "tea helps") == expected


def test_a_short_answer_is_given_away_by_an_equal_one_alone():
    def gives_away(text, answer):
        return contexts.gives_away(Hit(0.5, 2, "what is b?", text, "", ""), 1, "what is a?", answer)

    assert not gives_away("Rest, and do not worry.", "no")
    assert not gives_away("可以喝茶", "可以")
    assert gives_away("NO", "no")
    assert gives_away("It is unknown.", "unknow")


class _Listening:
    """A writer that keeps the prompts it is given."""

    def __init__(self, tokenizer, prompt):
        self.tokenizer, self.prompt, self.prompts = tokenizer, prompt, []

    def write(self, prompts, settings):
        self.prompts += prompts
        self.settings = settings
        return [[Generation((), " written ", True, 1)]]


@pytest.mark.parametrize("hybrid", ["none", "rrf"])
def test_serving_finds_what_training_found(retriever, prepared, bpe, tmp_path, hybrid):
    """Serving's search, without what gives the answer away, finds the pairs of the training prompt."""
    index.build(retriever, prepared, str(tmp_path / "index"), index.IndexSettings(hybrid=hybrid))
    opened = Index(str(tmp_path / "index"), retriever)
    make(retriever, opened, prepared, bpe, tmp_path / "t")
    of_training = pq.read_table(tmp_path / "t" / contexts.CONTEXTS_FILE).to_pylist()
    pairs = {pair["pair_id"]: pair for pair in prepared.table(["pair_id", "question", "answer", "split"]).to_pylist()}
    compared = 0
    for row in of_training:
        pair = pairs[row["pair_id"]]
        if pair["split"] == "dev":
            (found,) = Answerer(retriever, opened).retrieve([Query(pair["question"], 20)])
            own = (row["pair_id"], pair["question"], pair["answer"])
            hits = [hit for hit in found.hits if not contexts.gives_away(hit, *own)]
            # Of the pairs of one answer, which are equally near, rounding decides which is found.
            assert [hit.answer for hit in hits[:2]] == [pairs[i]["answer"] for i in row["context_pair_ids"]]
            compared += 1
    assert compared > 2


def test_serving_asks_what_training_learned(retriever, opened, prepared, bpe, tmp_path):
    """What was found becomes the same prompt in serving and in training."""
    folder = make(retriever, opened, prepared, bpe, tmp_path / "t")
    pairs = {pair["pair_id"]: pair for pair in prepared.table(["pair_id", "question", "answer"]).to_pylist()}
    found = {row["pair_id"]: row for row in pq.read_table(tmp_path / "t" / contexts.CONTEXTS_FILE).to_pylist()}
    for row in read_rows(folder, "dev")[:5]:
        writer = _Listening(folder.tokenizer(), SETTINGS)
        hits = [
            Hit(score, i, pairs[i]["question"], pairs[i]["answer"], "", "")
            for i, score in zip(
                *(found[row.pair_id][f"context_{name}"] for name in ("pair_ids", "scores")), strict=True
            )
        ]
        asked = Answerer(retriever, _Found(hits), writer).answer(Query(pairs[row.pair_id]["question"], 2))
        assert writer.prompts == [row.prompt_ids]
        assert writer.settings.max_tokens == SETTINGS.answer_tokens
        assert (asked.generated, asked.num_contexts) == ("written", 2)
        assert {"encode", "search", "write"} == set(asked.seconds)


class _Found:
    """An index that finds what it is told."""

    num_answers = 9

    def __init__(self, hits):
        self._hits = hits

    def check(self, k, search_by, conditions):
        pass

    def correct(self, question):
        return question

    def search_many(self, vectors, k, search_by, queries, conditions):
        del vectors, search_by, queries, conditions
        return [SearchResult(self._hits[:k], 1.0, decision=Decision(answerable=True, near=True))]


def test_a_question_that_is_too_long_is_told(retriever, opened, bpe):
    writer = _Listening(answer_prompts.with_markers(bpe), SETTINGS)
    for question, expected in (("what is a3? " * 40, (True, 0)), ("what is a3?", (False, 2))):
        found = Answerer(retriever, opened, writer).answer(Query(question, threshold=-1.0))
        assert (found.as_json()["question_shortened"], found.num_contexts) == expected


def test_a_question_that_is_not_answerable_is_not_answered(retriever, opened, bpe):
    writer = _Listening(answer_prompts.with_markers(bpe), SETTINGS)
    question = "is it a3?"  # it is not stored
    answerer = Answerer(retriever, opened, writer)
    best = answerer.answer(Query(question, generate=False)).hits[0].score
    near = answerer.answer(Query(question, threshold=best - 1e-4))
    assert near.answerable
    assert (near.generated, near.as_json()["finished"]) == ("written", True)
    assert near.answer == near.hits[0].answer
    far = answerer.answer(Query(question, threshold=best + 1e-4))
    assert (far.answerable, far.answer, far.generated, far.num_contexts) == (False, NOT_ANSWERABLE, None, 0)
    assert far.hits == near.hits
    assert len(writer.prompts) == 1
    assert far.as_json() | {"seconds": {}} == {
        "question": question,
        "answer": NOT_ANSWERABLE,
        "generated": None,
        "sentences": [],
        "support": None,
        "supported": None,
        "num_left_out": 0,
        "finished": False,
        "question_shortened": False,
        "answerable": False,
        "suggestions": [{"topic": hit.question, "question": hit.question} for hit in near.hits[:3]],
        "corrected": None,
        "sources": [
            {"score": round(hit.score, 4), "rerank_score": None, "in_prompt": False, "question": hit.question}
            | {"answer": hit.answer, "source": "pairs.csv", "focus": ""}
            | {"title": "", "section": "", "page": "", "place": "", "id": str(hit.pair_id), "columns": {}}
            for hit in near.hits
        ],
        "seconds": {},
        "emergency": None,
        "disclaimer": far.disclaimer,
    }
    assert [source["in_prompt"] for source in near.as_json()["sources"]] == [True, True, False, False, False]


def test_a_generator_that_cannot_answer(retriever, opened, bpe):
    with pytest.raises(ValueError, match="was not trained to answer"):
        Answerer(retriever, opened, _Listening(bpe, None))


def test_wrong_input(retriever, opened, prepared, bpe, vocab_file, tmp_path):
    with pytest.raises(ValueError, match="num_contexts is 0; expected 1 or more"):
        make(retriever, opened, prepared, bpe, tmp_path / "t", PromptSettings(0, 120, 40))
    with pytest.raises(ValueError, match=r"has 60 answers; 60 contexts .* need 61 or more"):
        make(retriever, opened, prepared, bpe, tmp_path / "t", PromptSettings(60, 120, 40))
    made = make(retriever, opened, prepared, bpe, tmp_path / "made", PromptSettings(1, 120, 40))
    before = os.stat(made.shards("train")[0]).st_mtime_ns
    make(retriever, opened, prepared, bpe, tmp_path / "made", PromptSettings(1, 120, 40))  # it is there
    assert os.stat(made.shards("train")[0]).st_mtime_ns == before
    with pytest.raises(ValueError, match="made was made differently: num_contexts was 1, is 2"):
        make(retriever, opened, prepared, bpe, tmp_path / "made")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="there exists already"):
        make(retriever, opened, prepared, bpe, tmp_path / "there")
    few = write_csv(tmp_path / "few.csv", [(f"what is {c}?", f"the {c}.") for c in "abc"])
    prepare(PrepareSettings((few,), vocab_file, dev_share=0.0), str(tmp_path / "few"))
    with pytest.raises(ValueError, match="built from other pairs than"):
        make(retriever, opened, PreparedFolder(str(tmp_path / "few")), bpe, tmp_path / "t")
    assert not os.path.exists(tmp_path / "t")
