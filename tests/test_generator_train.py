"""Training of the generator, on tiny models and texts."""

import dataclasses
import json
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import splits
from data_pipeline.folders import token_folder
from data_pipeline.folders.token_folder import CONTEXT_ANSWER, TokenFolder
from data_pipeline.prompts import answer_prompts
from data_pipeline.prompts.answer_prompts import PromptSettings, with_markers
from data_pipeline.token_rows.pair_rows import PairRows, write_closed_book
from data_pipeline.tokenizers import train_byte_pairs
from docproduct.generation.export import export as export_generator
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import GenerationSession
from docproduct.layers import checkpoints
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.generator.config import GeneratorTraining
from docproduct.systems.generator.dev import DevEvaluation, read_rows
from docproduct.systems.generator.start import start
from docproduct.systems.generator.task import GeneratorTask
from docproduct.systems.generator.train import train
from docproduct.training import loop
from docproduct.training.settings import TrainingSettings

SIZES = GPT2Config(width=16, num_layers=1, num_heads=2, max_positions=48)
SETTINGS = TrainingSettings(epochs=2, batch_size=8, learning_rate=1e-2, checkpoint_steps=2, seed=5, precision="float32")


@pytest.fixture(scope="module")
def pairs_dir(prepared, bpe, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("tokens") / "pairs")
    write_closed_book(path, prepared, bpe, PromptSettings(0, 48, 24))
    return path


@pytest.fixture(scope="module")
def contexts_dir(prepared, bpe, tmp_path_factory):
    """In each prompt two other pairs of its split stand before the question."""
    path, settings, tokenizer = (
        str(tmp_path_factory.mktemp("tokens") / "c"),
        PromptSettings(2, 120, 16),
        with_markers(bpe),
    )
    maker, pairs = PairRows(tokenizer, settings), prepared.table(["pair_id", "question", "answer", "split"]).to_pylist()
    of_split = {}
    for split in splits.SPLITS:
        own = [tuple(pair.values())[:3] for pair in pairs if pair["split"] == split]
        of_split[split] = [
            maker.row(*pair, [own[i - 1][1:], own[i - 2][1:]]) for i, pair in enumerate(own) if len(own) > 2
        ]
    settings = {"prompt": dataclasses.asdict(settings)}
    origin = token_folder.Origin(CONTEXT_ANSWER, settings, {})
    token_folder.write(path, origin, tokenizer, of_split, shortened=maker.counts)
    return path


@pytest.fixture(scope="module")
def config(pairs_dir):
    return GeneratorTraining(pairs_dir, random_gpt2=SIZES, num_answers=3, settings=SETTINGS)


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("models") / "pairs")
    return path, train(config, path)


def weights(path):
    return checkpoints.read_safetensors(path, "weights.safetensors")


def test_a_model_folder(trained, config):
    path, history = trained
    assert history["epochs"][-1]["perplexity"] < history["epochs"][0]["perplexity"]
    assert set(os.listdir(path)) >= {
        *("config.json", "weights.safetensors", "metrics.json", "learning_curve.png", "README.md"),
        *("vocab.json", "merges.txt", "tokenizer_config.json"),
    }
    loaded = TrainedGenerator.load(path)
    assert loaded.prompt == PromptSettings(0, 48, 24)
    assert loaded.end_ids == [loaded.tokenizer.added["<end>"]]
    folder = TokenFolder(config.tokens_dir)
    found = DevEvaluation(loaded, read_rows(folder, "dev"), folder.rows, 3)()
    for name in ("perplexity", "byte_perplexity", "ROUGE-L"):
        assert found[name] == pytest.approx(history["best"][name], rel=1e-4)
    card = pathlib.Path(path, "README.md").read_text(encoding="utf-8")
    for text in ("medical advice", "closed_book", "perplexity", "(kept)", "what is"):
        assert text in card


def test_perplexity_by_hand(trained, config):
    path, _ = trained
    loaded = TrainedGenerator.load(path)
    rows = read_rows(TokenFolder(config.tokens_dir), "dev")
    nats, num_bytes = [], 0
    for row in rows:
        ids = np.array([[*row.prompt_ids, *row.target_ids]])
        logits = np.asarray(loaded.decoder.logits(loaded.decoder(ids)), np.float64)[0]
        log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        nats += [-log_probs[i - 1, ids[0, i]] for i in range(len(row.prompt_ids), ids.shape[1])]
        num_bytes += len(loaded.tokenizer.decode(row.target_ids).encode())
    found = DevEvaluation(loaded, rows, "closed_book")()
    assert found == pytest.approx(
        {"perplexity": np.exp(np.mean(nats)), "byte_perplexity": np.exp(sum(nats) / num_bytes)}, rel=1e-4
    )


