"""Training on dialogues: loss of packed rows, folders of two stages, adapters, resuming, and unfit input."""

import dataclasses
import json
import pathlib
import types

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

import train_gpt2
from data_pipeline.corpora.dialogues import DIALOGUES, UNKNOWN_ROLE
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.rows import DIALOGUE
from data_pipeline.token_rows.dialogue_rows import DialogueRow, packed
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.layers.lora import LoraSettings
from docproduct.systems.chat import rows
from docproduct.systems.chat.config import ChatTraining
from docproduct.systems.chat.dev import ReplyEvaluation
from docproduct.systems.chat.task import ChatTask
from docproduct.systems.chat.train import train
from docproduct.systems.generator import TrainedGenerator, load_model, open_session
from docproduct.systems.generator.adapter import AdaptedGenerator
from docproduct.systems.generator.losses import next_token_losses
from docproduct.training import training_flags
from docproduct.training.settings import TrainingSettings
from tests import llama_folders
from tests.test_bert import randomize
from tests.toy_chat import TEMPLATE

SETTINGS = TrainingSettings(
    *(2, 4, 5e-3), warmup_share=0.03, precision="float32", checkpoint_steps=2, seed=5, schedule="cosine"
)


@pytest.fixture(scope="module")
def prepared_dir(tmp_path_factory):
    """Twelve dialogues of one exchange or two to train on, and three as dev; one has a role of its own."""
    folder = tmp_path_factory.mktemp("dialogues")

    def line(i):
        turns = [(f"Does tea help {i} times?", f"Yes, {i} times."), ("Why?", "Nobody knows.")][: 1 + i % 2]
        pairs = [pair for exchange in turns for pair in zip(("user", "assistant"), exchange, strict=True)]
        return json.dumps({"messages": [{"role": role, "content": text} for role, text in pairs]})

    (folder / "train.jsonl").write_text("\n".join(map(line, range(12))) + '\n{"messages": [{"role": "tool"}]}\n')
    (folder / "dev.jsonl").write_text("\n".join(map(line, range(12, 15))))
    settings = PrepareSettings(
        (str(folder / "train.jsonl"),), dev_inputs=(str(folder / "dev.jsonl"),), dev_share=0.0, num_shards=1
    )
    manifest = prepare(settings, str(folder / "out"), num_workers=0, reader=DIALOGUES)
    assert list(manifest["refused"]) == [UNKNOWN_ROLE]
    return str(folder / "out")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "llama"
    llama_folders.write(path, llama_folders.CONFIG | {"num_hidden_layers": 1}, template=TEMPLATE)
    return str(path)


