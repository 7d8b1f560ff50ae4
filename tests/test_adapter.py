"""Fine-tuning a chat model with an adapter: the base stays as it is, and the folder holds the adapter only."""

import csv
import dataclasses
import hashlib
import itertools
import json
import pathlib
import random
import types

import numpy as np
import pytest

from data_pipeline.folders import token_folder
from data_pipeline.folders.token_folder import CONTEXT_ANSWER, TokenRow
from data_pipeline.prompts.answer_prompts import PromptSettings
from data_pipeline.token_rows.grounded_rows import GroundedRows
from docproduct import export as export_script
from docproduct import sample
from docproduct.generation.sampling import GenerationSettings
from docproduct.layers import checkpoints, lora
from docproduct.layers.lora import LoraSettings
from docproduct.systems.generator import TrainedGenerator, load_model, open_session, tokenizer_of
from docproduct.systems.generator.adapter import AdaptedGenerator
from docproduct.systems.generator.config import GeneratorTraining
from docproduct.systems.generator.start import start, training_rows
from docproduct.systems.generator.task import GeneratorTask
from docproduct.systems.generator.train import train
from docproduct.training.settings import TrainingSettings
from tests import llama_folders

PROMPT = PromptSettings(2, 400, 60)
SIZES = llama_folders.CONFIG | {"num_hidden_layers": 1}  # each layer makes training and sessions slower
SETTINGS = TrainingSettings(epochs=1, batch_size=2, learning_rate=1e-2, checkpoint_steps=2, seed=5, precision="float32")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "llama"
    llama_folders.write(path, SIZES)
    return str(path)


@pytest.fixture(scope="module")
def tokens_dir(base, tmp_path_factory):
    """Rows of eight pairs of the sample, the last two for dev."""
    with open(sample.PAIRS_FILE, encoding="utf-8", newline="") as file:
        pairs = [(row["question"], row["answer"]) for row in itertools.islice(csv.DictReader(file), 8)]
    rows = GroundedRows(tokenizer_of(base), PROMPT, 0.5)
    made = [TokenRow(*rows.own(pair, pairs[:2], random.Random(i)), i) for i, pair in enumerate(pairs)]
    path = str(tmp_path_factory.mktemp("tokens") / "rows")
    origin = token_folder.Origin(CONTEXT_ANSWER, {"prompt": dataclasses.asdict(PROMPT)}, {})
    token_folder.write(path, origin, tokenizer_of(base), {"train": made[:6], "dev": made[6:]})
    return path


@pytest.fixture(scope="module")
def config(tokens_dir, base):
    return GeneratorTraining(tokens_dir, base, lora=LoraSettings(rank=2), num_answers=0, settings=SETTINGS)


@pytest.fixture(scope="module")
def trained(config, base, tmp_path_factory):
    path, before = str(tmp_path_factory.mktemp("adapter") / "a"), hashes(base)
    return types.SimpleNamespace(path=path, history=train(config, path), base_before=before)


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in pathlib.Path(folder).iterdir()}


def logits(generator):
    return np.asarray(generator.decoder.logits(generator.decoder(np.array([[5, 6, 7, 300, 9]]))))


def test_the_folder_holds_the_adapter_only(trained, base):
    assert trained.history["best"]["perplexity"] < trained.history["epochs"][0]["perplexity"]
    weights = checkpoints.read_safetensors(trained.path, "weights.safetensors")
    # One layer with four adapted products.
    assert len(weights) == 4 * 2
    assert all(map(lora.is_adapter, weights))
    stored = json.loads((pathlib.Path(trained.path) / "config.json").read_text())
    assert stored["kind"] == "docproduct generator adapter"
    assert stored["base"] == TrainedGenerator.load(base).fingerprint()
    assert stored["prompt"] == dataclasses.asdict(PROMPT)
    assert hashes(base) == trained.base_before


def test_merged_weights_do_what_the_adapter_does(trained, base):
    plain = TrainedGenerator.load(base)
    adapted = AdaptedGenerator.load_on(plain, trained.path)
    merged = load_model(trained.path, base)
    assert np.abs(logits(adapted) - logits(plain)).max() > 1e-3
    np.testing.assert_allclose(logits(merged), logits(adapted), atol=1e-4)
    assert type(merged) is TrainedGenerator
    assert merged.prompt == PROMPT


