"""A LLaMA-style generator: its folders, and what sessions, exports and training make of it."""

import dataclasses
import json
import types

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from data_pipeline.folders.token_folder import TokenFolder
from data_pipeline.prompts.answer_prompts import PromptSettings
from data_pipeline.token_rows.packing import write_windows
from data_pipeline.token_rows.pair_rows import write_closed_book
from docproduct import export as export_script
from docproduct.generation.export import export
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import GenerationSession
from docproduct.layers import checkpoints, int8
from docproduct.layers.llama import Llama
from docproduct.systems.generator import TrainedGenerator, tokenizer_of, window_of
from docproduct.systems.generator.config import GeneratorTraining
from docproduct.systems.generator.start import start
from docproduct.systems.generator.train import train
from docproduct.training.settings import TrainingSettings
from tests import llama_folders
from tests.decoders import logits_of
from tests.llama_folders import CONFIG

PROMPTS = [[7, 8, 9, 7, 8, 20, 21, 22, 23, 24], [300, 20, 31], [11] * 9, [5, 2]]
IDS = np.array([[5, 6, 7, 8, 9, 10, 11, 12, 13]])
SMALL = CONFIG | {"num_hidden_layers": 1}  # each layer makes training and sessions slower
TIED = CONFIG | {"tie_word_embeddings": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("llama") / "m"
    llama_folders.write(path)
    return str(path)


@pytest.fixture(scope="module")
def generator(folder):
    return TrainedGenerator.load(folder)


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("llama") / "e")
    return export_script.export(folder, path, False, None, "float32")


@pytest.fixture(scope="module")
def writer(exported):
    return GenerationSession.load(exported)


def logits(generator, ids):
    return np.asarray(generator.decoder.logits(generator.decoder(np.array(ids))))


def test_what_a_published_folder_says(folder, generator):
    assert isinstance(generator.decoder, Llama)
    assert (generator.window, generator.vocab_size, generator.tokenizer.vocab_size) == (131_072, 330, 320)
    assert generator.end_ids == [2, 3]
    assert generator.suppressed_ids == []
    assert generator.prompt == PromptSettings(window=1_024, answer_tokens=256, history=True)  # it was trained to chat
    assert generator.chat_template == llama_folders.TEMPLATE
    assert window_of(folder) == 131_072
    assert tokenizer_of(folder).fingerprint == generator.tokenizer.fingerprint
    assert [(spec.shape.as_list(), name) for name, spec in generator.cache_spec().items()][:2] == [
        ([None, 2, None, 6], "key_0"),
        ([None, 2, None, 6], "value_0"),
    ]
    assert export_script.kind_of(folder) == "docproduct generator"


@pytest.mark.parametrize("dtype", [np.float16, llama_folders.BFLOAT16])
def test_half_precision_in_several_files_becomes_float32(tmp_path, dtype):
    rounded = llama_folders.write(tmp_path / "half", dtype=dtype, num_files=3)
    whole = tmp_path / "whole"
    llama_folders.write(whole)
    safetensors.numpy.save_file(rounded, whole / "model.safetensors")
    half, single = (TrainedGenerator.load(str(tmp_path / name)) for name in ("half", "whole"))
    assert {variable.dtype for variable in half.decoder.weights} == {"float32"}
    np.testing.assert_array_equal(logits(half, IDS), logits(single, IDS))


def test_names_without_a_prefix_and_buffers(folder, generator, tmp_path):
    tensors = llama_folders.write(tmp_path / "m")
    tensors = {name.removeprefix("model."): value for name, value in tensors.items()}
    tensors |= {f"layers.{i}.self_attn.rotary_emb.inv_freq": np.ones(3, np.float32) for i in range(2)}
    safetensors.numpy.save_file(tensors, tmp_path / "m/model.safetensors")
    np.testing.assert_array_equal(logits(TrainedGenerator.load(str(tmp_path / "m")), IDS), logits(generator, IDS))


def test_a_tied_head(tmp_path):
    tensors = llama_folders.write(tmp_path / "m", TIED)
    expected = logits(TrainedGenerator.load(str(tmp_path / "m")), IDS)
    table = tensors["model.embed_tokens.weight"]
    safetensors.numpy.save_file(tensors | {"lm_head.weight": table}, tmp_path / "m/model.safetensors")
    np.testing.assert_array_equal(logits(TrainedGenerator.load(str(tmp_path / "m")), IDS), expected)
    safetensors.numpy.save_file(tensors | {"lm_head.weight": table + 1}, tmp_path / "m/model.safetensors")
    with pytest.raises(ValueError, match="has a head of its own. Expected a head that is tied"):
        TrainedGenerator.load(str(tmp_path / "m"))


