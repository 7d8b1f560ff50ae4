"""Exports run in a process that has TensorFlow but not this project; see also test_saved_models.py."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.tokenizers import train_byte_pairs
from docproduct.export import export
from docproduct.exports import saved_models
from docproduct.generation.export import export as export_generator
from docproduct.generation.export import live
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import GenerationSession
from docproduct.index import Index, IndexSettings, build
from docproduct.layers import int8
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.retriever import Retriever, RetrieverConfig, TrainedRetriever
from tests.conftest import TINY_BERT, write_csv
from tests.test_bert import randomize
from tests.test_generator import greedy
from tests.test_int8 import NEEDS_INT8

OUTSIDE = """
import json, sys
jobs, with_text = json.load(sys.stdin), sys.argv[1] == "text"
for name in ("docproduct", "data_pipeline", *(() if with_text else ("keras", "tensorflow_text"))):
    sys.modules[name] = None
import tensorflow as tf
if with_text:
    import tensorflow_text
models = {folder: tf.saved_model.load(folder) for folder in {folder for folder, _, _ in jobs}}
def run(folder, signature, inputs):
    function = models[folder].signatures[signature]
    specs = function.structured_input_signature[1]
    try:
        found = function(**{name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()})
    except tf.errors.InvalidArgumentError as error:
        return {"error": str(error)}
    return {name: value.numpy().tolist() for name, value in found.items()}
