"""GGUF files that llama.cpp's package writes: every value, name and size comes back as it went in."""

import dataclasses
import functools
import json
import os
import struct

import gguf
import numpy as np
import pytest
import safetensors.numpy

from data_pipeline.tokenizers import DecoderTokenizer
from docproduct.layers import gguf_files
from docproduct.layers.gguf_reader import GGUFFile
from tests import gguf_models
from tests.gguf_models import CONTEXT, HEADS, INNER, KEY_HEADS, LAYERS, WIDTH

KINDS = {"llama": "llama3", "qwen2": "qwen25", "qwen3": "qwen3"}
PRE = {"llama": "llama-bpe", "qwen2": "qwen2", "qwen3": "qwen2"}


def write(path, architecture="llama", **options):
    options = {"tokenizer": KINDS.get(architecture, "llama3"), "pre": PRE.get(architecture, "llama-bpe"), **options}
    return gguf_models.write(path, architecture, **options)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return write(path), gguf_files.read(str(path))


@pytest.mark.parametrize("head_width", [WIDTH // HEADS, 24])
@pytest.mark.parametrize("architecture", KINDS)
@pytest.mark.parametrize("tied", [True, False])
def test_weights_come_back_under_their_names(tmp_path, architecture, head_width, tied):
    weights = write(tmp_path / "tiny.gguf", architecture, head_width=head_width, tied=tied)
    read = gguf_files.read(str(tmp_path / "tiny.gguf"))
    assert read.tensors.keys() == weights.keys()
    for name, values in weights.items():
        np.testing.assert_array_equal(read.tensors[name], values, err_msg=name)
        assert read.tensors[name].dtype == np.float32
        assert read.tensors[name].flags.owndata or read.tensors[name].base.flags.owndata  # not the file's memory
    assert (read.config["model_type"], read.config["head_dim"]) == (architecture, head_width)
    assert read.config["tie_word_embeddings"] is tied


# Kernels are multiples of 0.5 from -4 to 3.5, and hold both: 16 steps of 0.5 are exactly what four bits can tell apart.
# Q5_1 has steps of 7.5 / 31 and Q8_0 of 4 / 127, stored to three digits.
@pytest.mark.parametrize(
    ("quantization", "error"),
    [
        ("F16", 0),
        ("BF16", 0),
        ("Q4_0", 0),
        ("Q4_1", 0),
        ("Q5_0", 0),
        ("Q5_1", 7.5 / 31 / 2 + 0.002),
        ("Q8_0", 4 / 127 / 2 + 0.002),
    ],
)
def test_quantized_weights(tmp_path, quantization, error):
    weights = write(tmp_path / "tiny.gguf", quantization=quantization)
    read = gguf_files.read(str(tmp_path / "tiny.gguf"))
    for name, values in weights.items():
        np.testing.assert_allclose(read.tensors[name], values, rtol=0, atol=error, err_msg=name)


def test_config(published):
    weights, read = published
    assert read.config == {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(weights["model.embed_tokens.weight"]),
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "head_dim": WIDTH // HEADS,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,  # and not 9.999999974752427e-07
        "rope_theta": 50_000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 520,  # the first token after the vocabulary
        "eos_token_id": [524],
    }


def test_defaults_of_an_older_file(tmp_path):
    skip = [f"attention.{key}" for key in ("head_count_kv", "key_length", "value_length")] + ["rope.dimension_count"]
    weights = gguf_models.tensors("llama", 525)
    for i in range(LAYERS):
        for name in ("k", "v"):
            weights[f"model.layers.{i}.self_attn.{name}_proj.weight"] = np.ones((WIDTH, WIDTH), np.float32)
    write(tmp_path / "tiny.gguf", weights=weights, skip=skip)
    config = gguf_files.read(str(tmp_path / "tiny.gguf")).config
    assert (config["num_key_value_heads"], config["head_dim"]) == (HEADS, WIDTH // HEADS)


def test_llama_with_biases(tmp_path):
    weights = gguf_models.tensors("llama", 525)
    for i in range(LAYERS):
        sizes = {"q": WIDTH, "k": WIDTH // 2, "v": WIDTH // 2, "o": WIDTH}
        for name, size in sizes.items():
            weights[f"model.layers.{i}.self_attn.{name}_proj.bias"] = np.arange(size, dtype=np.float32)
    write(tmp_path / "tiny.gguf", weights=weights)
    read = gguf_files.read(str(tmp_path / "tiny.gguf"))
    assert read.config["attention_bias"]
    np.testing.assert_array_equal(read.tensors["model.layers.1.self_attn.k_proj.bias"], np.arange(WIDTH // 2))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"type": "none"}, None),
        ({"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        (
            {"type": "yarn", "factor": 2.0, "original_context_length": 40},
            {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 40},
        ),
        ({"type": "yarn", "factor": 2.0, "attn_factor": 1.5}, "or its attention by positions"),
        ({"type": "longrope", "factor": 2.0}, "scales positions by 'longrope'"),
    ],
)
def test_scaled_positions(tmp_path, values, expected):
    def change(writer):
        adders = {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32}
        for key, value in values.items():
            adders[type(value)](f"llama.rope.scaling.{key}", value)

    write(tmp_path / "tiny.gguf", change=change)
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            gguf_files.read(str(tmp_path / "tiny.gguf"))
    else:
        assert gguf_files.read(str(tmp_path / "tiny.gguf")).config.get("rope_scaling") == expected


def llama3_factors(factor, theta, size):
    """`generate_extra_tensors` of llama.cpp's converter, with Llama 3.1's settings."""
    factors = []
    for i in range(0, size, 2):
        wave = 2 * np.pi * theta ** (i / size)
        if wave < 8192 / 4:
            factors.append(1.0)
        elif wave > 8192 / 1:
            factors.append(factor)
        else:
            smooth = (8192 / wave - 1) / (4 - 1)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, np.float32)


def test_llama_3s_factors_of_positions(tmp_path):
    factors = llama3_factors(32.0, 50_000.0, WIDTH // HEADS)
    assert len({*factors.tolist()}) > 2  # a part of them stands between
    path = str(tmp_path / "tiny.gguf")
    write(path, change=lambda writer: writer.add_tensor("rope_freqs.weight", factors))
    assert gguf_files.read(path).config["rope_scaling"] == {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    write(path, change=lambda writer: writer.add_tensor("rope_freqs.weight", np.ones_like(factors)))
    assert "rope_scaling" not in gguf_files.read(path).config
    factors[-2] *= 1.1
    write(path, change=lambda writer: writer.add_tensor("rope_freqs.weight", factors))
    with pytest.raises(ValueError, match=r"factors \(rope_freqs.weight\) other than Llama 3's"):
        gguf_files.read(path)


def test_a_hugging_face_folder(published, tmp_path):
    weights, read = published
    folder = tmp_path / "model"
    gguf_files.write_hugging_face(read, str(folder))
    stored = safetensors.numpy.load_file(folder / "model.safetensors")
    assert stored.keys() == weights.keys()
    assert all(np.array_equal(stored[name], values) for name, values in weights.items())
    assert json.loads((folder / "config.json").read_text()) == read.config
    assert json.loads((folder / "generation_config.json").read_text()) == {"eos_token_id": [524], "bos_token_id": 520}
    assert os.stat(folder / "model.safetensors").st_mode == os.stat(folder / "config.json").st_mode
    tokenizer = DecoderTokenizer.load(str(folder))
    assert tokenizer.fingerprint == DecoderTokenizer.from_json(read.tokenizer, read.tokenizer_config, "x").fingerprint
    assert (tokenizer.end_ids, tokenizer.begin_id) == ((524,), 520)
    with pytest.raises(FileExistsError, match="exists already"):
        gguf_files.write_hugging_face(read, str(folder))


def test_a_folder_is_written_whole_or_not_at_all(published, tmp_path):
    broken = dataclasses.replace(published[1], tensors={"x": "no array"})
    with pytest.raises((AttributeError, TypeError, KeyError, ValueError), match="."):
        gguf_files.write_hugging_face(broken, str(tmp_path / "model"))
    assert list(tmp_path.iterdir()) == []


def half_rotated(writer):
    writer.add_uint32("llama.rope.dimension_count", 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "gemma3"}, "architecture 'gemma3'; expected llama, qwen2, qwen3"),
        ({"skip": ["attention.head_count"]}, "llama.attention.head_count None in its metadata"),
        ({"skip": ["context_length"]}, "llama.context_length None"),
        ({"skip": ["pre"]}, "no tokenizer.ggml.pre of type str"),
        ({"skip": ["merges"]}, "no tokenizer.ggml.merges of type list of str"),
        ({"skip": ["eos_token_id"]}, "no tokenizer.ggml.eos_token_id"),
        ({"pre": "tekken"}, "pre-tokenizer 'tekken'; expected one of gpt-2, smollm"),
        ({"change": lambda w: w.add_uint32("llama.expert_count", 8)}, "mixture of experts"),
        ({"change": lambda w: w.add_uint32("llama.attention.sliding_window", 20)}, "sliding window"),
        ({"change": lambda w: w.add_tensor("blk.0.gate.weight", np.ones(4, np.float32))}, "not expected: blk.0.gate"),
        ({"change": half_rotated, "skip": ["rope.dimension_count"]}, "rope.dimension_count 8 beside heads of width 16"),
        ({"quantization": "F64"}, "as F64, which the package gguf does not dequantize"),
    ],
)  # fmt: skip
def test_what_is_not_built_in_is_named(tmp_path, options, message):
    if options.get("quantization") == "F64":
        weights = gguf_models.tensors("llama", 525)
        options = {"change": functools.partial(add_doubles, weights.pop("model.norm.weight")), "weights": weights}
    write(tmp_path / "tiny.gguf", **{"architecture": "llama", **options})
    with pytest.raises(ValueError, match=message):
        gguf_files.read(str(tmp_path / "tiny.gguf"))


def add_doubles(values, writer):
    writer.add_tensor("output_norm.weight", values.astype(np.float64))


def test_tensors_that_do_not_fit_the_metadata(tmp_path):
    weights = gguf_models.tensors("llama", 525)
    weights["model.layers.0.mlp.up_proj.weight"] = np.ones((INNER, WIDTH + 1), np.float32)
    write(tmp_path / "tiny.gguf", weights=weights)
    with pytest.raises(ValueError, match=r"blk.0.ffn_up.weight of shape \[96, 65\]; expected \[96, 64\]"):
        gguf_files.read(str(tmp_path / "tiny.gguf"))
    weights = gguf_models.tensors("llama", 525)
    del weights["model.layers.2.mlp.up_proj.weight"]
    write(tmp_path / "tiny.gguf", weights=weights)
    with pytest.raises(ValueError, match=r"Missing: blk.2.ffn_up.weight"):
        gguf_files.read(str(tmp_path / "tiny.gguf"))
    write(tmp_path / "tiny.gguf", weights=gguf_models.tensors("llama", 500))
    with pytest.raises(ValueError, match="525 tokens and 500 embeddings"):
        gguf_files.read(str(tmp_path / "tiny.gguf"))
    weights = gguf_models.tensors("llama", 525)
    weights["model.norm.weight"][3] = np.inf
    write(tmp_path / "tiny.gguf", weights=weights)
    with pytest.raises(ValueError, match="damaged: values of output_norm.weight are not finite"):
        gguf_files.read(str(tmp_path / "tiny.gguf"))


def test_files_that_are_no_gguf_file(tmp_path):
    path = tmp_path / "tiny.gguf"
    with pytest.raises(FileNotFoundError, match=r"No file at .*tiny.gguf"):
        gguf_files.read(str(path))
    write(path)
    whole = path.read_bytes()
    for content, message in [
        (b"", "no GGUF file: it has 0 bytes"),
        (b"PK\3\4" + whole[4:], "begins with b'PK"),
        (whole[:4] + struct.pack(">I", 3) + whole[8:], "big-endian"),
        (whole[:4] + struct.pack("<I", 1) + whole[8:], "version 1 of GGUF; expected 2 or 3"),
        (whole[:16] + struct.pack("<Q", 2**40) + whole[24:], "damaged or cut off"),
        (whole[:-1], "damaged or cut off: output_norm.weight|damaged or cut off: .* ends at byte"),
        (whole + b"more", None),
    ]:
        path.write_bytes(content)
        if message is None:
            gguf_files.read(str(path))
            continue
        with pytest.raises(ValueError, match=message):
            gguf_files.read(str(path))


def test_a_big_endian_file(tmp_path):
    writer = gguf.GGUFWriter(str(tmp_path / "tiny.gguf"), "llama", endianess=gguf.GGUFEndian.BIG)
    writer.add_uint32("llama.block_count", 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match="big-endian"):
        gguf_files.read(str(tmp_path / "tiny.gguf"))


def test_no_damage_gives_anything_but_a_clear_error(tmp_path):
    path = tmp_path / "tiny.gguf"
    write(path)
    whole = path.read_bytes()
    end_of_metadata = min(tensor.start for tensor in GGUFFile(str(path)).tensors.values())
    dice, num_read = np.random.default_rng(3), 0
    for i in range(400):
        damaged = bytearray(whole)
        if i % 2:
            del damaged[int(dice.integers(end_of_metadata)) :]
        # Half of the changes fall into the first tenth, where the sizes stand.
        for at in dice.integers(
            0, max(len(damaged[:end_of_metadata]) // (1 if i % 4 else 10), 1), 3 if i % 2 == 0 else 0
        ):
            damaged[at] = dice.integers(256)
        path.write_bytes(damaged)
        try:
            GGUFFile(str(path))
            num_read += 1
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017 - some damage is none
    assert num_read < 200  # what was cut off is never read


def test_an_unknown_quantization(tmp_path):
    path = tmp_path / "tiny.gguf"
    write(path)
    content = bytearray(path.read_bytes())
    # name, number of dimensions, dimension, kind, offset
    at = content.index(b"output_norm.weight") + len(b"output_norm.weight") + 4 + 8
    content[at : at + 4] = struct.pack("<I", 999)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"output_norm.weight in the quantization number 999, which gguf 0\.\d+"):
        gguf_files.read(str(path))


def test_all_kinds_of_metadata(tmp_path):
    path = str(tmp_path / "tiny.gguf")
    values = {
        "add_uint8": 200, "add_int8": -100, "add_uint16": 60_000, "add_int16": -30_000, "add_uint32": 4_000_000_000,
        "add_int32": -2_000_000_000, "add_float32": 0.5, "add_uint64": 2**63, "add_int64": -(2**62), "add_float64": 0.1,
        "add_bool": True, "add_string": "é😀",
    }  # fmt: skip
    writer = gguf.GGUFWriter(path, "x")
    for name, value in values.items():
        getattr(writer, name)(f"test.{name}", value)
    lists = {"strings": ["a", "", "中"], "ints": [1, -2], "floats": [0.5, -1.5], "bools": [True, False]}
    for name, value in lists.items():
        writer.add_array(f"list.{name}", value)
    writer.add_tensor("t", np.arange(6, dtype=np.float32).reshape(2, 3))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    file = GGUFFile(path)
    assert {name: file.metadata[f"test.{name}"] for name in values} == values
    assert {name: file.metadata[f"list.{name}"] for name in lists} == lists
    np.testing.assert_array_equal(file.values("t"), [[0, 1, 2], [3, 4, 5]])
