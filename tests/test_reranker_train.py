"""Training of the reranker: its batches, its loss, resuming, and the evaluation on dev."""

import dataclasses
import json
import os

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.folders.prepared import PreparedFolder
from docproduct import metrics
from docproduct.negatives import MiningSettings, mine
from docproduct.systems.reranker import TrainedReranker
from docproduct.systems.reranker.config import RerankerTraining
from docproduct.systems.reranker.dev import RerankEvaluation
from docproduct.systems.reranker.start import start
from docproduct.systems.reranker.task import RerankerTask
from docproduct.systems.reranker.train import train
from docproduct.systems.retriever import Retriever, RetrieverConfig, TrainedRetriever
from docproduct.systems.retriever.dev import DevEvaluation, FirstHits, text_vectors
from docproduct.training import loop
from docproduct.training.settings import TrainingSettings
from tests.commands import run_code
from tests.conftest import TINY_BERT

SETTINGS = TrainingSettings(
    epochs=2, batch_size=16, learning_rate=5e-3, precision="float32", checkpoint_steps=1, seed=5, keep="last"
)


@pytest.fixture(scope="module")
def retriever_dir(small, tmp_path_factory):
    tokenizer = PreparedFolder(small).tokenizer()
    retriever = TrainedRetriever(Retriever(RetrieverConfig(TINY_BERT, max_tokens=20), seed=3), tokenizer)
    folder = tmp_path_factory.mktemp("retriever") / "m"
    folder.mkdir()
    retriever.save_config(str(folder), {})
    retriever.save_weights(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def config(small, retriever_dir, tmp_path_factory):
    negatives_dir = str(tmp_path_factory.mktemp("negatives") / "n")
    settings = MiningSettings(relative_margin=10.0, max_negatives=5)
    mine(TrainedRetriever.load(retriever_dir), PreparedFolder(small), negatives_dir, settings)
    sizes = {"num_negatives": 3, "max_tokens": 24, "max_question_tokens": 12, "dev_questions": 7, "rerank_depth": 5}
    return RerankerTraining(small, retriever_dir, negatives_dir, **sizes, settings=SETTINGS)


@pytest.fixture(scope="module")
def task(config):
    retriever = TrainedRetriever.load(config.retriever_dir)
    config = dataclasses.replace(config, dropout=0.0)
    return RerankerTask(config, PreparedFolder(config.prepared_dir), start(config, retriever), retriever, "")


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "first"
    return folder, train(config, str(folder))


def test_batches_hold_each_question_with_its_own_answer_first(config, task):
    pairs = PreparedFolder(config.prepared_dir).table(["question", "answer", "split"]).to_pylist()
    seen = []
    for batch in task.batches(0, 0):
        for ids, length in zip(batch["pair_ids"].numpy(), batch["question_lengths"].numpy(), strict=True):
            question = tuple(ids[0, :length].tolist())
            assert {tuple(candidate[:length].tolist()) for candidate in ids} == {question}
            seen.append(question + tuple(ids[0, length:][ids[0, length:] != 0].tolist()))
    tokenizer = task.reranker.tokenizer
    train_pairs = [pair for pair in pairs if pair["split"] == "train"]
    questions, answers = (
        tokenizer.encode_few([pair[side] for pair in train_pairs], most)
        for side, most in (("question", 12), ("answer", 22))
    )
    expected = [(*q, *a[1:])[: 24 - 1] for q, a in zip(questions, answers, strict=True)]
    assert sorted(row[: 24 - 1] for row in seen) == sorted(expected)
    later = [batch["pair_ids"].numpy().tolist() for batch in task.batches(1, 1)]
    assert later == [batch["pair_ids"].numpy().tolist() for batch in task.batches(1, 0)][1:]


def test_the_loss_is_the_softmax_over_candidates(task, monkeypatch):
    """Loss of logits (0, 1, 2): log(1 + e + e^2); of a row whose second candidate does not count: log(1 + e^2)."""
    logits = tf.constant([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    monkeypatch.setattr(task, "logits_of_batch", lambda batch: logits)
    is_candidate = tf.constant([[True, True, True], [True, False, True]])
    expected = np.log(1 + np.e + np.e**2) + np.log(1 + np.e**2)
    assert float(task.loss_of_batch({"is_candidate": is_candidate}, tf.identity)) == pytest.approx(expected, abs=1e-6)


def test_equal_questions_and_answers_are_no_negatives(task, monkeypatch):
    groups = task._groups
    same = next(
        (a, b)
        for a in task._train.tolist()
        for b in task._train.tolist()
        if a != b and groups["question_group"][a] == groups["question_group"][b]
    )
    other = next(row for row in task._train.tolist() if row not in same)
    drawn = np.array([[same[1], other, other]])
    monkeypatch.setattr(task._negatives, "draw", lambda pair_ids, epoch: (drawn, None))
    batch = task._batch(np.array([same[0]]), 0)
    assert batch["is_candidate"].numpy().tolist() == [[True, False, True, True]]


def test_groups_and_chunks_change_no_loss(task, config, monkeypatch):
    batch = next(iter(task.batches(0, 0)))
    model = task.reranker.model
    rng = np.random.default_rng(0)
    before = [variable.numpy() for variable in model.head.trainable_variables]
    for variable in model.head.trainable_variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    rows = batch["pair_ids"].numpy().reshape(-1, batch["pair_ids"].shape[2])
    lengths = np.repeat(batch["question_lengths"].numpy(), 4)
    expected = np.asarray(model(rows, lengths)).reshape(-1, 4)
    np.testing.assert_allclose(task.logits_of_batch(batch), expected, atol=1e-5)
    whole, gradients = task.gradients(batch, tf.identity)
    monkeypatch.setattr(task, "_config", dataclasses.replace(config, chunk_size=5))
    total, sums = task.gradients(batch, tf.identity)
    assert float(total) == pytest.approx(float(whole), rel=1e-5)
    for one, other in zip(gradients, sums, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    for variable, value in zip(model.head.trainable_variables, before, strict=True):
        variable.assign(value)


def test_dev_starts_with_the_retrievers_order(config, run):
    _, history = run
    retriever = TrainedRetriever.load(config.retriever_dir)
    evaluation = DevEvaluation(PreparedFolder(config.prepared_dir), 2_000, text_vectors(retriever))
    hits = evaluation.first_hits(5, 7)
    cosines = retriever.embed(hits.questions, "question").head @ retriever.embed(hits.answers, "answer").head.T
    np.testing.assert_array_equal(hits.hits, np.argsort(-cosines, axis=1, kind="stable")[:, :5])
    first = history["epochs"][0]
    assert first["RR@10"] == first["RR@10_without"] == pytest.approx(metrics.reciprocal_rank(hits.ranks, 10))
    assert first["weight"] == 0


def test_the_logits_move_right_answers_up(tokenizer, config):
    """Three hits, the right one last: rank 3. Its logit is the highest: rank 1. What is no hit keeps its rank."""
    hits = FirstHits(
        ["what is a?", "what is b?"],
        ["x", "y", "z"],
        np.array([[0, 1, 2], [0, 1, 2]]),
        np.array([[0.9, 0.8, 0.7]] * 2, np.float32),
        np.array([[False, False, True], [False] * 3]),
        np.array([3, 9]),
    )
    reranker = start(config, TrainedRetriever.load(config.retriever_dir))
    evaluation = RerankEvaluation(hits, reranker)
    assert evaluation()["RR@10"] == pytest.approx((1 / 3 + 1 / 9) / 2)
    reranker.is_untrained = lambda: False
    reranker.logits_of_rows = lambda ids, rows: 10.0 * (rows[:, 1] == 2)
    scores = evaluation()
    # 20 * 0.1 a rank: with weight 0.3, 3 counts more than 0.7 * 4.
    assert (scores["RR@10"], scores["weight"]) == (pytest.approx((1 + 1 / 9) / 2), 0.3)
    assert scores["RR@10_without"] == pytest.approx((1 / 3 + 1 / 9) / 2)


def test_a_run_leaves_a_complete_folder(config, run):
    folder, history = run
    assert sorted(os.listdir(folder)) == [
        "README.md", "config.json", "learning_curve.png", "metrics.json", "rerank.json", "tokenizer_config.json",
        "vocab.txt", "weights.safetensors",
    ]  # fmt: skip
    assert json.loads((folder / "metrics.json").read_text()) == history
    reranker = TrainedReranker.load(str(folder))
    assert reranker.weight == history["best"]["weight"]
    assert reranker.retriever == TrainedRetriever.load(config.retriever_dir).fingerprint()
    assert not reranker.is_untrained()
    assert history["losses"][0] == pytest.approx(np.log(4), abs=0.1)  # four candidates, all alike at first


def test_resumed_is_undisturbed(config, run, tmp_path, monkeypatch):
    _, undisturbed = run
    step_function = loop.step_function

    def stopping(*arguments):
        step, done = step_function(*arguments), []

        def stop(batch):
            if len(done) == 3:
                raise KeyboardInterrupt
            done.append(1)
            return step(batch)

        return stop

    monkeypatch.setattr(loop, "step_function", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(config, str(tmp_path / "m"))
    monkeypatch.setattr(loop, "step_function", step_function)
    resumed = train(config, str(tmp_path / "m"), resume=True)
    np.testing.assert_allclose(resumed["losses"], undisturbed["losses"], atol=1e-6)
    assert resumed["best"]["RR@10"] == pytest.approx(undisturbed["best"]["RR@10"])


def test_training_lowers_the_loss(config, tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=15, learning_rate=1e-2)
    history = train(dataclasses.replace(config, dropout=0.0, settings=settings), str(tmp_path / "m"))
    assert np.mean(history["losses"][-3:]) < 0.7 * history["losses"][0]


def test_the_script_takes_each_tasks_defaults():
    code = (
        "import train_embeddings as script; from absl import flags\n"
        "script._define_flags()\n"
        "flags.FLAGS(['s', '--task=reranker', '--prepared_dir=p', '--model_dir=m', '--retriever_dir=r',"
        " '--negatives_dir=n'])\n"
        "config = script._reranker_config()\n"
        "print(config == script.RerankerTraining('p', 'r', 'n'))\n"
        "flags.FLAGS(['s', '--head=none'])\n"
        "try: script._reranker_config()\n"
        "except ValueError as error: print(error)\n"
    )
    assert run_code(code) == ["True", "--head is not a flag of --task=reranker. Leave it out."]
