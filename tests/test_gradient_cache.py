import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.folders.prepared import PreparedFolder
from docproduct.systems.retriever import Retriever, RetrieverConfig, TrainedRetriever
from docproduct.systems.retriever.losses import LossSettings, RetrievalLoss
from docproduct.systems.retriever.task import RetrieverTask
from docproduct.training.gradient_cache import cached_gradients
from docproduct.training.gradients import trainable
from tests.conftest import TINY_BERT
from tests.test_bert import randomize


def batch_of(rows, rng, k):
    ids = rng.integers(6, TINY_BERT.vocab_size, (rows, 2 + k, 9)).astype(np.int32)
    lengths = rng.integers(2, 10, (rows, 2 + k))
    ids[np.arange(9) >= lengths[..., None]] = 0
    number = np.arange(rows, dtype=np.int64)
    batch = {"question_ids": ids[:, 0], "answer_ids": ids[:, 1], "pair_id": number}
    batch |= {"question_group": number // 2, "answer_group": number}
    if k:
        batch |= {"negative_ids": ids[:, 2:], "teacher_scores": rng.random((rows, 1 + k)).astype(np.float32)}
        batch |= {
            f"negative_{name}": 100 + number[:, None] + np.arange(k) for name in ("question_group", "answer_group")
        }
    return {name: tf.constant(values) for name, values in batch.items()}


@pytest.mark.parametrize(("rows", "k", "dropout"), [(7, 0, 0.3), (5, 2, 0.3)])
def test_gradients_equal_those_of_the_plain_loss(config, tokenizer, rows, k, dropout):
    """The plain loss encodes the same chunks, because dropout masks depend on how rows are batched."""
    bert = dataclasses.replace(TINY_BERT.with_dropout(dropout), num_layers=1)
    sizes = RetrieverConfig(bert, max_tokens=20, head_dropout=dropout)
    retriever = TrainedRetriever(Retriever(sizes, seed=3), tokenizer)
    randomize(retriever.model)
    prepared, strategy = PreparedFolder(config.prepared_dir), tf.distribute.get_strategy()
    loss = RetrievalLoss(LossSettings("symmetric", learn_scale=True, distillation_weight=0.3 if k else 0.0))

    class InChunks(RetrieverTask):
        def encode(self, batch):
            chunks = [{name: value[i : i + 3] for name, value in batch.items()} for i in range(0, rows, 3)]
            parts = [super(InChunks, self).encode(chunk) for chunk in chunks]
            return [tf.concat(side, axis=0) for side in zip(*parts, strict=True)]

    def gradients(make_task, chunk_size):
        changed = dataclasses.replace(config, cluster_size=1, chunk_size=chunk_size)
        task = make_task(changed, prepared, retriever, strategy, "")
        task.num_groups, task.loss, task.modules = 2, loss, (retriever.model, loss)
        return lambda batch: task.gradients(batch, tf.identity)

    batch = batch_of(rows, np.random.default_rng(0), k)
    states = list(retriever.model.non_trainable_variables)
    before = [state.numpy() for state in states]

    def restart():
        for state, value in zip(states, before, strict=True):
            state.assign(value)

    expected_loss, expected = gradients(InChunks, 0)(batch)
    after = [state.numpy() for state in states]
    restart()
    received_loss, received = tf.function(gradients(RetrieverTask, 3))(batch)
    assert float(received_loss) == pytest.approx(float(expected_loss), abs=1e-5)
    for ours, theirs, variable in zip(received, expected, trainable((retriever.model, loss)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=variable.path)
    assert max(float(tf.norm(gradient)) for gradient in received) > 0.1
    # The random states are those after one pass, so that the next step is the same, too.
    for state, value in zip(states, after, strict=True):
        np.testing.assert_array_equal(state.numpy(), value)
    assert any(np.any(a != b) for a, b in zip(after, before, strict=True))


def test_the_step_is_traced_once_for_any_number_of_chunks():
    layer = keras.layers.Dense(2, use_bias=False)
    layer.build((None, 3))
    traces = []

    def encode(batch):
        traces.append(1)
        return [layer(batch["x"])]

    def loss(vectors, batch, gather):
        return tf.reduce_sum(tf.square(vectors[0]))

    signature = [{"pair_id": tf.TensorSpec([None], tf.int64), "x": tf.TensorSpec([None, 3], tf.float32)}]
    step = tf.function(
        lambda batch: cached_gradients(encode, loss, (layer,), batch, tf.identity, 2), input_signature=signature
    )
    for rows in (1, 2, 5):
        x = tf.random.stateless_normal([rows, 3], [0, rows])
        total, (received,) = step({"pair_id": tf.range(rows, dtype=tf.int64), "x": x})
        # d/dW |xW|^2 = 2 x^T x W
        np.testing.assert_allclose(received, 2 * tf.transpose(x) @ x @ layer.kernel.value, rtol=1e-4)
        assert float(total) == pytest.approx(float(tf.reduce_sum(tf.square(x @ layer.kernel.value))), rel=1e-5)
    assert len(traces) <= 3  # for the output shapes, the forward and the backward pass
