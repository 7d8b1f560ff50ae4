"""Training with JAX: losses on one, two and four devices are TensorFlow's; what is cut, folders, resuming, errors."""

import dataclasses
import json
import os
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.corpora.dialogues import DIALOGUES
from data_pipeline.folders.token_folder import TokenFolder
from data_pipeline.prepare import PrepareSettings, prepare
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.layers.lora import LoraSettings
from docproduct.systems.chat.config import ChatTraining
from docproduct.systems.chat.train import train
from docproduct.systems.generator import TrainedGenerator, load_model
from docproduct.systems.generator.config import GeneratorTraining
from docproduct.systems.generator.train import train as train_on_windows
from docproduct.training.settings import TrainingSettings
from tests import commands, llama_folders
from tests.toy_chat import TEMPLATE

pytestmark = pytest.mark.long  # a process that compiles a dozen trainings

IDS = [[5, 6, 7, 300, 9]]
UNFIT = {
    "too many": (
        ["--mesh=data=2,model=4"],
        "--mesh=data=2,model=4 needs 8 devices; there are 4 (cpu:0, ",
    ),
    "unknown axis": (["--mesh=rows=2"], "has the axis 'rows'. Expected, for example, data=2,model=2"),
    "no number": (["--mesh=data=two"], "has 'two' devices along data."),
    "twice": (["--mesh=data=2,data=2"], "has twice the axis 'data'."),
    "strategy": (["--strategy=mirrored"], "--strategy=mirrored is TensorFlow's. With --engine=jax, give --mesh"),
    "task": (["--task=triage"], "--engine=jax trains context_answer, closed_book, language_model, chat, not triage."),
    "rows": (["--mesh=data=4", "--batch_size=6"], "6 rows are read at a time, which 4 devices along the axis data"),
    "chunks": (["--mesh=data=4", "--batch_size=8", "--chunk_size=2"], "2 rows are read at a time, which 4 devices"),
}


def config_of(folder):
    settings = TrainingSettings(1, 4, 5e-3, 0.03, precision="float32", checkpoint_steps=2, seed=5, schedule="cosine")
    inputs = str(folder / "prepared"), str(folder / "base")
    return ChatTraining(*inputs, window=64, dropout=0.0, num_answers=0, settings=settings)


def windows_config(folder, windows_dir):
    tf.random.set_seed(1)  # as the script does: the order of rows of a token folder depends on it
    settings = TrainingSettings(1, 4, 5e-3, precision="float32", max_steps=3)
    return GeneratorTraining(windows_dir, str(folder / "gpt2"), dropout=0.0, num_answers=0, settings=settings)