def test_an_adapter_of_two_layers_in_half_precision_is_half_as_large(tmp_path):
    llama_folders.write(tmp_path / "base")
    plain = TrainedGenerator.load(str(tmp_path / "base"))
    adapted = AdaptedGenerator.adapt(plain, LoraSettings(rank=2), "float32")
    random = np.random.default_rng(0)
    for name, variable in checkpoints.variables_by_name(adapted.decoder).items():
        if lora.is_adapter(name):
            variable.assign(random.normal(0, 0.1, variable.shape))
    assert np.abs(logits(adapted) - logits(plain)).max() > 1e-2
    sizes = []
    for dtype, atol in ((np.float32, 1e-4), (np.float16, 2e-3)):
        folder = tmp_path / np.dtype(dtype).name
        folder.mkdir()
        adapted.save_config(str(folder), {})
        adapted.save_weights(str(folder), dtype)
        stored = checkpoints.read_safetensors(str(folder), "weights.safetensors")
        assert len(stored) == 2 * 4 * 2
        sizes.append(sum(value.nbytes for value in stored.values()))
        np.testing.assert_allclose(logits(load_model(str(folder), str(tmp_path / "base"))), logits(adapted), atol=atol)
    assert sizes[0] == 2 * sizes[1]


def test_a_resumed_run_has_the_losses_of_an_undisturbed_one(config, trained, tmp_path, monkeypatch):
    gradients, steps = GeneratorTask.batches, itertools.count()

    def stopping(self, epoch, skip):
        batches = gradients(self, epoch, skip)
        spec = batches.element_spec

        class Stopped:
            element_spec = spec

            def __iter__(self):
                for batch in batches:
                    if next(steps) == 2:
                        raise KeyboardInterrupt
                    yield batch

        return Stopped()

    path = str(tmp_path / "a")
    monkeypatch.setattr(GeneratorTask, "batches", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(config, path)
    monkeypatch.undo()
    # The checkpoint holds what is trained, its optimizer and the random states: not the base.
    assert (pathlib.Path(path) / "checkpoint.safetensors").stat().st_size < 60_000
    assert train(config, path, resume=True)["losses"] == pytest.approx(trained.history["losses"], abs=1e-6)


def test_an_adapter_is_exported_and_opened_with_its_base(trained, base, tmp_path):
    export_script.export(trained.path, str(tmp_path / "e"), False, None, "float32", base)
    settings, prompts = GenerationSettings(max_tokens=12), [[5, 6, 7, 300, 9]]
    expected = open_session(trained.path, base).write(prompts, settings)
    assert open_session(str(tmp_path / "e")).write(prompts, settings) == expected
    assert export_script.kind_of(trained.path) == "docproduct generator adapter"


def test_what_does_not_fit(trained, base, config, tmp_path):
    with pytest.raises(ValueError, match="holds an adapter. Give the model that it was trained on with --base_dir"):
        open_session(trained.path)
    with pytest.raises(ValueError, match="holds a whole model, and --base_dir is for an adapter"):
        open_session(base, base)
    llama_folders.write(tmp_path / "other", SIZES | {"rope_theta": 2_000.0})
    with pytest.raises(ValueError, match="was trained on another model .fingerprint"):
        load_model(trained.path, str(tmp_path / "other"))
    with pytest.raises(ValueError, match="lora_rank is given without base_dir"):
        dataclasses.replace(config, base_dir=None)
    with pytest.raises(ValueError, match="holds no adapter of format 1"):
        AdaptedGenerator.load_on(TrainedGenerator.load(base), base)


def test_the_dropout_of_a_training_makes_no_other_model(base):
    fingerprints = {TrainedGenerator.load(base, dropout=rate).fingerprint() for rate in (None, 0.0, 0.3)}
    assert len(fingerprints) == 1


def test_a_training_goes_on_from_an_adapter(trained, config):
    further = dataclasses.replace(config, adapter_dir=trained.path)
    started = start(further, training_rows(further))
    adapter = checkpoints.read_safetensors(trained.path, "weights.safetensors")
    variables = checkpoints.variables_by_name(started.decoder)
    assert all((variables[name].numpy() == value).all() for name, value in adapter.items())
    other = dataclasses.replace(further, lora=LoraSettings(rank=2, alpha=3.0))
    with pytest.raises(ValueError, match=r"alpha=16.*received .*alpha=3"):
        start(other, training_rows(other))
    with pytest.raises(ValueError, match="adapter_dir is given without lora_rank"):
        dataclasses.replace(further, lora=LoraSettings())