@pytest.fixture(scope="module")
def config(prepared_dir, base):
    return ChatTraining(prepared_dir, base, window=96, num_answers=0, settings=SETTINGS)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The whole model, trained on packed rows."""
    path = str(tmp_path_factory.mktemp("whole") / "chat")
    packing = dataclasses.replace(config, packed=True, window=200, settings=dataclasses.replace(SETTINGS, batch_size=2))
    packing = dataclasses.replace(packing, num_answers=1)
    return types.SimpleNamespace(path=path, config=packing, history=train(packing, path))


@pytest.fixture(scope="module")
def adapter(config, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("adapter") / "a")
    lora = dataclasses.replace(config, lora=LoraSettings(rank=2))
    return types.SimpleNamespace(path=path, config=lora, history=train(lora, path))


def logits(generator):
    return np.asarray(generator.decoder.logits(generator.decoder(np.array([[5, 6, 7, 300, 9]]))))


def random_rows(vocab_size):
    random = np.random.default_rng(2)
    made = []
    for size in (3, 9, 5, 2, 12, 7):
        learned = np.arange(size) > random.integers(0, size - 1)
        made.append(DialogueRow(random.integers(0, vocab_size, size), np.ones(size, np.int32), learned))
    return made


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_packed_equals_unpacked(name, base, bpe):
    """Each learned token has its loss, to 1e-5, and so has the whole batch and its gradients."""
    sizes = GPT2Config(280, width=12, num_layers=2, num_heads=3, max_positions=16, dropout=0.0, attention_dropout=0.0)
    generator = TrainedGenerator.load(base) if name == "llama" else TrainedGenerator.make(sizes, bpe)
    randomize(generator.decoder)
    unpacked = random_rows(280)
    windows = packed(unpacked, 16)
    assert len(windows) < len(unpacked)
    found = []
    for several in (unpacked, windows):
        batch = rows.batch_of(several)
        losses, places = next_token_losses(generator.decoder, rows.tokens_of(batch))
        ids = tf.gather_nd(batch["ids"], places).numpy()
        found.append(np.array(sorted(zip(ids.tolist(), losses.numpy().tolist(), strict=True))))
    assert len(found[0]) == sum(int(row.learned.sum()) for row in unpacked)
    np.testing.assert_allclose(found[1], found[0], atol=1e-5, rtol=1e-5)


def test_the_loss_is_the_mean_over_the_replies_tokens(config, whole):
    prepared = PreparedFolder(config.prepared_dir, DIALOGUE)
    generator = TrainedGenerator.load(config.base_dir)
    train_rows, dev_rows = (rows.read(prepared, split, generator.tokenizer, 96, config) for split in ("train", "dev"))
    task = ChatTask(config, prepared, generator, train_rows, dev_rows, "")
    (first, *_), num_rows = task.batches(0, 0), config.settings.batch_size
    total, gradients = task.gradients(first, tf.identity)
    # By hand: the log-likelihood of each learned token from the logits of the row alone.
    nats = []
    for ids, learned in zip(first["ids"].numpy(), first["learned"].numpy(), strict=True):
        row = np.array([ids[ids >= 0]])
        values = np.asarray(generator.decoder.logits(generator.decoder(row)), np.float64)[0]
        log_probs = values - np.log(np.exp(values).sum(axis=-1, keepdims=True))
        nats += [-log_probs[i - 1, row[0, i]] for i in range(1, row.shape[1]) if learned[i]]
    assert float(total) / num_rows == pytest.approx(np.mean(nats), rel=1e-5)
    task._chunk_size = 3
    in_chunks, of_chunks = task.gradients(first, tf.identity)
    assert float(in_chunks) == pytest.approx(float(total), rel=1e-5)
    for expected, gradient in zip(gradients, of_chunks, strict=True):
        np.testing.assert_allclose(gradient, expected, atol=1e-4)
    # Perplexity on dev, over all learned tokens of all rows alike.
    scores = ReplyEvaluation(generator, dev_rows.rows)()
    assert scores["perplexity"] == pytest.approx(whole.history["epochs"][0]["perplexity"], rel=1e-5)
    losses, _ = next_token_losses(generator.decoder, rows.tokens_of(rows.batch_of(dev_rows.rows)))
    assert scores["perplexity"] == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)


def test_the_folder_is_that_of_a_generator(whole, base):
    assert whole.history["best"]["perplexity"] < 0.9 * whole.history["epochs"][0]["perplexity"]
    folder = pathlib.Path(whole.path)
    stored = json.loads((folder / "config.json").read_text())
    assert stored["kind"] == "docproduct generator"
    assert stored["training"]["settings"]["schedule"] == "cosine"
    card = (folder / "README.md").read_text()
    assert "nothing it writes is medical advice" in card
    assert "* train: 12 dialogues in " in card
    assert "## Replies to dev dialogues" in card
    assert "Does tea help" in card
    assert np.abs(logits(load_model(whole.path)) - logits(TrainedGenerator.load(base))).max() > 1e-3
    session = open_session(whole.path)
    assert session.tokenizer.chat_template == TEMPLATE


def test_the_second_stage_begins_where_the_first_ended(whole, config, tmp_path):
    further = dataclasses.replace(config, base_dir=whole.path, settings=dataclasses.replace(SETTINGS, epochs=1))
    history = train(further, str(tmp_path / "second"))
    assert history["epochs"][0]["perplexity"] == pytest.approx(whole.history["best"]["perplexity"], rel=1e-4)


def test_an_adapter_and_the_merged_model_do_the_same(adapter, base, config, tmp_path):
    assert adapter.history["best"]["perplexity"] < adapter.history["epochs"][0]["perplexity"]
    assert "Replies to dev" not in (pathlib.Path(adapter.path) / "README.md").read_text()
    assert (
        json.loads((pathlib.Path(adapter.path) / "config.json").read_text())["kind"] == "docproduct generator adapter"
    )
    adapted = AdaptedGenerator.load_on(TrainedGenerator.load(base), adapter.path)
    merged = load_model(adapter.path, base)
    np.testing.assert_allclose(logits(merged), logits(adapted), atol=1e-4)
    assert np.abs(logits(merged) - logits(TrainedGenerator.load(base))).max() > 1e-3
    prepared = PreparedFolder(config.prepared_dir, DIALOGUE)
    dev = rows.read(prepared, "dev", merged.tokenizer, 96, config)
    assert ReplyEvaluation(merged, dev.rows)()["perplexity"] == pytest.approx(
        adapter.history["best"]["perplexity"], 1e-3
    )
    further = dataclasses.replace(adapter.config, adapter_dir=adapter.path)
    history = train(further, str(tmp_path / "second"))
    assert history["epochs"][0]["perplexity"] == pytest.approx(adapter.history["best"]["perplexity"], rel=1e-4)
    with pytest.raises(
        ValueError, match="holds an adapter. Give its model with --base_dir, and go on .* --adapter_dir"
    ):
        train(dataclasses.replace(config, base_dir=adapter.path), str(tmp_path / "third"))


def test_a_resumed_run_has_the_losses_of_an_undisturbed_one(whole, tmp_path, monkeypatch):
    made, config = rows.epoch_batches, dataclasses.replace(whole.config, num_answers=0)

    def dying(several, batch_size, seed, epoch, skip):
        for number, batch in enumerate(made(several, batch_size, seed, epoch, skip)):
            if (epoch, number) == (1, 1):
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(rows, "epoch_batches", dying)
    with pytest.raises(KeyboardInterrupt):
        train(config, str(tmp_path / "a"))
    monkeypatch.undo()
    resumed = train(config, str(tmp_path / "a"), resume=True)
    assert resumed["losses"] == pytest.approx(whole.history["losses"], abs=1e-6)
    assert resumed["best"]["perplexity"] == pytest.approx(whole.history["best"]["perplexity"], rel=1e-5)
    with pytest.raises(ValueError, match="cannot be resumed with other settings: system_prompt was '', is 'Be brief.'"):
        train(dataclasses.replace(config, system_prompt="Be brief."), str(tmp_path / "a"), resume=True)


def test_unfit_input_is_told(config, base, tmp_path, prepared):
    path = str(tmp_path / "a")
    with pytest.raises(ValueError, match="window is 300000; expected at most 131072"):
        train(dataclasses.replace(config, window=300_000), path)
    with pytest.raises(ValueError, match="adapter_dir is given without lora_rank"):
        dataclasses.replace(config, adapter_dir=path)
    with pytest.raises(ValueError, match="docproduct prepared pairs.*expected .*docproduct prepared dialogues"):
        train(dataclasses.replace(config, prepared_dir=prepared.path), path)
    with pytest.raises(
        ValueError, match=r"None of 12 train dialogues in .* can be learned: .*leaves no room for a reply"
    ):
        train(dataclasses.replace(config, window=8), path)
    refusing = "{{ raise_exception('No conversations.') }}" + TEMPLATE
    llama_folders.write(tmp_path / "refusing", llama_folders.CONFIG | {"num_hidden_layers": 1}, template=refusing)
    with pytest.raises(ValueError, match="can be learned: .*the chat template refuses .* No conversations"):
        train(dataclasses.replace(config, base_dir=str(tmp_path / "refusing")), path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "refusing" / name).unlink()
    with pytest.raises(FileNotFoundError, match="tokenizer"):
        train(dataclasses.replace(config, base_dir=str(tmp_path / "refusing")), path)
    assert not pathlib.Path(path).exists()


def test_the_flags(prepared_dir, base, monkeypatch):
    values = flags.FlagValues()
    for module in (train_gpt2, training_flags):
        monkeypatch.setattr(module.flags, "FLAGS", values)
    for define in [name for name in dir(flags) if name.startswith("DEFINE_")]:
        made = getattr(flags, define)
        monkeypatch.setattr(flags, define, lambda *a, made=made, **k: made(*a, **{"flag_values": values} | k))
    train_gpt2._define_flags()
    given = ["--task=chat", f"--prepared_dir={prepared_dir}", f"--base_dir={base}", "--model_dir=m", "--lora_rank=4"]
    values(["train_gpt2.py", *given, "--window=64", "--system_prompt=Be brief.", "--batch_size=8", "--packed"])
    found = train_gpt2.chat_flags.config()
    published = TrainingSettings(3, 8, 2e-5, 0.03, schedule="cosine")
    expected = ChatTraining(prepared_dir, base, LoraSettings(4), None, 64, "Be brief.", True, settings=published)
    assert found == expected
