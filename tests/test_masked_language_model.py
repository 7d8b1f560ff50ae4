"""Masked-language-model training: the head, the loss, the folder that is written, new pieces, resuming."""

import dataclasses
import json
import os

import keras_hub
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from data_pipeline.prompts.encoder_prompts import EncoderPrompts
from data_pipeline.token_rows.masking import NO_TARGET
from data_pipeline.token_rows.plain_texts import PlainTexts, read_texts
from data_pipeline.tokenizers import load_tokenizer
from docproduct.layers import checkpoints
from docproduct.layers.bert import BertConfig
from docproduct.systems.masked_language_model import MaskedLanguageModel, report
from docproduct.systems.masked_language_model.checkpoint import hugging_face_tensors, read_head
from docproduct.systems.masked_language_model.config import MaskedTraining
from docproduct.systems.masked_language_model.dev import DevEvaluation
from docproduct.systems.masked_language_model.start import start
from docproduct.systems.masked_language_model.task import MaskedTask
from docproduct.systems.masked_language_model.train import train
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.bare_encoder import load_encoder
from docproduct.training import loop
from docproduct.training.settings import TrainingSettings
from tests import encoder_folders
from tests.commands import run_code
from tests.conftest import TINY_BERT

SETTINGS = TrainingSettings(
    epochs=2, batch_size=7, learning_rate=5e-3, precision="float32", checkpoint_steps=1, seed=5, keep="last"
)
SIZES = BertConfig(vocab_size=23, width=10, num_layers=1, num_heads=2, inner_width=14, max_positions=9)
TEXTS_OF_NOTHING = PlainTexts(["what"], ["is"], [])
TEXTS = ["what is the fever", "the fever is what", "is the query the fever", "咳嗽 what", "zebra is the zebra"]


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "book.txt"
    documents = [f"{text} {'abcdefgh'[i % 8]}" for i in range(6) for text in TEXTS]
    path.write_text("\n<|endoftext|>\n".join(documents), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def config(book):
    sizes = dataclasses.replace(TINY_BERT, num_layers=1, initializer_range=0.2)
    return MaskedTraining(
        (book,), dev_share=0.3, max_tokens=8, vocab_size=60, dropout=0.1, random_bert=sizes, settings=SETTINGS
    )


@pytest.fixture(scope="module")
def task(config):
    texts = read_texts(config.text, None, config.dev_share, 5)
    config = dataclasses.replace(config, dropout=0.0, mask_share=0.5)
    return MaskedTask(config, texts, *start(config, texts), "")


def randomized(model):
    """Gives every variable random values, so that none is zero or one by chance."""
    random = np.random.default_rng(2)
    for variable in model.weights:
        variable.assign(random.normal(0, 0.5, variable.shape))
    return model


def test_the_head_is_that_of_keras_hub():
    model = randomized(MaskedLanguageModel(SIZES, seed=1))
    ids = np.array([[5, 7, 0, 0], [9, 3, 4, 22]], np.int32)
    states = np.asarray(model.bert(ids))
    table = keras_hub.layers.ReversibleEmbedding(23, 10)
    table.build(None)
    table.set_weights([model.bert.token_embedding.embeddings.numpy()])
    head = keras_hub.layers.MaskedLMHead(
        token_embedding=table,
        layer_norm_epsilon=SIZES.norm_epsilon,
        intermediate_activation=lambda x: 0.5 * x * (1 + tf.math.erf(x / 2**0.5)),
    )
    head(states, np.array([[0], [0]]))  # makes the variables
    names = ("transform/kernel", "transform/bias", "norm/gamma", "norm/beta", "bias")
    variables = checkpoints.variables_by_name(model.head)
    by_place = [head._intermediate_dense.kernel, head._intermediate_dense.bias]
    by_place += [head._intermediate_layer_norm.gamma, head._intermediate_layer_norm.beta, head._bias]
    for name, theirs in zip(names, by_place, strict=True):
        theirs.assign(variables[name].numpy())
    expected = np.asarray(head(states, np.array([[1, 0], [3, 2]])))  # [2, 2, 23]
    logits = np.asarray(model(ids, np.array([1, 0, 7, 6])))  # row * 4 + token
    np.testing.assert_allclose(logits, expected.reshape(4, 23), atol=1e-4)


def test_the_loss_is_the_mean_cross_entropy_of_masked_tokens(task, monkeypatch):
    batch = next(iter(task.batches(0, 0)))
    ids, targets = batch["masked_ids"].numpy(), batch["target_ids"].numpy()
    model = task.trained.model
    losses = []
    for row, column in zip(*np.nonzero(targets != NO_TARGET), strict=True):
        logits = np.asarray(model(ids, np.array([row * ids.shape[1] + column])))[0].astype(np.float64)
        losses.append(np.log(np.exp(logits).sum()) - logits[targets[row, column]])
    assert len(losses) > 8  # more masked tokens than rows: their means differ
    total, gradients = task.gradients(batch, tf.identity)
    assert float(total) / len(ids) == pytest.approx(np.mean(losses), rel=1e-5)  # the loop divides by the rows
    monkeypatch.setattr(task, "_config", dataclasses.replace(task._config, chunk_size=3))
    in_chunks, sums = task.gradients(batch, tf.identity)
    assert float(in_chunks) == pytest.approx(float(total), rel=1e-5)
    for one, other in zip(gradients, sums, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_dev_scores_are_those_of_numpy(task):
    evaluation = DevEvaluation(task.trained.model, task.dev_rows, task._words, 0.15, task.trained.tokenizer.pad_id)
    losses, right = [], []
    for ids, targets in evaluation._batches:
        places = np.flatnonzero(targets.reshape(-1) != NO_TARGET)
        logits = np.asarray(task.trained.model(ids, places)).astype(np.float64)
        expected = targets.reshape(-1)[places]
        losses += (np.log(np.exp(logits).sum(axis=1)) - logits[range(len(places)), expected]).tolist()
        right += (logits.argmax(axis=1) == expected).tolist()
    scores = evaluation()
    assert scores["dev_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert scores["perplexity"] == pytest.approx(np.exp(np.mean(losses)), rel=1e-4)
    assert scores["masked_accuracy"] == pytest.approx(np.mean(right))
    again = DevEvaluation(task.trained.model, task.dev_rows, task._words, 0.15, task.trained.tokenizer.pad_id)
    for one, other in zip(evaluation._batches, again._batches, strict=True):
        assert [part.tolist() for part in one] == [part.tolist() for part in other]


def test_masks_are_drawn_anew_each_epoch_and_stay_the_same_after_a_restart(task):
    def lists(epoch, skip):
        return [{name: part.numpy().tolist() for name, part in batch.items()} for batch in task.batches(epoch, skip)]

    assert lists(1, 2) == lists(1, 0)[2:]
    differing = [row for row in range(task.num_rows) if task.mask(row, 0)[1].tolist() != task.mask(row, 1)[1].tolist()]
    assert len(differing) > task.num_rows / 3
    rows = [ids for batch in task.batches(0, 0) for ids in batch["masked_ids"].numpy()]
    assert len(rows) == task.num_rows


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "first"
    return folder, train(config, str(folder))


def test_a_run_leaves_an_encoder(config, run):
    folder, history = run
    assert sorted(os.listdir(folder)) == [
        "README.md", "config.json", "learning_curve.png", "metrics.json", "model.safetensors", "tokenizer_config.json",
        "vocab.txt",
    ]  # fmt: skip
    assert json.loads((folder / "metrics.json").read_text()) == history
    retriever, tokenizer = load_encoder(str(folder))
    sizes = {"vocab_size": tokenizer.vocab_size, "pad_id": tokenizer.pad_id}
    assert retriever.bert.config == dataclasses.replace(config.random_bert, **sizes)
    stored = json.loads((folder / "config.json").read_text())
    assert (stored["model_type"], stored["architectures"]) == ("bert", ["BertForMaskedLM"])
    assert "tokens of the train texts are unknown (0.000%)" in (folder / "README.md").read_text(encoding="utf-8")
    assert history["epochs"][-1]["step"] == len(history["losses"])


def test_resumed_is_undisturbed(config, run, tmp_path, monkeypatch):
    # From an encoder with a vocabulary: one that is learned from texts is not always the same.
    config = dataclasses.replace(config, encoder_dir=str(run[0]))
    undisturbed = train(config, str(tmp_path / "undisturbed"))
    step_function = loop.step_function

    def stopping(*arguments):
        step, done = step_function(*arguments), []

        def stop(batch):
            if len(done) == 4:
                raise KeyboardInterrupt
            done.append(1)
            return step(batch)

        return stop

    monkeypatch.setattr(loop, "step_function", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(config, str(tmp_path / "m"))
    monkeypatch.setattr(loop, "step_function", step_function)
    resumed = train(config, str(tmp_path / "m"), resume=True)
    np.testing.assert_allclose(resumed["losses"], undisturbed["losses"], atol=1e-5)
    assert resumed["best"]["perplexity"] == pytest.approx(undisturbed["best"]["perplexity"], rel=1e-4)
    with pytest.raises(ValueError, match="mask_share was 0.15, is 0.2"):
        train(dataclasses.replace(config, mask_share=0.2), str(tmp_path / "m"), resume=True)


def test_training_lowers_the_loss(config, tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=24, learning_rate=2e-2)
    history = train(dataclasses.replace(config, dropout=0.0, settings=settings), str(tmp_path / "m"))
    assert np.mean(history["losses"][-4:]) < 0.7 * np.mean(history["losses"][:4])
    assert history["best"]["perplexity"] < 0.7 * history["epochs"][0]["perplexity"]


def write(trained, folder):
    os.makedirs(folder, exist_ok=True)
    trained.save_config(folder, {})
    trained.save_weights(folder)


@pytest.mark.parametrize("kind", ["dense", "unigram", "Transformer in a folder of its own"])
def test_a_published_encoder_keeps_its_layout(kind, config, tmp_path):
    before, after = str(tmp_path / "e"), str(tmp_path / "m")
    encoder_folders.write(before, kind)
    write(start(dataclasses.replace(config, encoder_dir=before), TEXTS_OF_NOTHING)[0], after)
    start_model, tokenizer = load_encoder(before)
    model, own_tokenizer = load_encoder(after)
    texts = list(encoder_folders.TEXTS)
    ids = tokenizer.encode_few(texts, model.config.max_tokens)
    assert own_tokenizer.encode_few(texts, model.config.max_tokens) == ids
    assert model.config == start_model.config  # pooling, longest text, dense layers
    first, second = TrainedRetriever.load(before), TrainedRetriever.load(after)
    assert first.prompts == second.prompts == EncoderPrompts.read(after)
    np.testing.assert_allclose(second.embed(texts, "answer").head, first.embed(texts, "answer").head, atol=1e-6)


def test_the_head_of_a_folder_is_read(config, tmp_path):
    """A folder of BertForMaskedLM: with the prefix, the head and, as older versions wrote, the tied table again."""
    folder = tmp_path / "e"
    encoder_folders.write(str(folder), "mean")
    tensors = safetensors.numpy.load_file(str(folder / "model.safetensors"))
    num_ids, d = len(encoder_folders.VOCAB), encoder_folders.WIDTH
    random = np.random.default_rng(4)
    shapes = {"transform.dense.weight": (d, d), "transform.dense.bias": (d,), "bias": (num_ids,)}
    shapes |= {"transform.LayerNorm.gamma": (d,), "transform.LayerNorm.beta": (d,)}
    head = {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    tied = {"cls.predictions.decoder.weight": tensors["embeddings.word_embeddings.weight"]}
    everything = {f"bert.{name}": value for name, value in tensors.items()} | tied
    everything |= {f"cls.predictions.{name}": value for name, value in head.items()}
    safetensors.numpy.save_file(everything, str(folder / "model.safetensors"))
    config = dataclasses.replace(config, encoder_dir=str(folder))
    texts = read_texts(config.text, None, config.dev_share, 5)
    model = start(config, texts)[0].model
    # transformers' BertLMPredictionHead in NumPy.
    states = random.normal(size=(3, d)).astype(np.float32)
    inner = states @ head["transform.dense.weight"].T + head["transform.dense.bias"]
    inner = np.asarray(0.5 * inner * (1 + tf.math.erf(inner / np.sqrt(2.0)).numpy()))
    inner = (inner - inner.mean(1, keepdims=True)) / np.sqrt(inner.var(1, keepdims=True) + 1e-12)
    inner = inner * head["transform.LayerNorm.gamma"] + head["transform.LayerNorm.beta"]
    expected = inner @ tensors["embeddings.word_embeddings.weight"].T + head["bias"]
    table = model.bert.token_embedding.embeddings
    np.testing.assert_allclose(np.asarray(model.head(tf.constant(states), table)), expected, atol=1e-4)
    written = hugging_face_tensors(model)
    np.testing.assert_array_equal(written["cls.predictions.transform.dense.weight"], head["transform.dense.weight"])
    everything["cls.predictions.decoder.weight"] = tied["cls.predictions.decoder.weight"] + 1
    safetensors.numpy.save_file(everything, str(folder / "model.safetensors"))
    assert read_head(str(folder)) is None  # a table of its own


def test_new_rows_are_the_mean_of_the_pieces(config, tmp_path):
    """zebra is cut into z ##e ##b ##r ##a: its row is the mean of theirs, and other texts keep their states."""
    folder, after = str(tmp_path / "e"), str(tmp_path / "m")
    encoder_folders.write(folder, "mean")
    config = dataclasses.replace(config, encoder_dir=folder, new_pieces=2)
    texts = read_texts(config.text, None, config.dev_share, 5)
    trained, vocabulary = start(config, texts)
    assert set(vocabulary.added) == {"zebra", "fever"}
    assert vocabulary.after.num_tokens < vocabulary.before.num_tokens
    tensors = safetensors.numpy.load_file(os.path.join(folder, "model.safetensors"))
    table, before = tensors["embeddings.word_embeddings.weight"], encoder_folders.VOCAB
    new_id = trained.tokenizer.encode_few(["zebra"], 5)[0][1]
    assert new_id >= len(before)
    rows = trained.model.bert.token_embedding.embeddings.numpy()
    expected = table[[before.index(piece) for piece in ("z", "##e", "##b", "##r", "##a")]].mean(axis=0)
    np.testing.assert_allclose(rows[new_id], expected, atol=1e-6)
    np.testing.assert_array_equal(rows[: len(before)], table)
    ids = np.array(trained.tokenizer.encode_few(["what is the query"], 9), np.int32)
    np.testing.assert_allclose(trained.model.bert(ids), load_encoder(folder)[0].bert(ids), atol=1e-6)
    write(trained, after)
    loaded = load_encoder(after)[0]
    ids = np.array(trained.tokenizer.encode_few(["what zebra"], 9), np.int32)
    np.testing.assert_array_equal(loaded.bert(ids), trained.model.bert(ids))
    assert loaded.bert.config == dataclasses.replace(load_encoder(folder)[0].bert.config, vocab_size=len(before) + 2)
    assert load_tokenizer(after).encode_few(["zebra"], 5) == [[2, new_id, 3]]
    report.write(after, config, texts, vocabulary, (1, 1), {"best": {"epoch": 0}, "epochs": [{"epoch": 0}]})
    card = (tmp_path / "m/README.md").read_text(encoding="utf-8")
    assert "2 pieces were added" in card


def test_errors(config, tmp_path):
    folder = tmp_path / "e"
    encoder_folders.write(str(folder), "mean")
    config = dataclasses.replace(config, encoder_dir=str(folder))
    with pytest.raises(ValueError, match="max_tokens is 25; expected at most 24"):
        train(dataclasses.replace(config, max_tokens=25), str(tmp_path / "m"))
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").replace("[MASK]", "[unused1]")
    (folder / "vocab.txt").write_text(lines, encoding="utf-8")
    with pytest.raises(ValueError, match="no mask token"):
        train(config, str(tmp_path / "m"))
    assert not (tmp_path / "m").exists()
    with pytest.raises(ValueError, match="new_pieces is 3 without encoder_dir"):
        dataclasses.replace(config, encoder_dir=None, new_pieces=3)
    with pytest.raises(ValueError, match="chunk_size is 8; expected 0 to 7"):
        dataclasses.replace(config, chunk_size=8)


def test_the_script_takes_this_tasks_defaults():
    code = (
        "import train_gpt2 as script; from absl import flags\n"
        "script._define_flags()\n"
        "flags.FLAGS(['s', '--task=masked_language_model', '--text=a,b', '--encoder_dir=e', '--model_dir=m'])\n"
        "print(script.masked_flags.config() == script.masked_flags.MaskedTraining(('a', 'b'), encoder_dir='e'))\n"
        "flags.FLAGS(['s', '--base_dir=g'])\n"
        "try: script._train_masked(None)\n"
        "except ValueError as error: print(error)\n"
        "flags.FLAGS(['s', '--task=triage', '--mask_share=0.2'])\n"
        "flags.FLAGS['base_dir'].present = 0\n"
        "flags.FLAGS['text'].present = 0\n"
        "try: script._train_triage(None)\n"
        "except ValueError as error: print(error)\n"
    )
    assert run_code(code) == [
        "True",
        "--base_dir is not a flag of --task=masked_language_model. Leave it out.",
        "--mask_share is not a flag of --task=triage. Leave it out.",
    ]
