"""The layout of exports: versions, warm-up requests, what is refused; see also test_export.py."""

import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, saved_model_pb2

from data_pipeline.tokenizers import train_byte_pairs
from docproduct.export import kind_of
from docproduct.exports import saved_models
from docproduct.generation.export import export as export_generator
from docproduct.generation.session import GenerationSession
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems import retriever
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.retriever import SearchedAnswers, TrainedRetriever
from tests.test_export import read, save
from tests.test_scripts import TOP

retriever_export = retriever.export  # the fixture of conftest.py has the package's name


@pytest.fixture(scope="module")
def small_generator():
    bpe = train_byte_pairs(["what is the cause? the x z helps against y."], 280)
    sizes = {"width": 16, "num_layers": 1, "num_heads": 2, "max_positions": 32}
    return TrainedGenerator.make(GPT2Config(vocab_size=bpe.vocab_size, **sizes), bpe)


@pytest.fixture(scope="module")
def exported(small_generator, tmp_path_factory):
    return export_generator(small_generator, str(tmp_path_factory.mktemp("exported") / "e"))


def records(path):
    """Yields the records of a TFRecord file: length (8 bytes), checksum (4), content, checksum (4)."""
    with open(path, "rb") as file:
        while head := file.read(12):
            yield file.read(struct.unpack("<Q", head[:8])[0])
            file.read(4)


def fields(message):
    """Returns {number: [contents]} of a protobuf message whose fields are all length-delimited."""
    parsed, position = {}, 0

    def varint():
        nonlocal position
        value, shift = 0, 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(message):
        tag, length = varint(), varint()
        assert tag & 7 == 2
        parsed.setdefault(tag >> 3, []).append(message[position : position + length])
        position += length
    assert position == len(message)
    return parsed


def requests(version):
    """Yields (signature, {input: TensorProto}) of the warm-up file, by the field numbers of TensorFlow Serving."""
    path = os.path.join(version, "assets.extra", "tf_serving_warmup_requests")
    assert os.path.getsize(path) < 4_096
    for record in records(path):
        ((predict_log,),) = fields(record).values()
        assert list(fields(record)) == [6]
        (request,) = fields(predict_log)[1]
        (spec,) = fields(request)[1]
        inputs = [fields(entry) for entry in fields(request)[2]]
        protos = {entry[1][0].decode(): tf.make_tensor_proto(0).FromString(entry[2][0]) for entry in inputs}
        yield fields(spec)[3][0].decode(), protos


@pytest.mark.slow
def test_every_signature_has_a_warmup_request_that_runs(retriever, exported, tmp_path):
    vectors = retriever.embed(["a", "b", "c"], "answer").head
    answers = SearchedAnswers(vectors, np.array([4, 4, 1]), np.arange(3))
    for version in (retriever_export(retriever, str(tmp_path / "r"), answers=answers), exported):
        model = tf.saved_model.load(version)
        warmup = dict(requests(version))
        assert set(warmup) | {"serving_default"} == set(
            model.signatures
        )  # for a retriever, serving_default is a second name
        for signature, protos in warmup.items():
            function = model.signatures[signature]
            specs = function.structured_input_signature[1]
            tensors = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in protos.items()}
            assert {name: value.dtype for name, value in tensors.items()} == {n: s.dtype for n, s in specs.items()}
            assert all(np.size(value) for value in function(**tensors).values())
    # Keys and values are zeros: one stored value stands for all, whatever the size of the model.
    assert len(warmup["advance"]["key_0"].float_val) + len(warmup["advance"]["key_0"].tensor_content) == 1
    assert tf.make_ndarray(warmup["advance"]["key_0"]).shape[1::2] == (2, 8)


def test_versions_grow_and_the_newest_is_loaded(exported, tmp_path):
    assert os.path.basename(exported) == "1"
    assert {"saved_model.pb", "variables", "assets.extra"} <= set(os.listdir(exported))
    folder = str(tmp_path / "e")
    assert saved_models.versions(folder) == []
    shutil.copytree(exported, f"{folder}/9")
    os.makedirs(f"{folder}/12.partial")  # of an export that was killed
    with saved_models.new_version(folder, "docproduct exported generator") as partial:
        shutil.copytree(exported, partial, dirs_exist_ok=True)
        config = read(exported)
        config["session"]["window"] = 7  # so that the versions differ
        with open(f"{partial}/assets.extra/config.json", "w", encoding="utf-8") as file:
            json.dump(config, file)
        assert saved_models.versions(folder) == [f"{folder}/9"]
    # Numbers, not names: 10 is after 9.
    assert saved_models.versions(folder) == [f"{folder}/9", f"{folder}/10"]
    assert (GenerationSession.load(folder).window, GenerationSession.load(f"{folder}/9").window) == (7, 32)


def test_an_export_that_fails_leaves_no_version(retriever, small_generator, tmp_path, monkeypatch):
    def failing(_):
        raise OSError("no space left")

    for export, model in ((retriever_export, retriever), (export_generator, small_generator)):
        monkeypatch.setattr(model.tokenizer, "save", failing)  # the last step of an export
        with pytest.raises(OSError, match="no space left"):
            export(model, str(tmp_path / export.__module__))
        assert os.listdir(tmp_path / export.__module__) == ["version.lock"]


