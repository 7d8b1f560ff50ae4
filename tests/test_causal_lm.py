"""The protocol of a causal language model, by a decoder that exists only here: a table, and a cache of one tensor.

Letters have values, a = 1, b = 2, c = 3, others 0. The sum of all values in a text, modulo 4, picks a row of the table:

    0 -> "!"    1 -> "b"    2 -> "c"    3 -> "a"

"!" and <|endoftext|> end a text. "z" is the likeliest token of all, and is suppressed. By hand:

    a     1 b  3 a  4 !             ba
    b     2 c  5 b  7 a  8 !        cba
    ab    3 a  4 !                  a
    caa   5 b  7 a  8 !             ba
    abca  7 a  8 !                  a
    dd    0 !                       (nothing)
"""

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.tokenizers import train_byte_pairs
from docproduct.exports import saved_models
from docproduct.generation.decoding import Decoder
from docproduct.generation.export import export
from docproduct.generation.sampling import GenerationSettings, Sampling
from docproduct.generation.session import GenerationSession
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems.generator import TrainedGenerator
from tests.test_bert import randomize

BY_HAND = {"a": "ba", "b": "cba", "ab": "a", "caa": "ba", "abca": "a", "dd": ""}
GREEDY = Sampling(*(tf.constant(x) for x in (0.0, 0, 1.0, 1.0, 0, True, [0])))


class Table:
    """The decoder. Its cache holds the value of each token of a text, [B, L]."""

    window, prompt = 24, None

    def __init__(self, chat_template=None):
        self.tokenizer = train_byte_pairs([], 257)
        self.vocab_size, self.chat_template = self.tokenizer.vocab_size, chat_template
        self.end_ids = [self.tokenizer.end_id, *self.ids("!")]
        self.suppressed_ids = self.ids("z")
        values, logits = np.zeros(self.vocab_size, np.int32), np.zeros((4, self.vocab_size), np.float32)
        values[self.ids("abc")] = 1, 2, 3
        logits[range(4), self.ids("!bca")] = 5
        logits[:, self.suppressed_ids] = 9
        self.variables = [tf.Variable(values), tf.Variable(logits)]

    def ids(self, text):
        return self.tokenizer.encode([text])[0]

    def cache_spec(self):
        return {"values": tf.TensorSpec([None, None], tf.int32)}

    def prefill(self, ids, mask, num_slots, encoder=None):
        values = tf.where(mask, tf.gather(self.variables[0], ids), 0)
        room = num_slots - tf.shape(ids)[1]
        return tf.cumsum(values, axis=1), {"values": tf.pad(values, [[0, 0], [0, room]])}

    def decode_step(self, ids, padding, cache, start):
        slots = tf.range(tf.shape(cache["values"])[1])
        new = tf.gather(self.variables[0], ids)
        shifted = tf.gather(new, tf.clip_by_value(slots - start, 0, tf.shape(ids)[1] - 1), axis=1)
        inside = (slots >= start) & (slots < start + tf.shape(ids)[1])
        values = tf.where(inside, shifted, tf.where(slots < start, cache["values"], 0))
        sums = tf.cumsum(values, axis=1)
        return sums[:, start : start + tf.shape(ids)[1]], {"values": values}

    def logits(self, states):
        return tf.gather(self.variables[1], states % 4)

    def for_export(self, precision):
        if precision != "float32":
            raise ValueError(f"precision is {precision}; a table is in float32.")
        return self


@pytest.fixture(scope="module")
def model():
    return Table(chat_template="{{ messages }}")


@pytest.fixture(scope="module")
def version(model, tmp_path_factory):
    return export(model, str(tmp_path_factory.mktemp("table") / "e"))


@pytest.fixture(scope="module", params=["in this process", "exported"])
def session(request, model, version):
    return GenerationSession.of(model) if request.param == "in this process" else GenerationSession.load(version)


@pytest.mark.parametrize("lookup", [False, True])
def test_texts_by_hand(model, session, lookup):
    settings = GenerationSettings(max_tokens=9)
    for prompt, expected in BY_HAND.items():
        ((answer,),) = session.write([model.ids(prompt)], settings, lookup)
        assert (answer.text, answer.finished) == (expected, True)
    together = session.write([model.ids(prompt) for prompt in BY_HAND], settings)
    assert [answer.text for (answer,) in together] == list(BY_HAND.values())
    ((answer,),) = session.write([model.ids("b")], GenerationSettings(max_tokens=2), lookup)
    assert (answer.text, answer.finished) == ("cb", False)


@pytest.mark.parametrize("lookup", [False, True])
def test_a_bias_holds_where_an_answer_begins(model, lookup):
    """In the table, the largest logit is 5 and c's is 0. With a bias of 6, c is the first token; all others stay."""
    biased = Table()
    biased.opening_bias = {biased.ids("c")[0]: 6.0}
    session = GenerationSession.of(biased)
    for prompt, text in {"a": "c", "dd": "ca"}.items():
        ((answer,),) = session.write([model.ids(prompt)], GenerationSettings(max_tokens=9), lookup)
        assert answer.text == text
    ((answer,),) = session.write([model.ids("b")], GenerationSettings(max_tokens=9, biased=False), lookup)
    assert answer.text == "cba"  # as without a bias


def test_a_stream_by_hand(model, session):
    parts = [answer.text for answer in session.stream(model.ids("b"), GenerationSettings(max_tokens=9))]
    assert parts[0] == "c"
    assert parts[-1] == "cba"