def write_inputs(folder, windows_dir):
    """Fourteen dialogues, of which the last batch of four has two, and models of one layer."""

    def line(i):
        turns = zip(("user", "assistant"), (f"Does tea help {i} times?", f"Yes, {i} times."), strict=True)
        return json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]})

    (folder / "train.jsonl").write_text("\n".join(map(line, range(14))))
    (folder / "dev.jsonl").write_text("\n".join(map(line, range(14, 17))))
    inputs = {"inputs": (str(folder / "train.jsonl"),), "dev_inputs": (str(folder / "dev.jsonl"),)}
    settings = PrepareSettings(**inputs, dev_share=0.0, num_shards=1)
    prepare(settings, str(folder / "prepared"), num_workers=0, reader=DIALOGUES)
    sizes = {"num_hidden_layers": 1, "intermediate_size": 24, "attention_dropout": 0.3}
    llama_folders.write(folder / "base", llama_folders.CONFIG | sizes, template=TEMPLATE)
    tokenizer = TokenFolder(windows_dir).tokenizer()
    gpt2 = GPT2Config(tokenizer.vocab_size, width=12, num_layers=1, num_heads=3, max_positions=40)
    TrainedGenerator.make(gpt2, tokenizer).save(str(folder / "gpt2"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, windows_dir):
    """What jax_runs.py writes, and the same training with TensorFlow."""
    folder = tmp_path_factory.mktemp("runs")
    write_inputs(folder, windows_dir)
    # What is compiled here runs a few times only: compiling fast matters more.
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    environment = os.environ | {"KERAS_BACKEND": "jax", "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "tests.jax_runs", str(folder), windows_dir]
    done = subprocess.run(command, env=environment, cwd=commands.TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    history = train(config_of(folder), str(folder / "tensorflow"))
    windows = train_on_windows(windows_config(folder, windows_dir), str(folder / "windows"))
    results = json.loads((folder / "results.json").read_text())
    return types.SimpleNamespace(folder=folder, tensorflow=history, windows=windows, jax=results)


def logits(model):
    return np.asarray(model.decoder.logits(model.decoder(np.array(IDS))))


@pytest.mark.parametrize("devices", ["data=1", "data=2", "model=2", "data=2,model=2"])
def test_each_step_has_tensorflows_loss(runs, devices):
    """On two devices that share weights, also with gradients of chunks added up, and layers computed again."""
    assert len(runs.tensorflow["losses"]) == 4
    np.testing.assert_allclose(runs.jax[devices]["losses"], runs.tensorflow["losses"], atol=1e-4)
    for epoch, expected in zip(runs.jax[devices]["epochs"], runs.tensorflow["epochs"], strict=True):
        assert epoch["perplexity"] == pytest.approx(expected["perplexity"], rel=1e-4)
        assert epoch["byte_perplexity"] == pytest.approx(expected["byte_perplexity"], rel=1e-4)


def test_gpt2_on_windows_of_texts(runs):
    """Four devices; rows come from a token folder, and hold several texts."""
    assert len(runs.windows["losses"]) == 3
    np.testing.assert_allclose(runs.jax["windows"]["losses"], runs.windows["losses"], atol=1e-4)
    expected = runs.windows["best"]["perplexity"]
    assert runs.jax["windows"]["best"]["perplexity"] == pytest.approx(expected, rel=1e-4)


def test_the_script(runs):
    status, out, log = runs.jax["script"]
    assert (status, json.loads(out)["step"]) == (0, 4), log
    config = json.loads((runs.folder / "data" / "config.json").read_text())
    assert config["training"]["num_answers"] == 0
    assert config["versions"]["jax"]


def test_weights_and_moments_are_cut(runs):
    """Four devices, two along each axis: a matrix and its two moments have halves, each on two devices."""
    parts = runs.jax["parts"]
    assert all(len(shards) == 4 for _, shards in parts.values())
    matrices = {path: shapes for path, shapes in parts.items() if len(shapes[0]) == 2}
    assert len(matrices) == 3 * 6
    for whole, shards in matrices.values():
        assert {np.prod(whole) / np.prod(shard) for shard in shards} == {2}
    assert parts["llama/layer_0/attention/query_key_value/kernel"] == [[16, 48], [[16, 24]] * 4]
    assert parts["llama/layer_0/attention/output/kernel"] == [[24, 16], [[12, 16]] * 4]


def test_a_folder_of_jax_is_tensorflows(runs):
    both = load_model(str(runs.folder / "both"))
    np.testing.assert_allclose(logits(both), runs.jax["logits"], atol=1e-4)
    np.testing.assert_allclose(logits(both), logits(load_model(str(runs.folder / "tensorflow"))), atol=1e-3)
    base = load_model(str(runs.folder / "base"))
    assert np.abs(logits(both) - logits(base)).max() > 0.01
    adapted = load_model(str(runs.folder / "adapter"), str(runs.folder / "base"))
    assert np.abs(logits(adapted) - logits(base)).max() > 0.01


def test_a_checkpoint_of_four_devices_is_whole(runs):
    """TensorFlow goes on from it, on one device."""
    history = train(config_of(runs.folder), str(runs.folder / "killed"), resume=True)
    np.testing.assert_allclose(history["losses"], runs.tensorflow["losses"], atol=1e-4)
    assert history["losses"][:2] == runs.jax["data=2,model=2"]["losses"][:2]


def test_a_resumed_run_has_the_losses_of_an_undisturbed_one(runs):
    """An adapter, with dropout and chunks; layers are computed again before it is killed only, with the same masks."""
    np.testing.assert_allclose(runs.jax["resumed"]["losses"], runs.jax["adapter"]["losses"], atol=1e-5)
    config = dataclasses.replace(config_of(runs.folder), lora=LoraSettings(4))
    still = train(config, str(runs.folder / "still"))
    assert np.abs(np.subtract(still["losses"], runs.jax["adapter"]["losses"])).min() > 1e-4  # dropout acts


@pytest.mark.parametrize("name", UNFIT)
def test_unfit_flags_are_told_before_anything_is_written(runs, name):
    assert UNFIT[name][1] in runs.jax["errors"][name]
    assert not runs.jax["never"]