def test_other_folders_are_left_alone(retriever, small_generator, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("of the user")
    (tmp_path / "file").write_text("of the user")
    with pytest.raises(FileExistsError, match=r"mine holds something else \(notes.txt, ...\) than versions"):
        retriever_export(retriever, str(tmp_path / "mine"))
    with pytest.raises(FileExistsError, match="file is a file. Give the path of a folder"):
        retriever_export(retriever, str(tmp_path / "file"))
    assert os.listdir(tmp_path / "mine") == ["notes.txt"]
    version = retriever_export(retriever, str(tmp_path / "r"))
    with pytest.raises(
        FileExistsError, match=r"1 is of the kind 'docproduct exported retriever'; expected 'docproduct"
    ):
        export_generator(small_generator, str(tmp_path / "r"))
    assert version == str(tmp_path / "r/1")
    with pytest.raises(ValueError, match="holds no exported generator of format 7: .* says 'docproduct exported retr"):
        GenerationSession.load(version)


def test_models_that_cannot_be_exported_are_refused(retriever, tmp_path, monkeypatch):
    nothing = SearchedAnswers(np.zeros((0, 10), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="There are no answers to search"):
        retriever_export(retriever, str(tmp_path / "x"), answers=nothing)
    save(retriever, tmp_path / "m")
    other = TrainedRetriever.load(str(tmp_path / "m"), dtype="mixed_bfloat16")
    with pytest.raises(ValueError, match="The retriever is in mixed_bfloat16.*expected float32"):
        retriever_export(other, str(tmp_path / "x"))
    monkeypatch.setattr(retriever.model.bert, "row_multiple", 8)
    with pytest.raises(ValueError, match="made for many texts"):
        retriever_export(retriever, str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_the_kind_of_a_model_folder_is_recognized(retriever, small_generator, tmp_path):
    small_generator.save(str(tmp_path / "g"))
    small_generator.save_hugging_face(str(tmp_path / "hf"))
    save(retriever, tmp_path / "r")
    folders = {"g": "generator", "hf": "generator", "r": "retriever"}
    published = {
        "openai": ("hparams.json", {}, "generator"),
        "google": ("bert_config.json", {}, "retriever"),
        "bert": ("config.json", {"model_type": "bert"}, "retriever"),
        "old_bert": ("config.json", {"hidden_act": "gelu"}, "retriever"),
        "sentence": ("modules.json", [], "retriever"),
    }
    for name, (file, content, kind) in published.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(json.dumps(content))
        folders[name] = kind
    for name, kind in folders.items():
        assert kind_of(str(tmp_path / name)) == f"docproduct {kind}"
    for name, content, message in (
        ("mamba", {"model_type": "mamba"}, "its config.json is of 'mamba'"),
        ("index", {"kind": "docproduct index"}, "its config.json is of 'docproduct index'"),
        ("none", None, "holds no retriever and no generator: it has no config.json"),
        ("unfinished", {"kind": "docproduct retriever", "training": {}}, "The training in .* has not ended"),
    ):
        (tmp_path / name).mkdir()
        if content is not None:
            (tmp_path / name / "config.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            kind_of(str(tmp_path / name))
    with pytest.raises(ValueError, match="There is no folder bert-base"):
        kind_of("bert-base")


@pytest.mark.long
def test_the_command(retriever, tmp_path):
    model = save(retriever, tmp_path / "m")
    command = [sys.executable, "-m", "docproduct.export", f"--model_dir={model}"]
    process = subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (tmp_path / "m/saved_model/1.partial").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert saved_models.versions(f"{model}/saved_model") == []
    done = subprocess.run([*command, "--strings"], cwd=TOP, capture_output=True, text=True, check=True)
    version = f"{model}/saved_model/1"
    printed = json.loads(done.stdout)
    assert {"encode_question", "encode_answer"} <= set(printed.pop("signatures"))
    assert printed == {"version": version, "kind": "docproduct retriever"}
    assert sorted(os.listdir(f"{model}/saved_model")) == ["1", "version.lock"]
    texts = ["encode_question_text", "encode_answer_text"]
    assert read(version)["signatures"] == ["encode_question", "encode_answer", *texts, "serving_default"]
    assert TrainedRetriever.load(model).fingerprint() == read(version)["fingerprint"]
    done = subprocess.run([*command, "--precision=int8"], cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 1
    assert "error: --precision is for a docproduct generator" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("strings", "expected"), [(False, "encode_question"), (True, "encode_question_text")])
def test_a_client_that_names_no_signature_encodes_questions(retriever, tmp_path, strings, expected):
    model = tf.saved_model.load(retriever_export(retriever, str(tmp_path / "r"), strings=strings))
    inputs = {"questions": tf.constant(["what is a3?"])} if strings else {"question_ids": tf.constant([[2, 5, 3]])}
    default, named = (model.signatures[name](**inputs)["vectors"] for name in ("serving_default", expected))
    np.testing.assert_array_equal(default, named)


def test_without_the_graph_optimizer_function_calls_say_so(tmp_path):
    module = tf.Module()
    doubled = {}
    for name, context in (("with", contextlib.nullcontext()), ("without", saved_models.without_graph_optimizer())):
        with context:
            function = saved_models.traced(lambda x: {"y": 2 * x}, {"x": tf.TensorSpec([None], tf.float32)})
            saved_models.save(str(tmp_path / name), module, {"double": function}, {})
        model = saved_model_pb2.SavedModel.FromString((tmp_path / name / "saved_model.pb").read_bytes())
        nodes = [node for node in model.meta_graphs[0].graph_def.node if "config_proto" in node.attr]
        stored = [config_pb2.ConfigProto.FromString(node.attr["config_proto"].s) for node in nodes]
        doubled[name] = {config.graph_options.rewrite_options.disable_meta_optimizer for config in stored}
    assert doubled == {"with": {False}, "without": {True}}
    assert not tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer")
