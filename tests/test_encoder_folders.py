"""A folder gives sentence-transformers' vectors (golden/make_encoder_vectors.py), or it is refused."""

import json
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline import batches
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.prompts.encoder_prompts import EncoderPrompts
from docproduct.answering import Answerer, Query
from docproduct.index import Index, build, windows
from docproduct.systems.retriever import TrainedRetriever, export
from docproduct.systems.retriever.config import RetrieverTraining
from docproduct.systems.retriever.start import start
from docproduct.systems.retriever.train import train
from docproduct.training.settings import TrainingSettings
from tests import encoder_folders
from tests.conftest import write_csv

GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden/encoder_vectors.json").read_text(encoding="utf-8"))
TEXTS = list(encoder_folders.TEXTS)


def cosines(vectors, expected):
    expected = np.array(expected)
    return (vectors * expected).sum(axis=1) / np.linalg.norm(expected, axis=1)


@pytest.mark.parametrize("kind", encoder_folders.KINDS)
def test_vectors_are_those_of_sentence_transformers(tmp_path, kind):
    encoder_folders.write(str(tmp_path), kind)
    retriever = TrainedRetriever.load(str(tmp_path))
    for side, expected in GOLDEN["kinds"][kind].items():
        assert cosines(retriever.embed(TEXTS, side).head, expected).min() > 0.99999
        assert cosines(retriever.embed_few(TEXTS, side), expected).min() > 0.99999


def change_json(path, **values):
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | values))


@pytest.fixture(scope="module")
def mean(tmp_path_factory):
    """An encoder without prompts."""
    folder = str(tmp_path_factory.mktemp("encoder"))
    encoder_folders.write(folder, "mean")
    return TrainedRetriever.load(folder)


@pytest.mark.parametrize(
    ("config", "question", "answer"),
    [
        ({"prompts": {"query": "q: ", "passage": "p: "}}, "q: ", "p: "),
        ({"prompts": {"query": "q: ", "document": "", "passage": "p: "}}, "q: ", "p: "),
        ({"prompts": {"query": "q: ", "document": "d: ", "passage": "p: "}}, "q: ", "d: "),
        ({"prompts": {"corpus": "c: "}}, "", "c: "),
        ({"prompts": {"all": "a: "}, "default_prompt_name": "all"}, "a: ", "a: "),
        ({"prompts": {"all": "a: ", "query": "q: "}, "default_prompt_name": "all"}, "q: ", "a: "),
        ({"prompts": {"query": "q: "}, "default_prompt_name": "query"}, "q: ", ""),
        ({"prompts": None}, "", ""),
    ],
)
def test_prompts_of_each_side(mean, tmp_path, config, question, answer):
    encoder_folders.write(str(tmp_path), "mean")
    change_json(tmp_path / "config_sentence_transformers.json", **config)
    prompted = TrainedRetriever.load(str(tmp_path))
    for side, prompt in (("question", question), ("answer", answer)):
        expected = mean.embed([prompt + text for text in TEXTS], side).head
        np.testing.assert_array_equal(prompted.embed(TEXTS, side).head, expected)
        np.testing.assert_allclose(prompted.embed_few(TEXTS, side), expected, atol=1e-6)
    assert (prompted.fingerprint() == mean.fingerprint()) == (not question and not answer)


