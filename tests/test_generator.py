"""Generation in a graph session against the model, run once for every token."""

import concurrent.futures
import csv
import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.tokenizers import train_byte_pairs
from docproduct import sample
from docproduct.exports.graph_session import GraphSession
from docproduct.generation.export import export
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import GenerationSession
from docproduct.layers import checkpoints
from docproduct.layers.bert import Bert, BertConfig
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems.generator import TrainedGenerator
from tests.decoders import logits_of
from tests.reference import repeating
from tests.test_int8 import NEEDS_INT8

PROMPTS = [[7, 8, 9, 7, 8], [300, 20, 31], [11] * 9, [5, 2]]


@pytest.fixture(scope="module")
def bpe():
    with open(sample.PAIRS_FILE, encoding="utf-8", newline="") as file:
        return train_byte_pairs([row["answer"] for row in csv.DictReader(file)], 600)


@pytest.fixture(scope="module")
def generator(bpe):
    sizes = {"width": 32, "num_layers": 1, "num_heads": 2, "max_positions": 64, "initializer_range": 0.3}
    return TrainedGenerator.make(GPT2Config(vocab_size=bpe.vocab_size, **sizes), bpe, seed=1)


@pytest.fixture(scope="module")
def exported(generator, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("generator") / "exported")
    export(generator, folder)
    return folder


@pytest.fixture(scope="module")
def writer(exported):
    return GenerationSession.load(exported)


def logits(generator, ids):
    return logits_of(generator.decoder, [ids])[0, -1]


def greedy(generator, prompt, count, size=0):
    """Above a size of 0 no run of so many tokens is written twice."""
    ids = list(prompt)
    while len(ids) < len(prompt) + count:
        scores = logits(generator, ids)
        scores[repeating(ids[len(prompt) :], size)] = -np.inf
        ids.append(int(np.argmax(scores)))
        if ids[-1] == generator.tokenizer.end_id:
            return ids[len(prompt) : -1]
    return ids[len(prompt) :]


def test_a_prepared_session_has_run_its_graphs_and_writes_the_same(exported, writer, monkeypatch):
    signatures, run = [], GraphSession.run

    def noted(session, signature, inputs):
        signatures.append(signature)
        return run(session, signature, inputs)

    monkeypatch.setattr(GraphSession, "run", noted)
    prepared = GenerationSession.load(exported, prepare=True)
    assert sorted(signatures) == ["advance", "begin"]
    settings = GenerationSettings(max_tokens=9, num_samples=2)
    assert prepared.write(PROMPTS, settings) == writer.write(PROMPTS, settings)


@pytest.mark.parametrize("size", [0, 1, 2, 4])
def test_the_session_writes_what_the_model_says(generator, writer, size):
    settings = GenerationSettings(max_tokens=20, no_repeat_ngram_size=size)
    every = [greedy(generator, prompt, 20, size) for prompt in PROMPTS]
    assert (every == [greedy(generator, prompt, 20) for prompt in PROMPTS]) == (not size)
    for prompt, expected in zip(PROMPTS, every, strict=True):
        for lookup in (False, True):
            ((found,),) = writer.write([prompt], settings, lookup=lookup)
            assert list(found.ids) == expected
            assert found.passes <= 20
    together = writer.write(PROMPTS, settings)
    assert [list(found.ids) for (found,) in together] == every


def export_of_one_word(generator, token, folder):
    """A bias in the last normalization makes the token the likeliest one after every prompt."""
    variables = checkpoints.variables_by_name(generator.decoder)
    before = variables["final_norm/beta"].numpy()
    table = variables["token_embedding/embeddings"].numpy()
    try:
        variables["final_norm/beta"].assign(1_000 * table[token])
        export(generator, folder)
    finally:
        variables["final_norm/beta"].assign(before)


def test_look_up_needs_fewer_passes_where_a_text_repeats_itself(generator, tmp_path):
    export_of_one_word(generator, 11, str(tmp_path / "e"))
    settings = GenerationSettings(max_tokens=40, no_repeat_ngram_size=0)
    session = GenerationSession.load(str(tmp_path / "e"))
    ((plain,),), ((found,),) = (session.write([[1, 2, 3]], settings, lookup=lookup) for lookup in (False, True))
    assert found.ids == plain.ids == (11,) * 40
    assert plain.passes == 40
    # Two tokens in two passes, a third where the proposal of two is still short, then eight in each.
    assert found.passes <= 8


@pytest.mark.parametrize("count", [60, pytest.param(200, marks=pytest.mark.long)])
def test_look_up_writes_what_plain_greedy_writes(writer, bpe, count):
    """Prompts of real text; where a text ends, or the window, is part of it."""
    with open(sample.PAIRS_FILE, encoding="utf-8", newline="") as file:
        (ids,) = bpe.encode([" ".join(row["answer"] for row in csv.DictReader(file))])
    settings = GenerationSettings(max_tokens=25)
    passes = []
    for i in range(count):
        prompt = ids[7 * i : 7 * i + 5 + i % 40]
        ((plain,),), ((found,),) = (writer.write([prompt], settings, lookup=lookup) for lookup in (False, True))
        assert (found.ids, found.finished) == (plain.ids, plain.finished)
        passes.append((found.passes, plain.passes))
    assert np.sum(passes, axis=0)[0] < np.sum(passes, axis=0)[1]


