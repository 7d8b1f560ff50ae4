import json
import os

import keras
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from data_pipeline.batches import length_groups
from docproduct.layers import checkpoints
from docproduct.systems.retriever import Retriever, RetrieverConfig, TrainedRetriever
from docproduct.systems.retriever.losses import LossSettings, RetrievalLoss
from tests import reference
from tests.conftest import TINY_BERT
from tests.test_bert import randomize

TEXTS = ["what is a", "the b helps against c, d, e, f and g.", "?", "a1 b2 c3 what", "is is is", "z"]


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def loss(questions, answers, batch, scale=1.0):
    batch = {name: np.array(values, np.int64) for name, values in batch.items()}
    vectors = np.array(questions, np.float32), np.array(answers, np.float32)
    return RetrievalLoss(LossSettings(scale=scale))(*vectors, None, batch=batch).numpy()


DISTINCT = {"pair_id": [1, 2], "question_group": [1, 2], "answer_group": [1, 2]}


def test_loss_by_hand():
    # Logits [[1, 0], [0, 1]]: each row is log(e + 1) - 1 = 0.3133.
    eye = np.eye(2)
    assert loss(eye, eye, DISTINCT) == pytest.approx([0.31326, 0.31326], abs=1e-5)
    # Times 20: log(1 + e^-20) = 2e-9.
    assert loss(eye, eye, DISTINCT, scale=20.0) == pytest.approx([0, 0], abs=1e-6)
    # Questions and answers crossed: logits [[0, 40], [40, 0]], the right one at 0: 40 for each row, and a gradient.
    assert loss(eye, eye[::-1], DISTINCT, scale=40.0) == pytest.approx([40, 40], abs=1e-4)


@pytest.mark.parametrize("name", ["question_group", "answer_group"])
def test_equal_texts_are_never_negatives(name):
    # All vectors are equal, so that each answer would be the other's hardest negative. It is excluded, so that each row
    # keeps one candidate: softmax 1, loss 0.
    same = DISTINCT | {name: [5, 5]}
    vectors = unit([[1, 0], [1, 0]])
    assert loss(vectors, vectors, same) == pytest.approx([0, 0], abs=1e-6)
    assert loss(vectors, vectors, DISTINCT) == pytest.approx([np.log(2)] * 2, abs=1e-6)


def test_a_wrong_answer_far_ahead_has_a_gradient():
    """Softmax followed by cross-entropy on probabilities gives zeros here."""
    questions = tf.Variable(np.eye(2, dtype=np.float32))
    answers = tf.constant(np.eye(2)[::-1], tf.float32)
    batch = {name: tf.constant(values, tf.int64) for name, values in DISTINCT.items()}
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(RetrievalLoss(LossSettings(scale=40.0))(questions + 0, answers, None, batch=batch))
    # Row 0: logits [0, 40], probs [0, 1], so the gradient is 40 (answer 1 - answer 0) = 40 ([1, 0] - [0, 1]).
    np.testing.assert_allclose(tape.gradient(total, questions), [[40, -40], [-40, 40]], atol=1e-3)


def test_loss_equals_the_reference_on_random_batches():
    rng = np.random.default_rng(0)
    for size in (1, 3, 17):
        questions, answers = unit(rng.normal(size=(size, 7))), unit(rng.normal(size=(size, 7)))
        batch = {
            "pair_id": rng.permutation(size),
            "question_group": rng.integers(0, size, size),
            "answer_group": rng.integers(0, size, size),
        }
        expected = reference.in_batch_softmax(questions, answers, *batch.values(), scale=20.0)
        np.testing.assert_allclose(loss(questions, answers, batch, 20.0), expected, atol=1e-4)


def test_heads_start_as_the_identity(retriever):
    for side in ("question", "answer"):
        embeddings = retriever.embed(TEXTS, side)
        np.testing.assert_allclose(embeddings.head, unit(embeddings.encoder), atol=1e-6)


def test_a_residual_head_learns_from_the_identity(retriever):
    head = retriever.model.question_head
    x = tf.random.stateless_normal([4, 10], [0, 1])
    optimizer = keras.optimizers.SGD(0.1)
    for _ in range(2):  # the output layer moves first, the inner one once it is no longer zero
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(head(x) ** 2)
        gradients = tape.gradient(total, head.trainable_variables)
        optimizer.apply(gradients, head.trainable_variables)
    assert all(float(tf.norm(gradient)) > 0 for gradient in gradients)