def test_a_default_prompt_must_exist(tmp_path):
    encoder_folders.write(str(tmp_path), "mean")
    change_json(tmp_path / "config_sentence_transformers.json", prompts={"a": "b"}, default_prompt_name="c")
    with pytest.raises(ValueError, match="default_prompt_name 'c'; expected one of its prompts: a"):
        TrainedRetriever.load(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        (
            "1_Pooling/config.json",
            {"pooling_mode_lasttoken": True},
            r"has the poolings \['mean', 'lasttoken'\]; expected exactly one of",
        ),
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}, r"has the poolings \['weightedmean'\]"),
        ("config.json", {"model_type": "roberta"}, "of a roberta model .*Families that work: BERT, "),
        ("config.json", {"model_type": "distilbert"}, "of a distilbert model"),
        ("config.json", {"model_type": "mpnet"}, "of a mpnet model"),
        ("config.json", {"position_embedding_type": "relative_key"}, "with relative_key positions"),
        ("config.json", {"is_decoder": True}, "reads forwards only"),
        (
            "2_Dense/config.json",
            {"activation_function": "torch.nn.modules.activation.PReLU"},
            "dense layer .*Tanh, ReLU",
        ),
        ("2_Dense/config.json", {"use_residual": True}, "without a residual connection"),
        ("tokenizer_config.json", {"truncation_side": "left"}, "cuts long texts on the left"),
        ("tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer"}, "has a BertJapaneseTokenizer, which"),
        ("config.json", {"tokenizer_class": "BertJapaneseTokenizer"}, "has a BertJapaneseTokenizer, which"),
        ("tokenizer_config.json", {"cls_token": "what"}, "special or added tokens what beside vocab.txt"),
        ("special_tokens_map.json", {"additional_special_tokens": ["[Q]"]}, r"added tokens \[Q\] beside"),
        ("added_tokens.json", {"fox": 168}, "added tokens fox beside vocab.txt.*AutoTokenizer"),
        ("sentence_bert_config.json", {"config_args": {"num_hidden_layers": 1}}, "has config_args"),
        ("sentence_bert_config.json", {"query_length": 8}, "has query_length 8"),
        ("config_sentence_transformers.json", {"truncate_dim": 5}, "shortens its vectors to 5"),
    ],
)
def test_settings_that_would_change_vectors_are_refused(tmp_path, file, values, message):
    encoder_folders.write(str(tmp_path), "dense")
    change_json(tmp_path / file, **values)
    with pytest.raises(ValueError, match=message):
        TrainedRetriever.load(str(tmp_path))


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (("Transformer", "Pooling", "LayerNorm"), "has a module LayerNorm; expected Transformer, Pooling, Dense"),
        (("Transformer", "Pooling", "Normalize", "Dense"), "in this order"),
        (("Transformer", "Normalize"), "expected one Transformer, one Pooling"),
        (("WordEmbeddings", "Pooling"), "has a module WordEmbeddings"),
    ],
)
def test_other_modules_are_refused_by_name(tmp_path, kinds, message):
    encoder_folders.write(str(tmp_path), "mean")
    (tmp_path / "modules.json").write_text(json.dumps([{"path": "", "type": f"a.{kind}"} for kind in kinds]))
    with pytest.raises(ValueError, match=message):
        TrainedRetriever.load(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pytorch_model.bin", "only in pytorch_model.bin .*AutoModel as M; M.from_pretrained"),
        ("pytorch_model.bin.index.json", "a PyTorch pickle.*save_pretrained"),
        ("tf_model.h5", "only in tf_model.h5 .*Take the same model's safetensors"),
        ("adapter_model.safetensors", "an adapter.*merge_and_unload"),
    ],
)
def test_other_weights_are_refused_by_name(tmp_path, name, message):
    encoder_folders.write(str(tmp_path), "mean")
    os.replace(tmp_path / "model.safetensors", tmp_path / name)
    with pytest.raises(ValueError, match=message):
        TrainedRetriever.load(str(tmp_path))


def test_a_missing_pooling_config_is_refused(tmp_path):
    encoder_folders.write(str(tmp_path), "cls")
    (tmp_path / "1_Pooling/config.json").unlink()
    with pytest.raises(ValueError, match="1_Pooling has no config.json"):
        TrainedRetriever.load(str(tmp_path))


def test_max_tokens_never_exceeds_the_positions(tmp_path):
    encoder_folders.write(str(tmp_path), "mean")
    change_json(tmp_path / "sentence_bert_config.json", max_seq_length=512)
    assert TrainedRetriever.load(str(tmp_path)).config.max_tokens == encoder_folders.POSITIONS