def test_what_is_exported_writes_what_the_model_writes(trained, tmp_path):
    loaded = TrainedGenerator.load(trained[0])
    export_generator(loaded, str(tmp_path / "e"))
    exported, live = GenerationSession.load(str(tmp_path / "e")), GenerationSession.of(loaded)
    asked = [answer_prompts.answer_prompt(loaded.tokenizer, loaded.prompt, f"what is a{i}?").ids for i in range(3)]
    settings = GenerationSettings(max_tokens=20)
    first, second = (writer.write(asked, settings) for writer in (exported, live))
    assert first == second
    assert exported.prompt == live.prompt == loaded.prompt
    assert not any(loaded.end_ids[0] in row[0].ids for row in first)
    chosen = dataclasses.replace(settings, temperature=1.0, seed=3)
    assert exported.write(asked, chosen) == live.write(asked, chosen)


def test_a_resumed_run_has_the_losses_of_an_undisturbed_one(config, trained, tmp_path, monkeypatch):
    path, history = trained
    model_dir = str(tmp_path / "m")
    real = loop.step_function

    def failing(*arguments):
        step, count = real(*arguments), iter(range(10**6))

        def stopping(batch):
            if next(count) == 3:  # after a checkpoint, within an epoch
                raise KeyboardInterrupt
            return step(batch)

        return stopping

    with monkeypatch.context() as patched:
        patched.setattr(loop, "step_function", failing)
        with pytest.raises(KeyboardInterrupt):
            train(config, model_dir)
    pathlib.Path(model_dir, "weights.safetensors.1.partial").write_text("half")  # as a kill leaves it
    found = train(config, model_dir, resume=True)
    assert not [name for name in os.listdir(model_dir) if name.endswith(".partial")]
    np.testing.assert_allclose(found["losses"], history["losses"], atol=1e-6)
    for name, value in weights(path).items():
        np.testing.assert_allclose(weights(model_dir)[name], value, atol=1e-5)
    other = dataclasses.replace(config, dropout=0.4)
    with pytest.raises(ValueError, match="cannot be resumed with other settings"):
        train(other, model_dir, resume=True)


@pytest.mark.long
def test_accumulation_recomputation_and_a_strategy_give_the_same_curve(config, contexts_dir, tmp_path):
    still = dataclasses.replace(
        config,
        tokens_dir=contexts_dir,
        random_gpt2=dataclasses.replace(SIZES, max_positions=120),
        dropout=0.0,
        settings=dataclasses.replace(SETTINGS, epochs=1),
    )
    plain = train(still, str(tmp_path / "plain"))["losses"]
    for name, changed in (("chunks", {"chunk_size": 3}), ("recompute", {"recompute": True})):
        found = train(dataclasses.replace(still, **changed), str(tmp_path / name))["losses"]
        np.testing.assert_allclose(found, plain, atol=1e-5)
    mirrored = train(still, str(tmp_path / "mirrored"), strategy=tf.distribute.MirroredStrategy(["/cpu:0"]))
    np.testing.assert_allclose(mirrored["losses"], plain, atol=1e-5)


def test_training_reads_each_packed_document_by_itself(config, windows_dir):
    config = dataclasses.replace(config, tokens_dir=windows_dir, dropout=0.0)
    folder = TokenFolder(windows_dir)
    task = GeneratorTask(config, folder, start(config, folder), None, "")
    batch = next(iter(task.batches(0, 0)))
    assert task.end_id == folder.tokenizer().end_id
    assert (batch["target_ids"][:, 1:-1].numpy() == task.end_id).any()  # several stand in a window
    apart = float(task.gradients(batch, tf.identity)[0])
    task.end_id = None
    assert apart != pytest.approx(float(task.gradients(batch, tf.identity)[0]), rel=1e-5)


def test_a_run_of_an_earlier_version_is_resumed(config, tmp_path, monkeypatch):
    """Settings that this version no longer has are left out where they changed nothing, and named where they did."""
    monkeypatch.setattr(loop, "fit", lambda *_: {"best": {}})
    train(config, str(tmp_path))
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text())
    stored["training"] |= {"copying": False, "pointer": False, "pairs_apart": False}
    stored["training"]["random_gpt2"] |= {"pointer": False, "segment_token": None}
    del stored["training"]["num_buckets"]
    begun = start(config, TokenFolder(config.tokens_dir))
    sizes = dataclasses.asdict(begun.decoder.config) | {"pointer": False, "segment_token": None}
    described = json.dumps(sizes, sort_keys=True), begun.tokenizer.fingerprint
    stored["start"] = checkpoints.fingerprint(begun.decoder, *described)
    path.write_text(json.dumps(stored))
    changed = dataclasses.replace(config, num_answers=1, recompute=True)  # they change no results
    train(changed, str(tmp_path), resume=True)
    stored["training"]["pointer"] = True
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="does not know: pointer"):
        train(config, str(tmp_path), resume=True)