@pytest.fixture
def trained(retriever):
    """A retriever in which every weight is random, heads too."""
    randomize(retriever.model)
    return retriever


def test_padding_and_batch_mates_never_change_a_vector(trained):
    alone = np.concatenate([trained.embed([text], "answer").head for text in TEXTS])
    for batch_size in (2, 3, 6):
        np.testing.assert_allclose(trained.embed(TEXTS, "answer", batch_size).head, alone, atol=1e-5)
    order = [3, 0, 5, 1, 4, 2]
    shuffled = trained.embed([TEXTS[i] for i in order], "answer").head
    np.testing.assert_allclose(shuffled, alone[order], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-5)


def test_sides_differ_by_their_head_alone(trained):
    question, answer = trained.embed(TEXTS, "question"), trained.embed(TEXTS, "answer")
    np.testing.assert_allclose(question.encoder, answer.encoder, atol=1e-6)
    assert np.abs(question.head - answer.head).max() > 0.1
    ids = trained.tokenizer.encode(TEXTS, 20).to_tensor()
    np.testing.assert_allclose(trained.model.encode_question(ids), question.head, atol=1e-5)
    np.testing.assert_allclose(trained.model(ids, ids)[1], answer.head, atol=1e-5)


def test_cls_pooling_is_the_first_state(tokenizer):
    model = Retriever(RetrieverConfig(TINY_BERT, pooling="cls", max_tokens=20))
    ids = tokenizer.encode(TEXTS, 20).to_tensor()
    np.testing.assert_allclose(model.pool(ids), model.bert(ids)[:, 0], atol=1e-6)


def test_encoding_is_traced_once(trained):
    for texts in (TEXTS, TEXTS[:1], TEXTS[2:5]):
        trained.embed(texts, "answer", batch_tokens=20)
    assert trained._encode["answer"].experimental_get_tracing_count() == 1


def test_no_texts_give_no_vectors(retriever):
    assert retriever.embed([], "question").head.shape == (0, 10)


def test_a_saved_retriever_is_the_same(trained, tmp_path, caplog):
    trained.save_config(str(tmp_path), {"training": {"seed": 3}})
    trained.save_weights(str(tmp_path))
    again = TrainedRetriever.load(str(tmp_path))
    np.testing.assert_allclose(again.embed(TEXTS, "question").head, trained.embed(TEXTS, "question").head, atol=1e-6)
    assert again.config == trained.config
    assert again.fingerprint() == trained.fingerprint()
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["training"] == {"seed": 3}
    assert {"versions", "git_commit", "retriever"} <= set(config)
    assert "has not ended" in caplog.text
    caplog.clear()
    (tmp_path / "metrics.json").write_text("{}")
    TrainedRetriever.load(str(tmp_path))
    assert not caplog.text
    again.model.answer_head.inner[0].bias.assign_add([0.1] * 10)
    assert again.fingerprint() != trained.fingerprint()


def test_an_unfinished_or_changed_model_folder_is_refused(trained, tmp_path):
    trained.save_config(str(tmp_path), {})
    with pytest.raises(ValueError, match=r"has no weights.safetensors. Expected a complete model folder"):
        TrainedRetriever.load(str(tmp_path))
    weights = checkpoints.variables_by_name(trained.model)
    del weights["question_head/inner/kernel"]
    tensors = {name: np.asarray(value) for name, value in weights.items()}
    safetensors.numpy.save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="missing: question_head/inner/kernel"):
        TrainedRetriever.load(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling": "last"}, "expected mean, cls, max, mean_sqrt_len"),
        ({"max_tokens": 41}, "expected 3 to 40"),
        ({"head": "deep"}, "expected residual, plain, none"),
        ({"head_depth": 0}, "expected 1 or more"),
        ({"matryoshka_dims": (11,)}, "expected 1 to 10"),
    ],
)
def test_invalid_configs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        RetrieverConfig(**{"bert": TINY_BERT, "max_tokens": 20} | change)