def test_the_post_processor_decides_the_special_tokens(tmp_path):
    encoder_folders.write(str(tmp_path), "the normalizer of tokenizer.json")
    token = {"type": "TemplateProcessing", "pair": [], "special_tokens": {}}
    token["special_tokens"] = {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}}
    token["single"] = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    token["pair"] = [*token["single"], {"Sequence": {"id": "B", "type_id": 1}}]
    change_json(tmp_path / "tokenizer.json", post_processor=token)
    rows = TrainedRetriever.load(str(tmp_path)).tokenizer.encode_few(["is the"], 16)
    assert rows == [[2, encoder_folders.VOCAB.index("is"), encoder_folders.VOCAB.index("the")]]


def test_a_dense_layer_in_a_pickle_is_refused(tmp_path):
    encoder_folders.write(str(tmp_path), "dense")
    os.replace(tmp_path / "2_Dense/model.safetensors", tmp_path / "2_Dense/pytorch_model.bin")
    with pytest.raises(ValueError, match="2_Dense has its weights only in pytorch_model.bin"):
        TrainedRetriever.load(str(tmp_path))


def test_pooling_that_excludes_the_prompt_is_refused(tmp_path):
    encoder_folders.write(str(tmp_path), "query and document")
    change_json(tmp_path / "1_Pooling/config.json", include_prompt=False)
    with pytest.raises(ValueError, match="leaves its prompts out of the pooling"):
        TrainedRetriever.load(str(tmp_path))


def test_max_tokens_defaults_to_the_positions(tmp_path):
    encoder_folders.write(str(tmp_path), "mean")
    assert TrainedRetriever.load(str(tmp_path)).config.max_tokens == 16
    (tmp_path / "sentence_bert_config.json").unlink()
    assert TrainedRetriever.load(str(tmp_path)).config.max_tokens == encoder_folders.POSITIONS


@pytest.mark.parametrize("kind", ["dense", "query and document", "accents kept", "unigram"])
def test_a_saved_encoder_gives_the_same_vectors(tmp_path, kind):
    encoder_folders.write(str(tmp_path / "bare"), kind)
    bare = TrainedRetriever.load(str(tmp_path / "bare"))
    os.mkdir(tmp_path / "saved")
    bare.save_config(str(tmp_path / "saved"), {})
    bare.save_weights(str(tmp_path / "saved"))
    (tmp_path / "saved/metrics.json").write_text("{}")
    saved = TrainedRetriever.load(str(tmp_path / "saved"))
    assert saved.fingerprint() == bare.fingerprint()
    for side in ("question", "answer"):
        np.testing.assert_array_equal(saved.embed(TEXTS, side).head, bare.embed(TEXTS, side).head)


def test_the_layer_before_the_last_is_pooled(tmp_path):
    encoder_folders.write(str(tmp_path), "mean")
    model = TrainedRetriever.load(str(tmp_path)).model
    ids = np.array([[2, 5, 7, 3]], np.int32)
    states = model.bert.embedding_norm(model.bert._embed([ids]))
    first = model.bert.layers[0](states, [np.zeros((1, 1, 1, 4), np.float32)])  # [4, D]
    shorter = TrainedRetriever.load(str(tmp_path), pooled_layer=-2)
    np.testing.assert_allclose(shorter.model.pool(ids)[0], np.mean(first, axis=0), atol=1e-5)
    with pytest.raises(ValueError, match="pooled_layer is -3; expected -1, the last layer, to -2"):
        TrainedRetriever.load(str(tmp_path), pooled_layer=-3)