print(json.dumps([run(*job) for job in jobs]))
"""
QUESTIONS = ["what is 3?", "The z, Z\u00e9 z", "what helps against x" * 9, "\U0001f600 unknown"]
DEPTHS = (1, 5, 30, 99)
PROMPTS = [[7, 8, 9, 7, 8], [200, 20, 31], [11] * 9, [5, 2]]
BERT = dataclasses.replace(TINY_BERT, num_layers=1)
SAMPLING = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
SAMPLING |= {"biased": True}


def outside(jobs, folder, text):
    """Runs jobs (version folder, signature, inputs) in a separate process that cannot import docproduct."""
    command = [sys.executable, "-I", "-c", OUTSIDE, "text" if text else "ids"]
    done = subprocess.run(command, input=json.dumps(jobs), cwd=folder, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(done.stderr[-3_000:])
    return json.loads(done.stdout.splitlines()[-1])


def save(retriever, folder):
    folder.mkdir(parents=True)
    retriever.save_config(str(folder), {})
    retriever.save_weights(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def trained(tokenizer):
    result = TrainedRetriever(Retriever(RetrieverConfig(BERT, max_tokens=20), seed=3), tokenizer)
    randomize(result.model)
    return result


@pytest.fixture(scope="module")
def forms(trained, vocab_file, tmp_path_factory):
    """Returns {form: version}, {form: opened index}, {pair_id: answer}; the source folders are deleted."""
    top = tmp_path_factory.mktemp("exports")
    sources = top / "sources"
    model = save(trained, sources / "model")
    # Thirty answers, ten of them in two pairs; some have several passages.
    rows = [(f"what is {i}?", f"the {'z ' * (i % 5)}{i % 30}.") for i in range(40)]
    pairs = write_csv(sources / "pairs.csv", rows)
    prepare(PrepareSettings((pairs,), vocab_file), str(sources / "prepared"))
    settings = {"whole": IndexSettings(), "short": IndexSettings(passage_tokens=6, passage_overlap=1, dims=7)}
    versions = {"ids": export(model, str(top / "ids"), False, None, "float32")}
    prepared, opened = PreparedFolder(str(sources / "prepared")), {}
    answers = {row["pair_id"]: row["answer"] for row in prepared.table(["pair_id", "answer"]).to_pylist()}
    for name, chosen in settings.items():
        folder = str(sources / name)
        build(trained, prepared, folder, chosen)
        opened[name] = Index(folder, trained)
        versions[name] = export(model, str(top / name), False, folder, "float32")
    shutil.rmtree(sources)
    return versions, opened, answers


@pytest.fixture(scope="module")
def from_text(forms, tmp_path_factory):
    versions, opened, _ = forms
    jobs = {("whole", f"encode_{side}_text"): {f"{side}s": QUESTIONS} for side in ("question", "answer")}
    jobs |= {(name, "retrieve", k): {"questions": QUESTIONS, "k": k} for name in opened for k in (0, *DEPTHS)}
    listed = [(versions[key[0]], key[1], inputs) for key, inputs in jobs.items()]
    return dict(zip(jobs, outside(listed, tmp_path_factory.mktemp("empty"), True), strict=True))


def same_vectors(received, expected):
    np.testing.assert_allclose(received["vectors"], expected.head, atol=1e-5)
    np.testing.assert_allclose(received["encoder_vectors"], expected.encoder, atol=1e-5)


@pytest.mark.parametrize("side", ["question", "answer"])
def test_texts_have_the_same_vectors(trained, from_text, side):
    same_vectors(from_text["whole", f"encode_{side}_text"], trained.embed(QUESTIONS, side))


@pytest.mark.parametrize("k", DEPTHS)
@pytest.mark.parametrize("name", ["whole", "short"])
def test_retrieve_finds_what_the_index_finds(trained, forms, from_text, name, k):
    index, answers, received = forms[1][name], forms[2], from_text[name, "retrieve", k]
    assert index.num_answers == 30
    hits = [query.hits for query in index.search_many(trained.embed(QUESTIONS, "question").head, min(k, 30))]
    # Pairs with the same answer are equally near: rounding decides which of them FAISS returns.
    assert [[answers[i] for i in row] for row in received["pair_ids"]] == [[hit.answer for hit in row] for row in hits]
    np.testing.assert_allclose(received["scores"], [[hit.score for hit in row] for row in hits], atol=1e-5)


def test_retrieve_with_k_0_is_an_error(from_text):
    assert "k is 0 or less; expected 1 or more" in from_text["whole", "retrieve", 0]["error"]


@pytest.fixture(scope="module")
def written():
    """A generator whose end token is the third one that it writes after the first prompt."""
    bpe = train_byte_pairs(["what is the cause? the x z helps against y."], 280)
    sizes = {"width": 32, "num_layers": 1, "num_heads": 2, "max_positions": 32, "initializer_range": 0.3}
    model = TrainedGenerator.make(GPT2Config(vocab_size=bpe.vocab_size, **sizes), bpe, seed=1)

    class Ending(TrainedGenerator):
        end_ids = (greedy(model, PROMPTS[0], 3)[2],)

    return Ending(model.decoder, bpe)


def request(prompts, max_tokens, columns=0, **sampling):
    """Returns the inputs of `generate` and `begin`, with `columns` more columns of padding."""
    ids = np.zeros((len(prompts), max(map(len, prompts)) + columns), int)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = prompt
    lengths = [len(prompt) for prompt in prompts]
    named = {"prompt_ids": ids.tolist(), "prompt_lengths": lengths, "max_tokens": max_tokens}
    return named | SAMPLING | {"seeds": [0] * len(prompts)} | sampling


SAMPLED = {
    "temperature": 1.0,
    "top_p": 0.9,
    "repetition_penalty": 1.2,
    "no_repeat_ngram_size": 2,
    "seeds": [5, 6, 7, 8],
}
REQUESTS = {
    "greedy": request(PROMPTS, 12),
    "padded": request(PROMPTS, 12, columns=9),
    "one": request(PROMPTS[2:3], 18),
    "full": request(PROMPTS, 99),
    "sampled": request(PROMPTS[:2], 8, **SAMPLED),
    "none": request(PROMPTS, 0),
    "few": request(PROMPTS, 3, seeds=[1, 2, 3, 4, 5]),
    "long": request(PROMPTS, 3) | {"prompt_lengths": [5, 3, 10, 2]},
    "empty": request(PROMPTS, 3) | {"prompt_lengths": [5, 3, 0, 2]},
}


@pytest.fixture(scope="module")
def generators(written, tmp_path_factory):
    """Returns {precision: version}."""
    top, precisions = tmp_path_factory.mktemp("generators"), ["float32", *(["int8"] if int8.available() else [])]
    return {precision: export_generator(written, str(top / precision), precision) for precision in precisions}


@pytest.fixture(scope="module")
def from_ids(trained, forms, generators, tmp_path_factory):
    jobs = {name: (generators["float32"], "generate", inputs) for name, inputs in REQUESTS.items()}
    jobs["default"] = (generators["float32"], "serving_default", REQUESTS["greedy"])
    if "int8" in generators:
        jobs["int8"] = (generators["int8"], "generate", REQUESTS["greedy"])
    ids = trained.tokenizer.encode(QUESTIONS, 20).to_tensor(0).numpy().tolist()
    for side in ("question", "answer"):
        jobs[side] = (forms[0]["ids"], f"encode_{side}", {f"{side}_ids": ids})
    return dict(zip(jobs, outside(list(jobs.values()), tmp_path_factory.mktemp("empty"), False), strict=True))


@pytest.mark.parametrize("side", ["question", "answer"])
def test_ids_have_the_same_vectors(trained, from_ids, side):
    same_vectors(from_ids[side], trained.embed(QUESTIONS, side))


@pytest.mark.parametrize(("name", "prompts"), [("greedy", PROMPTS), ("one", PROMPTS[2:3]), ("full", PROMPTS)])
def test_generate_writes_the_greedy_tokens_of_the_model(written, from_ids, name, prompts):
    room = min(REQUESTS[name]["max_tokens"], 32 - max(map(len, prompts)))  # the window of 32 holds both
    received = from_ids[name]
    for prompt, ids, length in zip(prompts, received["ids"], received["lengths"], strict=True):
        expected = greedy(written, prompt, room)
        (end_id,) = written.end_ids
        end = expected.index(end_id) if end_id in expected else room
        assert ids[:length] == expected[:end]
        assert set(ids[length:]) <= {end_id}
    assert received["lengths"][0] <= 2 or name == "one"
    assert max(received["lengths"]) == len(received["ids"][0]) == room


def test_padding_and_the_name_of_the_signature_change_nothing(from_ids):
    assert from_ids["default"] == from_ids["greedy"] == from_ids["padded"]


@NEEDS_INT8
def test_int8_generate_equals_the_session(generators, from_ids):
    session = GenerationSession.load(os.path.dirname(generators["int8"]))
    together, received = session.write(PROMPTS, GenerationSettings(12, no_repeat_ngram_size=0)), from_ids["int8"]
    expected = [list(row[0].ids) for row in together]
    assert [ids[:length] for ids, length in zip(received["ids"], received["lengths"], strict=True)] == expected


def test_generate_samples_what_begin_and_advance_sample(written, from_ids):
    functions = live(written)

    def run(name, inputs):
        specs = functions[name].structured_input_signature[1]
        return functions[name](**{key: tf.cast(value, specs[key].dtype) for key, value in inputs.items()})

    inputs = REQUESTS["sampled"]
    sampling = {name: inputs[name] for name in (*SAMPLING, "seeds")}
    state = run("begin", inputs)
    state = run("advance", state | sampling | {"num_tokens": 7, "lookup": False})
    ids = state["ids"].numpy()[:, int(state["answer"]) : int(state["next"]) + 1]
    assert from_ids["sampled"]["ids"] == ids.tolist()
    assert len({tuple(row) for row in ids.tolist()}) == 4  # two samples of each of two prompts


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "max_tokens is 0 or less"),
        ("few", "a seed for each text"),
        ("long", "A prompt is longer than its row of prompt_ids or than 31"),
        ("empty", "prompt_lengths has a 0"),
    ],
)
def test_invalid_requests_return_an_error(from_ids, name, message):
    assert message in from_ids[name]["error"]


@pytest.mark.long
def test_a_published_encoder_exports_its_vectors(minilm, tmp_path):
    """all-MiniLM-L6-v2, from its package: texts of many lengths, one longer than its limit."""
    version = export(minilm, str(tmp_path / "e"), True, None, "float32")
    encoder = TrainedRetriever.load(minilm)
    texts = ["What helps against a cold?", "asthma " * 400, "", "Fi\u00e8vre\u2026 40 \u00b0C"]
    padded = encoder.tokenizer.encode(texts, encoder.config.max_tokens).to_tensor(0).numpy().tolist()
    jobs = [(version, "encode_answer_text", {"answers": texts}), (version, "encode_answer", {"answer_ids": padded})]
    for received in outside(jobs, tmp_path, True):
        same_vectors(received, encoder.embed(texts, "answer"))
    assert os.path.getsize(os.path.join(version, "saved_model.pb")) < 20 * 2**20  # the weights are beside it
    assert dataclasses.asdict(encoder.config) == read(version)["retriever"] | {"matryoshka_dims": (), "dense": ()}


def read(version):
    with open(os.path.join(saved_models.own_files(version), saved_models.CONFIG_FILE), encoding="utf-8") as file:
        return json.load(file)