def test_a_stream_grows_to_the_whole_and_can_be_left(writer):
    settings = GenerationSettings(max_tokens=50)
    ((whole,),) = writer.write([PROMPTS[0]], settings)
    parts = list(writer.stream(PROMPTS[0], settings, lookup=False))
    assert len(parts) > 3
    assert all(whole.text.startswith(part.text) for part in parts)
    assert parts[-1].ids == whole.ids
    next(writer.stream(PROMPTS[0], settings))
    with pytest.raises(ValueError, match="a stream shows one answer"):
        writer.stream(PROMPTS[0], GenerationSettings(num_samples=2))
    with pytest.raises(ValueError, match="Prompt 1 has 0 tokens"):
        writer.stream([])


def test_the_end_token_ends_a_text(generator, bpe, tmp_path):
    export_of_one_word(generator, bpe.end_id, str(tmp_path / "e"))
    for found in (
        row[0] for row in GenerationSession.load(str(tmp_path / "e")).write(PROMPTS, GenerationSettings(max_tokens=9))
    ):
        assert (found.ids, found.text, found.finished, found.passes) == ((), "", True, 1)


def test_markers_are_never_written(generator, bpe):
    """Though each is the likeliest token: the bias of the last normalization points at both."""
    marked = generator.with_markers(None, "float32", 0)
    question, answer, end = (marked.tokenizer.added[marker] for marker in ("<question>", "<answer>", "<end>"))
    table = checkpoints.variables_by_name(marked.decoder)["token_embedding/embeddings"]
    rows = table.numpy()
    rows[[question, answer, end]] = 10 * np.eye(3, 32)
    table.assign(rows)
    checkpoints.variables_by_name(marked.decoder)["final_norm/beta"].assign(100 * np.eye(3, 32)[:2].sum(axis=0))
    scores = logits(marked, PROMPTS[0])
    assert set(np.argsort(-scores)[:2]) == {question, answer}
    best = int(np.argmax(np.where(np.isin(np.arange(len(scores)), [question, answer]), -np.inf, scores)))
    session = GenerationSession.of(marked)
    for lookup in (False, True):
        ((found,),) = session.write([PROMPTS[0]], GenerationSettings(12), lookup)
        assert found.ids[0] == best
        assert not {question, answer} & set(found.ids)


def test_a_window_that_is_full_ends_a_text(generator, writer):
    ((found,),) = writer.write([[3] * 60], GenerationSettings(max_tokens=100))
    assert list(found.ids) == greedy(generator, [3] * 60, 4)
    assert not found.finished


def test_the_same_seed_draws_the_same_whatever_stands_beside_it(writer):
    settings = GenerationSettings(max_tokens=8, temperature=1.0, num_samples=3, seed=4)
    alone = writer.write([PROMPTS[1]], settings)
    assert alone == writer.write([PROMPTS[1]], settings)
    beside = writer.write(PROMPTS[:2], settings)[1]
    assert [found.ids for found in beside] == [found.ids for found in alone[0]]
    assert len({found.ids for found in alone[0]}) == 3
    other = writer.write([PROMPTS[1]], GenerationSettings(max_tokens=8, temperature=1.0, num_samples=3, seed=5))
    assert [found.ids for found in other[0]] != [found.ids for found in alone[0]]


def test_the_likeliest_of_one_is_greedy(writer):
    greedy_settings = GenerationSettings(max_tokens=10)
    for settings in (GenerationSettings(10, temperature=0.7, top_k=1), GenerationSettings(10, 1.0, top_p=1e-6)):
        ((found,),) = writer.write([PROMPTS[1]], settings)
        ((expected,),) = writer.write([PROMPTS[1]], greedy_settings)
        assert found.ids == expected.ids


def test_what_a_prompt_holds_is_penalized(generator, writer):
    """By definition, in prompts of unequal lengths: padding holds nothing."""
    penalty = 1.3
    found = writer.write(PROMPTS, GenerationSettings(max_tokens=8, repetition_penalty=penalty))
    for prompt, (text,) in zip(PROMPTS, found, strict=True):
        ids = list(prompt)
        for _ in range(8):
            scores = logits(generator, ids)
            met = np.isin(np.arange(len(scores)), ids)
            scores[met] = np.where(scores[met] > 0, scores[met] / penalty, scores[met] * penalty)
            ids.append(int(np.argmax(scores)))
        assert list(text.ids) == ids[len(prompt) :]


