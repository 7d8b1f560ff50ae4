"""benchmarks/answers.py: all prompt forms have the same targets, and no control prompt holds its right answer."""

import pytest

from benchmarks.answers import Questions
from data_pipeline import cleaning
from data_pipeline.folders.token_folder import TokenFolder
from data_pipeline.prompts.answer_prompts import PromptSettings
from data_pipeline.tokenizers import train_byte_pairs
from docproduct import contexts, index
from docproduct.index import Index
from docproduct.systems.generator.dev import read_rows
from docproduct.systems.retriever import Retriever, RetrieverConfig, TrainedRetriever
from tests.conftest import TINY_BERT

SETTINGS = PromptSettings(2, 90, 6)


@pytest.fixture(scope="module")
def tokens_dir(tokenizer, prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("answers")
    retriever = TrainedRetriever(Retriever(RetrieverConfig(TINY_BERT, max_tokens=20), seed=3), tokenizer)
    index.build(retriever, prepared, str(folder / "index"))
    opened = Index(str(folder / "index"), retriever)
    bpe = train_byte_pairs(["what is the cause? the x z helps against y."], 280)
    contexts.make(retriever, opened, prepared, bpe, contexts.ContextSettings(SETTINGS), str(folder / "tokens"))
    return str(folder / "tokens")


def test_all_prompt_forms_have_the_same_targets(tokens_dir, prepared):
    questions = Questions(tokens_dir, prepared.path)
    pairs = {pair["pair_id"]: pair for pair in prepared.table(["pair_id", "question", "answer"]).to_pylist()}
    trained_on = {row.pair_id: row for row in read_rows(TokenFolder(tokens_dir), "dev")}
    show = questions.tokenizer.show
    assert {row.pair_id for row in questions.rows} == set(trained_on)
    rows = zip(questions.rows, questions.alone(), questions.with_other_contexts(), strict=True)
    other = 0
    for row, alone, shuffled in rows:
        pair = pairs[row.pair_id]
        assert row.pair_id == alone.pair_id == shuffled.pair_id
        assert row.target_ids == alone.target_ids == shuffled.target_ids == trained_on[row.pair_id].target_ids[:6]
        assert row.prompt_ids == trained_on[row.pair_id].prompt_ids
        end = f"<question> {pair['question']} <answer>"
        assert show(alone.prompt_ids) == end
        text = show(shuffled.prompt_ids)
        assert text.endswith(end)
        assert cleaning.normal_form(pair["answer"]) not in cleaning.normal_form(text)
        assert len(shuffled.prompt_ids) <= SETTINGS.prompt_tokens
        other += shuffled.prompt_ids not in (row.prompt_ids, alone.prompt_ids)
    assert other > len(questions.rows) / 2
    assert len(Questions(tokens_dir, prepared.path, 3).rows) == 3


def test_scores_compare_with_the_whole_right_answers(tokens_dir, prepared):
    questions = Questions(tokens_dir, prepared.path)
    right = dict(zip(*prepared.table(["pair_id", "answer"]).to_pydict().values(), strict=True))
    ids = [row.pair_id for row in questions.rows]
    assert questions.scores({i: right[i] for i in ids}) == 1
    assert questions.scores(dict.fromkeys(ids, "")) == 0
    first = " ".join(right[ids[0]].split()[:2])
    expected = 2 * 2 / (2 + len(right[ids[0]].split()))  # F1: two words match
    assert questions.scores({ids[0]: first}) == pytest.approx(expected)
    nearest = questions.nearest_answers(questions.rows, cut=False)
    assert list(nearest) == ids
    assert set(nearest.values()) <= set(right.values())
    assert not any(nearest[i] == right[i] for i in ids)
    cut = questions.nearest_answers(questions.rows, cut=True)
    assert all(nearest[i].startswith(cut[i]) for i in ids)
    assert any(0 < len(cut[i]) < len(nearest[i]) for i in ids)
    # A question without neighbors still counts: its nearest answer is the empty text.
    questions._contexts[ids[0]] = []
    assert questions.nearest_answers(questions.rows, cut=False)[ids[0]] == ""


def test_too_few_rows_and_missing_folders_are_refused(tokens_dir, prepared, tmp_path):
    with pytest.raises(ValueError, match="1 rows of dev; expected 2 or more"):
        Questions(tokens_dir, prepared.path, 1)

    with pytest.raises(ValueError, match="There is no folder"):
        Questions(str(tmp_path / "none"), prepared.path)
