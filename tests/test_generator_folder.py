"""Folders of generators, in our layout and in those of others."""

import csv
import json

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from data_pipeline.tokenizers import train_byte_pairs
from docproduct import sample
from docproduct.layers import checkpoints
from docproduct.layers.gpt2_config import GPT2Config, openai_sources
from docproduct.systems.generator import TrainedGenerator


@pytest.fixture(scope="module")
def generator():
    with open(sample.PAIRS_FILE, encoding="utf-8", newline="") as file:
        bpe = train_byte_pairs([row["answer"] for row in csv.DictReader(file)], 600)
    sizes = {"width": 32, "num_layers": 1, "num_heads": 2, "max_positions": 64, "initializer_range": 0.3}
    return TrainedGenerator.make(GPT2Config(vocab_size=bpe.vocab_size, **sizes), bpe, seed=1)


def test_folders(generator, tmp_path):
    ids = np.array([[1, 2, 3, 4]])
    expected = generator.decoder(ids)
    generator.save(str(tmp_path / "own"))
    generator.save_hugging_face(str(tmp_path / "hf"))
    # transformers writes names without a prefix, causal masks and the head; large models in several files.
    (tmp_path / "parts").mkdir()
    tensors = safetensors.numpy.load_file(tmp_path / "hf/model.safetensors")
    tensors = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    tensors |= {"h.0.attn.bias": np.ones((1, 1, 64, 64), bool), "lm_head.weight": tensors["wte.weight"]}
    names = sorted(tensors)
    parts = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for name, part in parts.items():
        safetensors.numpy.save_file({key: tensors[key] for key in part}, tmp_path / "parts" / name)
    weight_map = {key: name for name, part in parts.items() for key in part}
    (tmp_path / "parts/model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for name in ("config.json", "vocab.json", "merges.txt"):
        (tmp_path / "parts" / name).write_text((tmp_path / "hf" / name).read_text())
    write_openai(tmp_path / "openai", generator)
    for name in ("own", "hf", "parts", "openai"):
        found = TrainedGenerator.load(str(tmp_path / name))
        np.testing.assert_array_equal(found.decoder(ids), expected)
        assert found.tokenizer.fingerprint == generator.tokenizer.fingerprint
    changed = TrainedGenerator.load(str(tmp_path / "own"), dropout=0.0)
    assert changed.decoder.config.dropout == 0.0


def test_a_folder_of_an_earlier_version(generator, tmp_path):
    """Its config.json has fields for a pointer and for segments; only a model without them can be read."""
    folder = tmp_path / "own"
    generator.save(str(folder))
    stored = json.loads((folder / "config.json").read_text())["gpt2"]
    rewrite(folder, gpt2=stored | {"pointer": False, "segment_token": None})
    found = TrainedGenerator.load(str(folder))
    assert found.decoder.config == generator.decoder.config
    np.testing.assert_array_equal(found.decoder(np.array([[1, 2, 3]])), generator.decoder(np.array([[1, 2, 3]])))
    for former in ({"pointer": True, "segment_token": None}, {"pointer": True, "segment_token": 3}):
        rewrite(folder, gpt2=stored | former)
        with pytest.raises(ValueError, match="own has a pointer, .* This version has no pointer.* Train .* again"):
            TrainedGenerator.load(str(folder))
    rewrite(folder, gpt2=stored | {"rotary": True})
    with pytest.raises(ValueError, match="config.json has settings that this version does not know: rotary"):
        TrainedGenerator.load(str(folder))


def write_openai(folder, generator):
    folder.mkdir()
    config = generator.decoder.config
    hparams = {"n_vocab": config.vocab_size, "n_ctx": config.max_positions, "n_embd": config.width}
    hparams |= {"n_head": config.num_heads, "n_layer": config.num_layers}
    (folder / "hparams.json").write_text(json.dumps(hparams))
    generator.tokenizer.save(str(folder))
    (folder / "vocab.json").rename(folder / "encoder.json")
    (folder / "merges.txt").rename(folder / "vocab.bpe")
    values = {name: variable.numpy() for name, variable in checkpoints.variables_by_name(generator.decoder).items()}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for ours, source in openai_sources(config).items():
            value = values[ours][None] if ours.endswith("kernel") else values[ours]
            tf.compat.v1.get_variable(source.names[0], initializer=value, use_resource=False)
            for slot in ("Adam", "Adam_1"):  # of an Estimator's run
                name = f"{source.names[0]}/{slot}"
                tf.compat.v1.get_variable(name, initializer=np.zeros_like(value), use_resource=False)
        tf.compat.v1.get_variable("beta1_power", initializer=0.9, use_resource=False)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(folder / "model.ckpt"), write_meta_graph=False)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda folder: (folder / "vocab.json").unlink(), FileNotFoundError, "has no vocab.json"),
        (lambda folder: (folder / "config.json").unlink(), ValueError, "holds no model: neither config.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), ValueError, "cannot be read"),
        (
            lambda folder: rewrite(folder, kind="docproduct retriever"),
            ValueError,
            "holds a docproduct retriever; expected a generator",
        ),
        (lambda folder: shrink(folder), ValueError, r"h.0.mlp.c_fc.weight has shape \[32, 100\]"),
        (
            lambda folder: rewrite(folder, vocab_size=500),
            ValueError,
            "The tokenizer has 600 ids, the model 500 rows|shape",
        ),
    ],
)
def test_folders_that_do_not_fit_are_named(generator, tmp_path, change, error, message):
    folder = tmp_path / "hf"
    generator.save_hugging_face(str(folder))
    change(folder)
    with pytest.raises(error, match=message):
        TrainedGenerator.load(str(folder))
    with pytest.raises(ValueError, match="There is no folder"):
        TrainedGenerator.load("gpt2-medium")


def shrink(folder):
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    name = "transformer.h.0.mlp.c_fc.weight"
    safetensors.numpy.save_file(tensors | {name: tensors[name][:, :100].copy()}, folder / "model.safetensors")


def rewrite(folder, **changed):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changed))
