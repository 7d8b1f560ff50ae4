"""Train questions in other words: how many, which, and that answers and other questions stay."""

import dataclasses
import random

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.other_words import reworded
from docproduct.systems.retriever.embedding_store import open_store
from docproduct.systems.retriever.start import start
from docproduct.systems.retriever.task import RetrieverTask


@pytest.fixture(scope="module")
def make_task(config):
    prepared, strategy = PreparedFolder(config.prepared_dir), tf.distribute.get_strategy()

    def make(share, **options):
        asked = dataclasses.replace(config, reworded_share=share, **options)
        return RetrieverTask(asked, prepared, start(asked, prepared), strategy, "")

    return make


def ids_of(task, name, epoch, skip=0):
    """Returns the ids of one side, without padding, by pair."""
    return {
        int(pair): row[row != 0].tolist()
        for batch in task.batches(epoch, skip)
        for pair, row in zip(batch["pair_id"].numpy(), batch[name].numpy(), strict=True)
    }


@pytest.mark.parametrize("cluster_size", [1, 2])
def test_only_a_share_of_the_questions_changes_and_no_answer(make_task, config, cluster_size):
    plain = make_task(0.0, cluster_size=2)
    questions, answers = (ids_of(plain, name, 0) for name in ("question_ids", "answer_ids"))
    for share in (0.5, 1.0):
        task = make_task(share, cluster_size=cluster_size)
        changed = ids_of(task, "question_ids", 0)
        assert ids_of(task, "answer_ids", 0) == answers
        differing = np.mean([changed[pair] != ids for pair, ids in questions.items()])
        assert 0.2 < differing < 0.8 if share == 0.5 else differing > 0.8


def test_the_words_are_drawn_anew_in_each_epoch_and_again_after_a_restart(make_task):
    task, again = make_task(1.0), make_task(1.0)
    first, second = (ids_of(task, "question_ids", epoch) for epoch in (0, 1))
    assert first != second
    rest = ids_of(again, "question_ids", 1, skip=1)
    assert rest
    assert rest.items() <= second.items()
    other = ids_of(make_task(1.0, settings=dataclasses.replace(task._config.settings, seed=1)), "question_ids", 0)
    assert other != first


def test_new_questions_have_the_frame_of_stored_ones_and_keep_the_limit(make_task, config):
    retriever = make_task(1.0).retriever
    frame = retriever.token_ids(["x"], "question")[0].numpy()
    for batch in make_task(1.0, pad_to_multiple=4).batches(0, 0):
        ids = batch["question_ids"].numpy()
        assert ids.shape[1] % 4 == 0
        assert (ids[:, 0] == frame[0]).all()
        lengths = (ids != retriever.tokenizer.pad_id).sum(axis=1)
        assert lengths.max() <= config.max_tokens
        assert (ids[np.arange(len(ids)), lengths - 1] == frame[-1]).all()


def test_pairs_in_random_order_need_no_vectors(make_task, monkeypatch):
    encoded = []

    def record(retriever, prepared, side):
        encoded.append(side)
        return open_store(retriever, prepared, side)

    monkeypatch.setattr("docproduct.systems.retriever.task.open_store", record)
    for cluster_size, sides in ((1, []), (2, ["question"])):
        task = make_task(0.5, cluster_size=cluster_size)
        assert encoded == sides
        first, second = (ids_of(task, "answer_ids", epoch) for epoch in (0, 1))
        assert first == second  # each pair once


def test_other_languages_stay_as_they_are():
    german, chinese = "Welche Symptome hat eine Lungenentzündung?", "肺炎有什么症状?"
    assert all(reworded(text, "", random.Random(seed)) == text for text in (german, chinese) for seed in range(20))
    assert (
        reworded("What are the symptoms of pneumonia?", "", random.Random(1)) != "What are the symptoms of pneumonia?"
    )


def test_the_default_needs_the_encoder_and_pairs_in_memory(config):
    shares = [
        dataclasses.replace(config, **options).effective_reworded_share
        for options in (
            {},
            {"cluster_size": 1},
            {"freeze_bert": True},
            {"reworded_share": 0.0},
            {"reworded_share": 0.2},
        )
    ]
    assert shares == [0.5, 0, 0, 0, 0.2]


def test_a_run_from_before_there_was_rewording_goes_on_only_without_it(make_task):
    """Its config.json has no record of the share, which reads as None."""
    assert make_task(0.0).start()["reworded_share"] is None
    assert make_task(None).start()["reworded_share"] == 0.5


def test_a_frozen_encoder_has_no_vectors_of_new_questions(config):
    with pytest.raises(ValueError, match="reworded_share .* freeze_bert"):
        dataclasses.replace(config, reworded_share=0.5, freeze_bert=True)
