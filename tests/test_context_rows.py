"""Kinds of rows for chat models, from retrieved pairs."""

import collections
import dataclasses

import pyarrow.parquet as pq
import pytest

from data_pipeline.folders.token_folder import TokenFolder
from data_pipeline.prompts.answer_prompts import PromptSettings
from data_pipeline.prompts.chat_prompts import REFUSAL
from data_pipeline.tokenizers import train_byte_pairs
from docproduct import contexts, index
from docproduct.context_rows import CONTEXT, ContextRows, KindShares, OtherQuestions
from docproduct.index import Hit, Index
from docproduct.systems.generator.dev import read_rows
from tests.toy_chat import chat_tokenizer

PROMPT = PromptSettings(2, 600, 80)
PAIR = {
    "pair_id": 7,
    "split": "train",
    "question": "What is gout?",
    "answer": "Gout is a painful form of arthritis in the toe.",
}
HITS = [
    Hit(0.9, 8, "What causes gout?", "Uric acid.", "", ""),
    Hit(0.8, 9, "Who gets gout?", "Mostly older men.", "", ""),
]


@pytest.fixture(scope="module")
def chat():
    return chat_tokenizer(["what is the cause? the x z helps against y. gout is a painful form of arthritis"])


def rows(chat, **shares):
    return ContextRows(chat, PROMPT, KindShares(**shares))


def test_shares_are_kept():
    shares = KindShares(0.5, 0.2, 0.1)
    counts = collections.Counter(map(shares.draw, range(4_000)))
    for kind, share in (("own", 0.5), ("joined", 0.2), ("unanswerable", 0.1), (CONTEXT, 0.2)):
        assert counts[kind] / 4_000 == pytest.approx(share, abs=0.03)


def test_each_kind_has_its_target(chat):
    targets = {
        kind: chat.decode(rows(chat, **{f"{kind}_share": 1.0}).row(PAIR, HITS).target_ids)
        for kind in ("own", "joined", "unanswerable")
    }
    assert targets["own"] in {f"[{number}] {PAIR['answer']}" for number in (1, 2)}
    assert {part.split(" ", 1)[1] for part in targets["joined"].split("\n")} == {PAIR["answer"], "Uric acid."}
    assert targets["unanswerable"] == REFUSAL
    assert chat.decode(rows(chat).row(PAIR, HITS).target_ids) == PAIR["answer"]


def test_sources_that_may_answer_are_not_refused(chat):
    """More than 0.3 of the answer's 4-grams stand in a source."""
    told = dataclasses.replace(HITS[0], answer="As gout is a painful form of arthritis, many rest.")
    maker = rows(chat, unanswerable_share=1.0)
    assert maker.kind(PAIR, [HITS[1], told]) == "own"
    assert maker.kind(PAIR, HITS) == "unanswerable"


def test_an_answer_of_several_questions_stands_under_another_one(chat):
    other = PAIR | {"pair_id": 11, "question": "My toe hurts, why?"}
    pairs = [PAIR, other, other | {"question": "Of dev?", "split": "dev"}]
    maker = ContextRows(chat, PROMPT, KindShares(own_share=1.0, paraphrase_share=1.0), OtherQuestions(pairs))
    row = maker.row(pairs[0], HITS)
    prompt = chat.decode(row.prompt_ids)
    assert f"] {other['question']}\n{PAIR['answer']}" in prompt
    assert f"Question: {PAIR['question']}" in prompt  # as it is: the other wording is the paraphrase
    assert PAIR["answer"] in chat.decode(row.target_ids)
    alone = maker.row(PAIR | {"answer": "Not known."}, HITS)
    assert f"] {PAIR['question']}\nNot known." in chat.decode(alone.prompt_ids)


def test_a_pair_without_others_is_not_joined(chat):
    assert rows(chat, joined_share=1.0).kind(PAIR, []) == "own"


def test_a_folder_lists_the_kinds_and_limits_dev(retriever, prepared, chat, tmp_path):
    index.build(retriever, prepared, str(tmp_path / "index"))
    opened = Index(str(tmp_path / "index"), retriever)
    settings = contexts.ContextSettings(PROMPT, KindShares(0.4, 0.3, 0.3, 0.5), dev_questions=2)
    contexts.make(retriever, opened, prepared, chat, settings, str(tmp_path / "t"))
    folder = TokenFolder(str(tmp_path / "t"))
    table = pq.read_table(tmp_path / "t/contexts.parquet").to_pydict()
    kinds = dict(zip(table["pair_id"], table["kind"], strict=True))
    assert set(kinds.values()) == {"own", "joined", "unanswerable"}
    assert folder.num_rows("dev") == 2
    assert folder.num_rows("train") == prepared.num_rows("train")
    for row in read_rows(folder, "train"):
        refused = folder.tokenizer().decode(row.target_ids) == REFUSAL
        assert refused == (kinds[row.pair_id] == "unanswerable")


def test_wrong_settings(chat):
    with pytest.raises(ValueError, match="are 1.2 together; expected at most 1"):
        KindShares(0.6, 0.6)
    with pytest.raises(ValueError, match="needs a model with a chat template"):
        ContextRows(train_byte_pairs(["a b"], 300), PROMPT, KindShares(0.6))