@NEEDS_INT8
def test_int8_is_near_float32(generator, exported, tmp_path):
    export(generator, str(tmp_path / "int8"), precision="int8")
    settings = GenerationSettings(max_tokens=1)
    same = [
        a[0].ids == b[0].ids
        for a, b in zip(
            *(
                GenerationSession.load(f).write([[i, i + 1, i + 2] for i in range(50)], settings)
                for f in (exported, str(tmp_path / "int8"))
            ),
            strict=True,
        )
    ]
    assert np.mean(same) > 0.85


def test_what_a_session_kept_is_given_up(writer):
    """100 answers of 64 samples each: what each keeps, about a MiB, would be seen if it stayed."""
    prompt, settings = [3] * 50, GenerationSettings(max_tokens=3, num_samples=64)
    for _ in range(20):
        writer.write([prompt], settings)
    before = memory_mib()
    for _ in range(100):
        writer.write([prompt], settings)
    assert memory_mib() < before + 20


def memory_mib():
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024


@pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.long)])
def test_encoder_and_generator_answer_from_eight_threads(writer, tmp_path, count):
    """Each question is encoded in one session and answered in another; the same as alone, in the same memory."""
    bert = Bert(BertConfig(vocab_size=600, width=16, num_layers=1, num_heads=2, inner_width=32, max_positions=32))
    encode = tf.function(lambda ids: {"states": bert(ids)}, input_signature=[tf.TensorSpec([None, None], tf.int32)])
    module = tf.Module()
    encode.get_concrete_function()
    module.weights = [variable.value for variable in bert.weights]
    tf.saved_model.save(module, str(tmp_path / "encoder"), {"encode": encode})
    encoder, settings = GraphSession(str(tmp_path / "encoder")), GenerationSettings(max_tokens=6)
    questions = [[1 + i % 7, *range(10, 12 + i % 20), 3 * i % 500] for i in range(count)]

    def answer(question):
        (states,) = encoder.run("encode", {"ids": [question]}).values()
        words = np.abs(states[0]).argmax(axis=1).tolist()  # what was found decides the prompt
        return words, writer.write([question + words], settings)[0][0].ids

    alone, first = [answer(question) for question in questions], count * 2 // 5
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answer, questions[:first])) == alone[:first]
        before = memory_mib()
        assert list(pool.map(answer, questions[first:])) == alone[first:]
    assert memory_mib() < before + 20
    assert tf.executing_eagerly()  # the sessions left nothing behind in this thread


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "There is no prompt"),
        ([[1], []], "Prompt 2 has 0 tokens; expected 1 to 63"),
        ([[1] * 64], "Prompt 1 has 64 tokens; expected 1 to 63.*Shorten it"),
        ([[1, 600]], "Prompt 1 holds the id 600; expected 0 to 599"),
        ([[-1]], "Prompt 1 holds the id -1"),
    ],
)
def test_prompts_that_cannot_be_read(writer, prompts, message):
    with pytest.raises(ValueError, match=message):
        writer.write(prompts)


def test_what_is_not_exported(generator, bpe, tmp_path, monkeypatch):
    config = dataclasses.replace(generator.decoder.config, cross_attention=True)
    with pytest.raises(ValueError, match="int8 is for a generator without an encoder"):
        export(TrainedGenerator.make(config, bpe), str(tmp_path / "x"), "int8")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    with pytest.raises(ValueError, match="precision is 'int4'; expected float32, int8"):
        export(generator, str(tmp_path / "x"), precision="int4")
    with pytest.raises(ValueError, match="int8 needs an x86 processor .* this machine lacks them. Export in float32"):
        export(generator, str(tmp_path / "x"), "int8")
    assert not (tmp_path / "x").exists()


def test_what_is_no_export(exported, generator, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="holds no exported generator"):
        GenerationSession.load(str(tmp_path))
    with pytest.raises(ValueError, match="holds no whole SavedModel"):
        GraphSession(str(tmp_path))
    generator.save_hugging_face(str(tmp_path / "hf"))
    with pytest.raises(ValueError, match="holds no exported generator of format 7: its config.json says None"):
        GenerationSession.load(str(tmp_path / "hf"))
    shutil.copytree(exported, tmp_path / "int8")
    config = tmp_path / "int8/1/assets.extra/config.json"
    config.write_text(config.read_text().replace('"float32"', '"int8"', 1))
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    with pytest.raises(ValueError, match="int8.1 was exported in int8, which needs .* --precision=float32"):
        GenerationSession.load(str(tmp_path / "int8"))
    shutil.copytree(exported, tmp_path / "damaged")
    for path in (tmp_path / "damaged/1/variables").iterdir():
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match="holds no whole SavedModel"):
        GenerationSession.load(str(tmp_path / "damaged"))
    session = GraphSession(f"{exported}/1")
    with pytest.raises(
        ValueError, match="begin needs the inputs biased, max_tokens, .*prompt_ids, .*; received prompt_ids"
    ):
        session.run("begin", {"prompt_ids": [[1]]})