def test_language_model_then_pairs(prepared, windows_dir, tmp_path):
    first = str(tmp_path / "lm")
    history = train(GeneratorTraining(windows_dir, random_gpt2=SIZES, settings=SETTINGS), first)
    assert history["best"]["perplexity"] < history["epochs"][0]["perplexity"]
    assert "ROUGE-L" not in history["best"]
    before = TrainedGenerator.load(first)
    assert before.prompt is None
    assert before.end_ids == [before.tokenizer.end_id]
    pairs = str(tmp_path / "pairs")
    write_closed_book(pairs, prepared, before.tokenizer, PromptSettings(0, 48, 24))
    config = GeneratorTraining(pairs, first, num_answers=2, settings=SETTINGS)
    begun = start(config, TokenFolder(pairs))
    table, old = (np.asarray(found.decoder.token_embedding.embeddings) for found in (begun, before))
    np.testing.assert_array_equal(table[: len(old)], old)
    np.testing.assert_allclose(table[len(old) :], np.tile(old.mean(axis=0), (3, 1)), atol=1e-6)
    states = np.zeros((1, 2), int)
    np.testing.assert_allclose(begun.decoder(states), before.decoder(states), atol=1e-6)
    train(config, str(tmp_path / "answers"))
    card = (tmp_path / "answers/README.md").read_text(encoding="utf-8")
    assert "before training" in card
    # To what answers already, nothing is added.
    again = start(dataclasses.replace(config, base_dir=str(tmp_path / "answers")), TokenFolder(pairs))
    assert again.tokenizer.fingerprint == begun.tokenizer.fingerprint
    assert again.decoder.config == begun.decoder.config


def test_rows_that_stand_behind_a_published_table_are_taken_for_the_markers(pairs_dir, bpe, tmp_path):
    """As in BioMedLM, whose table has more rows than its tokenizer has tokens."""
    TrainedGenerator.make(dataclasses.replace(SIZES, vocab_size=320), bpe).save(str(tmp_path / "wide"))
    begun = start(GeneratorTraining(pairs_dir, str(tmp_path / "wide")), TokenFolder(pairs_dir))
    assert begun.decoder.config.vocab_size == 320
    table = np.asarray(begun.decoder.token_embedding.embeddings)
    np.testing.assert_allclose(table[bpe.vocab_size], table[: bpe.vocab_size].mean(axis=0), atol=1e-6)


def test_wrong_input(config, pairs_dir, windows_dir, prepared, bpe, tmp_path):
    small = dataclasses.replace(config, random_gpt2=dataclasses.replace(SIZES, max_positions=40))
    with pytest.raises(ValueError, match="window of 48 tokens; this model has 40 positions"):
        train(small, str(tmp_path / "m"))
    TrainedGenerator.make(dataclasses.replace(SIZES, vocab_size=270), train_byte_pairs(["other"], 270)).save(
        str(tmp_path / "other")
    )
    with pytest.raises(ValueError, match="made with another vocabulary than that of"):
        train(dataclasses.replace(config, base_dir=str(tmp_path / "other")), str(tmp_path / "m"))
    with pytest.raises(ValueError, match="chunk_size is 9; expected 0 to 8"):
        dataclasses.replace(config, chunk_size=9)
    with pytest.raises(ValueError, match="dropout is 1"):
        dataclasses.replace(config, dropout=1)
    with pytest.raises(ValueError, match="prompt_weight is 1.5; expected 0 to 1"):
        dataclasses.replace(config, prompt_weight=1.5)
    with pytest.raises(ValueError, match="num_answers is -1"):
        dataclasses.replace(config, num_answers=-1)
    with pytest.raises(ValueError, match="has no dev pairs. Prepare it again"):
        write_closed_book(str(tmp_path / "no_dev"), _without_dev(prepared), bpe, PromptSettings(0, 48, 24))
    rows = {"train": read_rows(TokenFolder(pairs_dir), "dev")}
    token_folder.write(str(tmp_path / "no_dev"), token_folder.Origin("closed_book", {}, {}), bpe, rows)
    with pytest.raises(ValueError, match="has no dev rows"):
        train(dataclasses.replace(config, tokens_dir=str(tmp_path / "no_dev")), str(tmp_path / "m"))
    assert not (tmp_path / "m").exists()


def _without_dev(prepared):
    class Train:
        path = prepared.path

        def fingerprint(self):
            return prepared.fingerprint()

        def table(self, columns):
            table = prepared.table(columns)
            names = (
                ["test" if name == "dev" else name for name in table["split"].to_pylist()] if "split" in columns else []
            )
            return table.set_column(columns.index("split"), "split", [names]) if names else table

    return Train()