def test_vectors_equal_those_of_sentence_transformers(minilm):
    """Golden values: tests/golden/make_minilm_vectors.py."""
    with open(os.path.join(os.path.dirname(__file__), "golden/minilm_vectors.json"), encoding="utf-8") as file:
        golden = json.load(file)
    retriever = TrainedRetriever.load(minilm)
    lengths = retriever.tokenizer.encode(golden["texts"], 256).row_lengths().numpy()
    assert lengths.tolist() == golden["lengths"]
    assert (lengths.min(), lengths.max()) == (3, 256)
    assert (retriever.config.max_tokens, retriever.config.pooling) == (256, "mean")
    difference = np.abs(
        retriever.embed(golden["texts"], "answer", batch_tokens=1_024).head - np.array(golden["vectors"])
    )
    assert difference.max() < 1e-5
    fast = TrainedRetriever.load_for_many(minilm, "bfloat16")
    cosines = np.sum(fast.embed(golden["texts"], "answer").head * np.array(golden["vectors"]), axis=1)
    assert 0.999 < cosines.min() < 0.99999  # slightly different vectors


@pytest.mark.parametrize(("max_tokens", "from_shards"), [(40, True), (5, False)])
def test_a_prepared_folder_gives_the_vectors_of_its_texts(tokenizer, prepared, monkeypatch, max_tokens, from_shards):
    # The shards hold whole texts, of at most 40 tokens: a model that cuts at 5 must tokenize the texts again.
    retriever = TrainedRetriever(Retriever(RetrieverConfig(TINY_BERT, max_tokens=max_tokens), seed=3), tokenizer)
    randomize(retriever.model)
    expected = retriever.embed(prepared.table(["answer"])["answer"].to_pylist(), "answer")
    calls = []
    embed = retriever.embed
    monkeypatch.setattr(retriever, "embed", lambda *args: calls.append(args) or embed(*args))
    received = retriever.embed_prepared(prepared, "answer", batch_tokens=70)
    assert bool(calls) == (not from_shards)
    np.testing.assert_allclose(received.head, expected.head, atol=1e-5)


def test_length_groups_do_not_change_vectors(tokenizer):
    ids = np.array([[2, 7, 3, 0, 0, 0], [2, 8, 9, 10, 11, 3], [2, 3, 0, 0, 0, 0], [2, 9, 9, 3, 0, 0]], np.int32)
    for compiled in (1, 16):
        model = Retriever(RetrieverConfig(TINY_BERT, max_tokens=20), seed=3)
        randomize(model)
        expected = [model.encode_question(ids), model.encode_answer(ids[:3])]
        model.bert.row_multiple = compiled
        for num_groups in (1, 2, 6):
            (questions, q), (answers, a) = (length_groups(tf.constant(x), num_groups, 0) for x in (ids, ids[:3]))
            assert sum(group.shape[0] for group in questions) == 4
            vectors = model(questions, answers)
            np.testing.assert_allclose(tf.gather(vectors[0], q), expected[0], atol=1e-5)
            np.testing.assert_allclose(tf.gather(vectors[1], a), expected[1], atol=1e-5)
        # Two texts of 2 and 3 tokens, then two of 4 and 6.
        assert [group.shape for group in length_groups(tf.constant(ids), 2, 0)[0]] == [(2, 3), (2, 6)]
    padded = tf.pad(ids, [[0, 0], [0, 2]])  # to a multiple of 4
    assert [group.shape for group in length_groups(padded, 2, 0, multiple=4)[0]] == [(2, 4), (2, 8)]


def test_missing_settings_have_defaults_and_unknown_ones_are_refused(retriever, tmp_path):
    """A setting missing in config.json has its default; an unknown one is refused by name."""
    retriever.save_config(str(tmp_path), {})
    retriever.save_weights(str(tmp_path))
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text())
    for name in ("dense", "matryoshka_dims", "head_depth"):
        del stored["retriever"][name]
    del stored["retriever"]["bert"]["num_segments"]
    path.write_text(json.dumps(stored))
    loaded = TrainedRetriever.load(str(tmp_path))
    assert loaded.config == retriever.config
    texts = ["what is a3?"]
    np.testing.assert_array_equal(loaded.embed_few(texts, "question"), retriever.embed_few(texts, "question"))
    for part in (stored["retriever"], stored["retriever"]["bert"]):
        part["wings"] = 2
        path.write_text(json.dumps(stored))
        with pytest.raises(ValueError, match=r"config\.json has settings that this version does not know: wings"):
            TrainedRetriever.load(str(tmp_path))
        del part["wings"]