def test_our_folder_and_hugging_faces(generator, tmp_path):
    generator.save(str(tmp_path / "own"))
    generator.save_hugging_face(str(tmp_path / "hf"))
    stored = json.loads((tmp_path / "own/config.json").read_text())
    assert (stored["architecture"], stored["llama"]["sliding_window"]) == ("llama", 7)
    for name in ("own", "hf"):
        found = TrainedGenerator.load(str(tmp_path / name))
        assert found.decoder.config == generator.decoder.config
        assert (found.end_ids, found.chat_template) == (generator.end_ids, generator.chat_template)
        assert found.fingerprint() == generator.fingerprint()
        np.testing.assert_array_equal(logits(found, IDS), logits(generator, IDS))
    theirs = json.loads((tmp_path / "hf/config.json").read_text())
    assert {name: theirs[name] for name in CONFIG if name != "eos_token_id"} == {
        name: value for name, value in CONFIG.items() if name != "eos_token_id"
    }
    assert theirs["eos_token_id"] == [2, 3]
    tensors = safetensors.numpy.load_file(tmp_path / "hf/model.safetensors")
    for name, value in llama_folders.tensors_of(CONFIG).items():
        np.testing.assert_array_equal(tensors.pop(name), value, err_msg=name)
    assert not tensors


def test_published_parts_in_memory(folder, generator):
    def content(name):
        with open(f"{folder}/{name}", encoding="utf-8") as file:
            return json.load(file)

    parts = {"config": content("config.json"), "tensors": llama_folders.tensors_of(CONFIG)}
    parts |= {"tokenizer": content("tokenizer.json")}
    parts["tokenizer_config"] = content("tokenizer_config.json") | content("generation_config.json")
    found = TrainedGenerator.of_published(types.SimpleNamespace(**parts), "model.gguf", dropout=0.1)
    assert found.tokenizer.fingerprint == generator.tokenizer.fingerprint
    assert (found.end_ids, found.chat_template) == (generator.end_ids, generator.chat_template)
    assert found.decoder.config == generator.decoder.config.with_dropout(0.1)
    np.testing.assert_array_equal(logits(found, IDS), logits(generator, IDS))
    del parts["tensors"]["model.norm.weight"]
    with pytest.raises(ValueError, match=r"model.gguf does not match the model. missing: norm.weight"):
        TrainedGenerator.of_published(types.SimpleNamespace(**parts), "model.gguf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "mamba"}, "has the architecture mamba; expected gpt2, llama. It was written by another"),
        ({"kind": "docproduct retriever"}, "holds a docproduct retriever; expected a generator"),
        (
            {"kind": None, "model_type": "mamba"},
            "of a model of type 'mamba'; expected gpt2, llama, mistral, qwen2, qwen3",
        ),
    ],
)
def test_folders_that_do_not_fit(generator, tmp_path, change, message):
    generator.save(str(tmp_path / "m"))
    path = tmp_path / "m/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        TrainedGenerator.load(str(tmp_path / "m"))


def greedy(generator, prompt, count):
    ids = list(prompt)
    while len(ids) < len(prompt) + count:
        ids.append(int(np.argmax(logits_of(generator.decoder, [ids])[0, -1])))
        if ids[-1] in generator.end_ids:
            return ids[len(prompt) : -1]
    return ids[len(prompt) :]


def test_sessions_write_what_the_model_says(generator, writer):
    """Also together, in rows of unequal lengths, with look-up, and as a stream."""
    settings = GenerationSettings(max_tokens=20, no_repeat_ngram_size=0)
    live, every = GenerationSession.of(generator), [greedy(generator, prompt, 20) for prompt in PROMPTS]
    for session in (writer, live):
        assert [list(answer.ids) for (answer,) in session.write(PROMPTS, settings)] == every
        for prompt, expected in zip(PROMPTS, every, strict=True):
            for lookup in (False, True):
                ((answer,),) = session.write([prompt], settings, lookup)
                assert list(answer.ids) == expected
    assert list(list(writer.stream(PROMPTS[0], settings))[-1].ids) == every[0]
    assert (writer.window, writer.chat_template) == (131_072, llama_folders.TEMPLATE)
    drawn = dataclasses.replace(settings, temperature=1.0, num_samples=2, seed=3)
    assert writer.write(PROMPTS, drawn) == live.write(PROMPTS, drawn)


def test_look_up_needs_fewer_passes_where_a_text_repeats_itself(plain):
    """With a layer that adds nothing, and with a head that makes of each token of a circle the next one."""
    model = TrainedGenerator.load(plain)
    variables = checkpoints.variables_by_name(model.decoder)
    for name, variable in variables.items():
        if name.endswith("output/kernel"):
            variable.assign(np.zeros(variable.shape))
    variables["final_norm/gamma"].assign(np.ones(16))
    table = np.asarray(variables["token_embedding/embeddings"])
    circle, head = np.arange(10, 20), np.zeros((16, 330))
    head[:, np.roll(circle, -1)] = (table[circle] / np.linalg.norm(table[circle], axis=1, keepdims=True)).T
    variables["head/kernel"].assign(head)
    session, settings = GenerationSession.of(model), GenerationSettings(max_tokens=40, no_repeat_ngram_size=0)
    prompt = [*circle, 10, 11]
    ((plain,),), ((found,),) = (session.write([prompt], settings, lookup) for lookup in (False, True))
    assert found.ids == plain.ids == (*circle[2:], 10, 11) * 4
    assert (found.passes, plain.passes) == (6, 40)  # the prompt gives a token, four passes give 8, and the last 7


