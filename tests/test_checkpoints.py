"""Checkpoints that the tests write in the published layouts."""

import json
import os

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from docproduct.layers import checkpoints
from docproduct.layers.bert import google_sources, hugging_face_sources
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.bare_encoder import load_encoder
from tests.conftest import TINY_BERT, VOCAB

HUGGING_FACE_CONFIG = {
    "model_type": "bert", "vocab_size": len(VOCAB), "hidden_size": 10, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 14, "max_position_embeddings": 40, "type_vocab_size": 2, "hidden_act": "gelu_new",
    "layer_norm_eps": 1e-12, "pad_token_id": 0,
}  # fmt: skip
GOOGLE_CONFIG = HUGGING_FACE_CONFIG | {"hidden_act": "gelu"}  # the tanh form, as gelu_new there
TEXTS = ["what is a b", "the c1 helps against d, e.", "?"]


def google_tensors():
    """All variables of a published checkpoint, written out by hand, with optimizer slots and pre-training heads."""
    v, d, f = len(VOCAB), 10, 14
    shapes = {
        "bert/embeddings/word_embeddings": (v, d),
        "bert/embeddings/position_embeddings": (40, d),
        "bert/embeddings/token_type_embeddings": (2, d),
        "bert/embeddings/LayerNorm/gamma": (d,),
        "bert/embeddings/LayerNorm/beta": (d,),
        "bert/pooler/dense/kernel": (d, d),
        "bert/pooler/dense/bias": (d,),
        "cls/predictions/output_bias": (v,),
        "cls/seq_relationship/output_weights": (2, d),
    }
    for i in (0, 1):
        layer = f"bert/encoder/layer_{i}"
        for name, out in (("self/query", d), ("self/key", d), ("self/value", d), ("output/dense", d)):
            shapes |= {f"{layer}/attention/{name}/kernel": (d, out), f"{layer}/attention/{name}/bias": (out,)}
        shapes |= {f"{layer}/intermediate/dense/kernel": (d, f), f"{layer}/intermediate/dense/bias": (f,)}
        shapes |= {f"{layer}/output/dense/kernel": (f, d), f"{layer}/output/dense/bias": (d,)}
        for name in ("attention/output", "output"):
            shapes |= {f"{layer}/{name}/LayerNorm/gamma": (d,), f"{layer}/{name}/LayerNorm/beta": (d,)}
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    slots = {f"{name}/adam_{slot}": value for name, value in tensors.items() for slot in "mv"}
    return tensors | slots | {"global_step": np.int64(1_000_000)}


def write_google(folder, tensors, checkpoint="bert_model.ckpt"):
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/bert_config.json", "w") as file:
        json.dump(GOOGLE_CONFIG, file)
    write_vocab(folder)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [tf.compat.v1.get_variable(name, initializer=value) for name, value in tensors.items()]
        session.run([variable.initializer for variable in variables])
        tf.compat.v1.train.Saver(variables).save(session, f"{folder}/{checkpoint}", write_meta_graph=False)
    os.remove(f"{folder}/checkpoint")  # the published archives have none


def write_hugging_face(folder, tensors, prefix="", old_norm_names=False):
    """Writes the same weights under Hugging Face's names, kernels transposed."""
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/config.json", "w") as file:
        json.dump(HUGGING_FACE_CONFIG, file)
    write_vocab(folder)
    renamed = {f"{prefix}embeddings.position_ids": np.arange(40)[None]}
    for name, value in tensors.items():
        if not name.startswith("bert/") or name.endswith(("adam_m", "adam_v")):
            continue
        name = name.removeprefix("bert/").replace("/layer_", "/layer/").replace("/", ".")
        if name.endswith("kernel"):
            name, value = name.replace("kernel", "weight"), value.T
        elif name.endswith("_embeddings"):
            name += ".weight"
        elif not old_norm_names:
            name = name.replace(".gamma", ".weight").replace(".beta", ".bias")
        renamed[prefix + name] = np.ascontiguousarray(value)
    if prefix:
        renamed["cls.predictions.bias"] = np.zeros(len(VOCAB), np.float32)
    safetensors.numpy.save_file(renamed, f"{folder}/model.safetensors")


def write_vocab(folder):
    with open(f"{folder}/vocab.txt", "w") as file:
        file.write("\n".join(VOCAB) + "\n")


@pytest.mark.parametrize("name", ["bert_model.ckpt", "biobert_model.ckpt", "model.ckpt-1000000"])
def test_google_and_hugging_face_give_the_same_output(tmp_path, name):
    tensors = google_tensors()
    write_google(tmp_path / "google", tensors, name)
    write_hugging_face(tmp_path / "plain", tensors)
    write_hugging_face(tmp_path / "prefixed", tensors, prefix="bert.", old_norm_names=True)
    first = TrainedRetriever.load(str(tmp_path / "google")).embed(TEXTS, "answer").encoder
    for other in ("plain", "prefixed"):
        np.testing.assert_allclose(
            TrainedRetriever.load(str(tmp_path / other)).embed(TEXTS, "answer").encoder, first, atol=1e-5
        )
    assert np.abs(first).max() > 0.1