@pytest.mark.parametrize(
    ("prompt", "passes"),
    [
        # The sum of both is 2 modulo 4: "cba!" follows. Behind "ddc" look-up proposes
        ("ddcba!dd", 2),  # "ba!ddc": all of it is right, up to the end
        ("ddcbbcdd", 3),  # "bbcddc": one token is right, the next is written in its place; nothing else is proposed
    ],
)
def test_a_proposal_is_accepted_as_far_as_the_table_writes_it(model, session, prompt, passes):
    for lookup, expected in ((False, 4), (True, passes)):
        ((answer,),) = session.write([model.ids(prompt)], GenerationSettings(max_tokens=9), lookup)
        assert (answer.text, answer.finished, answer.passes) == ("cba", True, expected)


def test_what_a_session_knows_of_a_model(model, session):
    assert (session.window, session.prompt, session.chat_template) == (24, None, "{{ messages }}")
    with pytest.raises(ValueError, match="Prompt 1 holds the id 257; expected 0 to 256"):
        session.write([[257]])
    with pytest.raises(ValueError, match="Prompt 1 has 24 tokens; expected 1 to 23"):
        session.write([[1] * 24])


def test_any_tensorflow_program_can_call_it(model, version):
    generate = tf.saved_model.load(version).signatures["serving_default"]
    prompts = [model.ids(prompt) for prompt in ("b", "ab")]
    found = generate(
        prompt_ids=tf.constant([[*prompts[0], 0], prompts[1]]),
        prompt_lengths=tf.constant([1, 2]),
        max_tokens=tf.constant(9),
        seeds=tf.constant([0, 0]),
        **{name: value for name, value in GREEDY._asdict().items() if name != "seeds"},
    )
    texts = [ids[:n] for ids, n in zip(found["ids"].numpy().tolist(), found["lengths"].numpy(), strict=True)]
    assert texts == [model.ids("cba"), model.ids("a")]


def test_a_model_says_what_it_cannot_be_exported_as(model, tmp_path):
    with pytest.raises(ValueError, match="a table is in float32"):
        export(model, str(tmp_path / "e"), "int8")
    assert not (tmp_path / "e").exists()


def test_a_tokenizer_that_is_not_known(model, version, tmp_path, monkeypatch):
    class Runes(type(model.tokenizer)):
        pass

    monkeypatch.setattr(model.tokenizer, "__class__", Runes)
    export(model, str(tmp_path / "e"))
    with pytest.raises(ValueError, match="a tokenizer of the class Runes; expected BytePairs"):
        GenerationSession.load(str(tmp_path / "e"))
    assert saved_models.versions(str(tmp_path / "e")) == [str(tmp_path / "e/1")]


def test_a_cache_with_a_name_of_the_state(model):
    class Taken(Table):
        def cache_spec(self):
            return {"next": tf.TensorSpec([None, None], tf.int32)}

    with pytest.raises(ValueError, match="parts named next, as the state has"):
        Decoder(Taken())


def test_a_model_without_a_cache(tmp_path):
    """The last token alone picks a row: a -> b -> c -> a, and behind d "!" follows."""

    class Bigram(Table):
        def cache_spec(self):
            return {}

        def prefill(self, ids, mask, num_slots, encoder=None):
            return tf.gather(self.variables[0], ids), {}

        def decode_step(self, ids, padding, cache, start):
            return tf.gather(self.variables[0], ids), cache

    model = Bigram()
    prompts = [model.ids(prompt) for prompt in ("a", "cb", "d")]
    session = GenerationSession.load(export(model, str(tmp_path / "e")))
    answers = session.write(prompts, GenerationSettings(max_tokens=5))
    assert [answer.text for (answer,) in answers] == ["bcabc", "cabca", ""]
    assert session.write([model.ids("abcab")], GenerationSettings(max_tokens=4))[0][0].text == "cabc"


def test_states_of_an_encoder_are_read_at_every_step():
    """A GPT-2 with cross-attention writes what it says of the whole text, to prompts of unequal lengths, two each."""
    bpe = train_byte_pairs([], 257)
    sizes = {"width": 12, "num_layers": 2, "num_heads": 3, "max_positions": 32, "cross_attention": True}
    model = TrainedGenerator.make(GPT2Config(vocab_size=257, encoder_width=8, **sizes), bpe)
    randomize(model.decoder)
    states = np.random.default_rng(0).normal(size=(2, 4, 8)).astype(np.float32)
    encoder = states, np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
    prompts = tf.constant([[5, 6, 7, 8], [9, 10, 0, 0]])
    decoder, sampling = Decoder(model), GREEDY._replace(seeds=tf.zeros(4, tf.int32))
    assert set(decoder.state_spec()) >= {"key_1", "value_1", "cross_key_1", "cross_value_1", "cross_bias"}
    state = decoder.begin(prompts, tf.constant([4, 2]), tf.constant(6), sampling, encoder)
    for name, spec in decoder.state_spec().items():
        assert spec.is_compatible_with(state[name]), name
    state = decoder.advance(state, tf.constant(5), tf.constant(True), sampling)
    written = state["ids"][:, state["answer"] : state["next"] + 1].numpy()
    for row, ids in enumerate(([5, 6, 7, 8], [9, 10])):
        own = {"encoder_states": states[row : row + 1], "encoder_mask": encoder[1][row : row + 1]}
        for _ in range(6):
            logits = model.decoder.logits(model.decoder(np.array([ids]), **own))
            ids = [*ids, int(np.argmax(logits[0, -1]))]
        for copy in (2 * row, 2 * row + 1):
            assert written[copy].tolist() == ids[-6:]