def test_an_export_is_made_of_float32(folder, exported, tmp_path):
    with open(f"{exported}/assets.extra/config.json", encoding="utf-8") as file:
        stored = json.load(file)
    assert (stored["precision"], stored["tokenizer"]) == ("float32", "DecoderTokenizer")
    fast = TrainedGenerator.load(folder, "mixed_bfloat16")
    with pytest.raises(ValueError, match="The generator is in mixed_bfloat16; expected float32"):
        export(fast, str(tmp_path / "e"))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.skipif(not int8.available(), reason=f"int8 needs {int8.NEEDED}")
def test_int8_is_near_float32(tied, tmp_path):
    llama_folders.write(tmp_path / "m", SMALL | {"tie_word_embeddings": tied})
    generator = TrainedGenerator.load(str(tmp_path / "m"))
    export(generator, str(tmp_path / "int8"), precision="int8")
    prompts, settings = [[i, i + 1, i + 2] for i in range(50)], GenerationSettings(max_tokens=1)
    sessions = GenerationSession.of(generator), GenerationSession.load(str(tmp_path / "int8"))
    first, second = ([text.ids for (text,) in session.write(prompts, settings)] for session in sessions)
    assert np.mean([a == b for a, b in zip(first, second, strict=True)]) > 0.85


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A folder without a chat template: the model learns markers."""
    path = tmp_path_factory.mktemp("llama") / "plain"
    llama_folders.write(path, SMALL, template=None)
    return str(path)


SETTINGS = TrainingSettings(epochs=1, batch_size=8, learning_rate=1e-2, checkpoint_steps=9, seed=5, precision="float32")


@pytest.fixture(scope="module")
def pairs_dir(prepared, plain, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("tokens") / "pairs")
    write_closed_book(path, prepared, tokenizer_of(plain), PromptSettings(0, 64, 24))
    return path


@pytest.fixture(scope="module")
def config(pairs_dir, plain):
    return GeneratorTraining(pairs_dir, plain, num_answers=2, settings=SETTINGS)


def test_markers_are_as_likely_as_an_average_token(config, plain):
    generator = TrainedGenerator.load(plain)
    begun = start(config, TokenFolder(config.tokens_dir))
    added = [begun.tokenizer.added[marker] for marker in ("<question>", "<answer>", "<end>")]
    assert added == [320, 321, 322]  # ids behind the tokenizer's own; the table has had rows for them
    assert begun.decoder.config == generator.decoder.config
    assert (begun.end_ids, begun.suppressed_ids) == ([322], [320, 321])
    before, found = logits(generator, IDS), logits(begun, IDS)
    np.testing.assert_array_equal(found[..., :320], before[..., :320])
    np.testing.assert_allclose(found[..., 320:], before[..., :320].mean(-1, keepdims=True).repeat(10, -1), atol=1e-5)


def test_training_from_a_published_folder(config, tmp_path):
    history = train(config, str(tmp_path / "m"))
    assert history["best"]["perplexity"] < history["epochs"][0]["perplexity"]
    found = TrainedGenerator.load(str(tmp_path / "m"))
    assert found.prompt == PromptSettings(0, 64, 24)
    assert "a LLaMA-style decoder that writes an answer" in (tmp_path / "m/README.md").read_text(encoding="utf-8")
    assert TokenFolder(config.tokens_dir).tokenizer().fingerprint == found.tokenizer.fingerprint
    again = dataclasses.replace(config, base_dir=str(tmp_path / "m"))
    assert start(again, TokenFolder(config.tokens_dir)).tokenizer.fingerprint == found.tokenizer.fingerprint


@pytest.mark.long
def test_accumulation_recomputation_and_a_strategy_give_the_same_curve(config, tmp_path):
    plain = train(config, str(tmp_path / "plain"))["losses"]
    for name, changed in (("chunks", {"chunk_size": 3}), ("recompute", {"recompute": True})):
        found = train(dataclasses.replace(config, **changed), str(tmp_path / name))["losses"]
        np.testing.assert_allclose(found, plain, atol=1e-4)
    mirrored = train(config, str(tmp_path / "mirrored"), strategy=tf.distribute.MirroredStrategy(["/cpu:0"]))
    np.testing.assert_allclose(mirrored["losses"], plain, atol=1e-4)


def test_training_on_packed_text(prepared, plain, tmp_path):
    write_windows(str(tmp_path / "w"), [], prepared, tokenizer_of(plain), 40)
    tokens = TokenFolder(str(tmp_path / "w"))
    config = GeneratorTraining(tokens.path, plain, dropout=0.1, settings=SETTINGS)
    begun = start(config, tokens)
    assert begun.decoder.config.attention_dropout == 0.1
    history = train(config, str(tmp_path / "m"))
    assert history["best"]["perplexity"] < history["epochs"][0]["perplexity"]