def test_prompts_are_used_in_preparing_training_index_and_export(tmp_path):
    encoder_folders.write(str(tmp_path / "encoder"), "query and document")
    rows = [(f"what is {letter}?", f"the {letter} is {letter * 3}") for letter in "abcdefghijklmnopqrst"]
    table = write_csv(tmp_path / "pairs.csv", rows)
    settings = PrepareSettings(
        (table,), str(tmp_path / "encoder"), max_tokens={"question": 16, "answer": 16}, dev_share=0.3
    )
    prepare(settings, str(tmp_path / "prepared"))
    prepared = PreparedFolder(str(tmp_path / "prepared"))
    bare = TrainedRetriever.load(str(tmp_path / "encoder"))
    for side in ("question", "answer"):
        texts = prepared.table([side])[side].to_pylist()
        expected = bare.embed(texts, side).head
        np.testing.assert_allclose(bare.embed_prepared(prepared, side).head, expected, atol=1e-6)
        # The ids in the shards hold the prompts: the texts are not tokenized again.
        shards = [i for _, batch in batches.inference_batches(prepared, side, 64, 0) for i in batch[:, 1].tolist()]
        word = {"question": "query", "answer": "passage"}[side]
        assert set(shards) == {encoder_folders.VOCAB.index(word)}
    config = RetrieverTraining(
        str(tmp_path / "prepared"), str(tmp_path / "encoder"), settings=TrainingSettings(epochs=1, batch_size=4)
    )
    train(config, str(tmp_path / "model"))
    trained = TrainedRetriever.load(str(tmp_path / "model"))
    assert trained.prompts == bare.prompts == EncoderPrompts("query: ", "passage: ")
    build(trained, prepared, str(tmp_path / "index"))
    answer = Answerer(trained, Index(str(tmp_path / "index"), trained)).answer(Query("what is c?", k=3))
    vectors = trained.embed([answer.hits[0].answer], "answer").head @ trained.embed(["what is c?"], "question").head[0]
    assert answer.hits[0].score == pytest.approx(float(vectors[0]), abs=1e-5)
    passages, _, _ = windows.cut(["a b c d e"], trained, 7, 1)
    assert [" ".join(trained.tokenizer.decode(ids)) for ids in passages.to_list()] == [
        "[CLS] passage : a b c [SEP]",
        "[CLS] passage : c d e [SEP]",
    ]
    loaded = tf.saved_model.load(export(trained, str(tmp_path / "export"), strings=True))
    served = loaded.signatures["encode_answer_text"](answers=tf.constant(TEXTS[:3]))["vectors"]
    np.testing.assert_allclose(served, trained.embed(TEXTS[:3], "answer").head, atol=1e-5)


def test_prompt_flags_work_but_may_not_contradict_the_encoder(tmp_path):
    table = write_csv(tmp_path / "pairs.csv", [(f"what is {i}?", f"the {i}") for i in range(9)])
    encoder_folders.write(str(tmp_path / "plain"), "mean")
    encoder_folders.write(str(tmp_path / "prompted"), "query and document")
    settings = PrepareSettings(
        (table,), str(tmp_path / "plain"), prompts={"question": "query: "}, dev_share=0.4,
        max_tokens={"question": 16, "answer": 16},
    )  # fmt: skip
    prepare(settings, str(tmp_path / "prepared"))
    prepared = PreparedFolder(str(tmp_path / "prepared"))
    assert prepared.prompts() == EncoderPrompts("query: ", "")
    config = RetrieverTraining(str(tmp_path / "prepared"), str(tmp_path / "plain"))
    assert start(config, prepared).prompts == EncoderPrompts("query: ", "")
    config = RetrieverTraining(str(tmp_path / "prepared"), str(tmp_path / "prompted"))
    with pytest.raises(ValueError, match=r"was prepared with EncoderPrompts\(question='query: ', answer=''\); .*again"):
        start(config, prepared)


def test_a_unigram_encoder_exports_ids_and_refuses_texts(tmp_path):
    encoder_folders.write(str(tmp_path / "encoder"), "unigram")
    retriever = TrainedRetriever.load(str(tmp_path / "encoder"))
    assert tf.saved_model.load(export(retriever, str(tmp_path / "export"))).signatures["encode_question"]
    with pytest.raises(ValueError, match="runs in Python alone.*export ids only"):
        export(retriever, str(tmp_path / "texts"), strings=True)
    assert not (tmp_path / "texts").exists()