def test_the_tables_name_every_variable_once(retriever):
    ours = set(checkpoints.variables_by_name(retriever.model.bert))
    for sources in (google_sources(TINY_BERT), hugging_face_sources(TINY_BERT)):
        assert set(sources) == ours
        theirs = [name for source in sources.values() for name in source.names]
        assert (
            len(theirs) == len(set(theirs)) == len(ours) + 2 * 2 * 2
        )  # q, k and v of a layer are one kernel and one bias here


def broken(tensors, change):
    tensors = dict(tensors)
    if change == "missing":
        del tensors["bert/encoder/layer_1/attention/self/key/kernel"]
    elif change == "extra":
        tensors["bert/encoder/layer_2/output/dense/bias"] = np.zeros(10, np.float32)
    elif change == "misshapen":
        tensors["bert/embeddings/position_embeddings"] = np.zeros((39, 10), np.float32)
    elif change == "misshapen parts":
        tensors["bert/encoder/layer_0/attention/self/key/kernel"] = np.zeros((10, 7), np.float32)
        tensors["bert/encoder/layer_0/attention/self/value/kernel"] = np.zeros((10, 13), np.float32)
    return tensors


@pytest.mark.parametrize(
    ("change", "google", "hugging_face"),
    [
        (
            "missing",
            "missing: bert/encoder/layer_1/attention/self/key/kernel",
            "encoder.layer.1.attention.self.key.weight",
        ),
        ("extra", "not expected: bert/encoder/layer_2/output/dense/bias", "encoder.layer.2.output.dense.bias"),
        (
            "misshapen",
            r"bert/embeddings/position_embeddings has shape \[39, 10\], expected \[40, 10\]",
            r"embeddings.position_embeddings.weight has shape \[39, 10\], expected \[40, 10\]",
        ),
        # 7 + 13 columns of key and value: joined with the query's 10 they would fit.
        (
            "misshapen parts",
            r"self/key/kernel has shape \[10, 7\], expected \[10, 10\]; .*self/value/kernel has shape \[10, 13\]",
            r"self.key.weight has shape \[7, 10\], expected \[10, 10\]; .*self.value.weight has shape \[13, 10\]",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, change, google, hugging_face):
    tensors = broken(google_tensors(), change)
    write_google(tmp_path / "google", tensors)
    write_hugging_face(tmp_path / "hugging_face", tensors)
    with pytest.raises(ValueError, match=google):
        load_encoder(str(tmp_path / "google"))
    with pytest.raises(ValueError, match=hugging_face):
        load_encoder(str(tmp_path / "hugging_face"))


def test_incomplete_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no model: neither config.json nor bert_config.json"):
        load_encoder(str(tmp_path))
    folder = tmp_path / "google"
    write_google(folder, google_tensors())
    os.remove(folder / "bert_model.ckpt.data-00000-of-00001")
    with pytest.raises(ValueError, match=r"bert_model.ckpt cannot be read"):
        load_encoder(str(folder))
    os.remove(folder / "bert_model.ckpt.index")
    with pytest.raises(ValueError, match=r"has 0 checkpoints"):
        load_encoder(str(folder))
    folder = tmp_path / "hugging_face"
    write_hugging_face(folder, google_tensors())
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model.safetensors cannot be read"):
        load_encoder(str(folder))
    os.remove(folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"has no model.safetensors"):
        load_encoder(str(folder))


def test_safetensors_in_several_files(tmp_path):
    write_hugging_face(tmp_path / "one", google_tensors())
    write_hugging_face(tmp_path / "two", google_tensors())
    tensors = safetensors.numpy.load_file(tmp_path / "two/model.safetensors")
    os.remove(tmp_path / "two/model.safetensors")
    weight_map = {name: f"part-{i % 2}.safetensors" for i, name in enumerate(tensors)}
    for part in set(weight_map.values()):
        chosen = {name: tensors[name] for name in tensors if weight_map[name] == part}
        safetensors.numpy.save_file(chosen, tmp_path / "two" / part)
    (tmp_path / "two/model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    one, two = (TrainedRetriever.load(str(tmp_path / name)).embed(TEXTS, "answer").head for name in ("one", "two"))
    np.testing.assert_array_equal(one, two)


def sentence_transformers(folder, modules, pooling):
    write_hugging_face(folder, google_tensors())
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in modules]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 7}))


def test_sentence_transformers_files_decide_pooling_and_length(tmp_path):
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    for name, pooling in (("old", {"pooling_mode_cls_token": True}), ("new", {"pooling_mode": "cls"})):
        sentence_transformers(tmp_path / name, modules, pooling)
        config = load_encoder(str(tmp_path / name))[0].config
        assert (config.pooling, config.max_tokens) == ("cls", 7)
    assert load_encoder(str(tmp_path / "new"), pooling="mean", max_tokens=9)[0].config.max_tokens == 9
    # Since sentence-transformers 5, tokenizer_config.json holds the length; 10^30 means no limit.
    (tmp_path / "new/sentence_bert_config.json").write_text("{}")
    for stored, expected in ((8, 8), (10**30, 40)):
        config = {"model_max_length": stored, "do_lower_case": True}
        (tmp_path / "new/tokenizer_config.json").write_text(json.dumps(config))
        assert load_encoder(str(tmp_path / "new"))[0].config.max_tokens == expected


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "model.safetensors.index.json"])
def test_damaged_json_is_named(tmp_path, name):
    write_hugging_face(tmp_path, google_tensors())
    (tmp_path / name).write_text("{")
    with pytest.raises(ValueError, match=f"{name} is not valid JSON"):
        load_encoder(str(tmp_path))


def test_the_vocabulary_must_fit_the_model(tmp_path):
    write_hugging_face(tmp_path, google_tensors())
    (tmp_path / "vocab.txt").write_text("\n".join([*VOCAB, "more"]) + "\n")
    with pytest.raises(ValueError, match="The vocabulary has 86 tokens"):
        TrainedRetriever.load(str(tmp_path))


def test_heads_and_optimizer_slots_are_left_out_and_named(tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(checkpoints.logging, "info", lambda text, *values: logged.append(text % values))
    tensors = google_tensors()
    write_google(tmp_path / "plain", tensors)
    query = "bert/encoder/layer_0/attention/self/query/kernel"
    extra = {f"{query}/{slot}": tensors[query] for slot in ("Adam", "Adam_1", "lamb_m", "ExponentialMovingAverage")}
    extra |= {name: np.zeros(3, np.float32) for name in ("output_weights", "output_bias", "classifier/kernel")}
    extra |= {"beta1_power": np.float32(1), "training/step": np.int64(3)}
    write_google(tmp_path / "tuned", tensors | extra)
    write_hugging_face(tmp_path / "hugging_face", tensors, prefix="bert.")
    path = tmp_path / "hugging_face/model.safetensors"
    stored = safetensors.numpy.load_file(path)
    heads = ("classifier.weight", "classifier.bias", "qa_outputs.weight", "dropout.mask", "bert.pooler.dense.bias")
    safetensors.numpy.save_file(stored | {name: np.zeros(3, np.float32) for name in heads}, path)
    expected = TrainedRetriever.load(str(tmp_path / "plain")).embed(TEXTS, "answer").encoder
    for name in ("tuned", "hugging_face"):
        vectors = TrainedRetriever.load(str(tmp_path / name)).embed(TEXTS, "answer").encoder
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert any("/tuned/" in text and "beta1_power" in text for text in logged)
    assert any("classifier.bias, classifier.weight" in text for text in logged)


def test_a_google_config_beside_hugging_face_weights_is_ignored(tmp_path):
    write_hugging_face(tmp_path / "one", google_tensors())
    write_hugging_face(tmp_path / "two", google_tensors())
    (tmp_path / "two/bert_config.json").write_text(json.dumps(GOOGLE_CONFIG))
    one, two = (TrainedRetriever.load(str(tmp_path / name)).embed(TEXTS, "answer").head for name in ("one", "two"))
    np.testing.assert_array_equal(one, two)


def test_the_checkpoint_file_chooses_among_several(tmp_path):
    tensors = google_tensors()
    for step, scale in ((10, 1.0), (20, 2.0)):
        write_google(tmp_path, {name: value * scale for name, value in tensors.items()}, f"model.ckpt-{step}")
    with pytest.raises(ValueError, match="has 2 checkpoints .*or a file `checkpoint` that names one"):
        load_encoder(str(tmp_path))
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-10"\n')
    model, _ = load_encoder(str(tmp_path))
    np.testing.assert_array_equal(model.bert.embedding_norm.gamma, tensors["bert/embeddings/LayerNorm/gamma"])


def test_a_checkpoint_of_tensorflow_2_is_refused_by_name(tmp_path):
    write_google(tmp_path, google_tensors())
    for path in tmp_path.glob("bert_model*"):
        path.unlink()
    tf.train.Checkpoint(kernel=tf.Variable([1.0])).write(str(tmp_path / "bert_model.ckpt"))
    with pytest.raises(ValueError, match=r"object checkpoint of TensorFlow 2.*model.safetensors"):
        load_encoder(str(tmp_path))


def test_line_ends_and_byte_order_marks_change_nothing(tmp_path):
    write_google(tmp_path, google_tensors())
    expected = TrainedRetriever.load(str(tmp_path))
    for name in ("vocab.txt", "bert_config.json"):
        text = (tmp_path / name).read_text().replace("\n", "\r\n")
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    received = TrainedRetriever.load(str(tmp_path))
    assert received.fingerprint() == expected.fingerprint()
