"""An encoder's vocabulary as a decoder's: ids, texts that read well, and folders of GPT-2s that have one."""

import itertools
import json
import os

import numpy as np
import pytest
import tokenizers

from data_pipeline.tokenizers import BytePairs, EncoderVocabulary, load_tokenizer
from data_pipeline.tokenizers.joining import join_words
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.generator.cross_attention import with_cross_attention
from docproduct.systems.generator.folder import tokenizer_of
from tests.test_bert import randomize

TEXTS = ["the help is 3.5 a day, don't x-ray!", "what (b) is a2?", "", "a"]


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return EncoderVocabulary(tokenizer)


@pytest.fixture(scope="module")
def unigram(tmp_path_factory):
    """XLM-R's kind of tokenizer: Metaspace, Unigram pieces, <s> and </s> around a text."""
    folder = tmp_path_factory.mktemp("unigram")
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", "\u2581take", "\u2581water", "s", "多", "喝", "水", "\u2581多"]
    model = tokenizers.models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=3)
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    made.add_special_tokens(pieces[:4])
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>"}))
    return str(folder)


def test_ids_are_those_of_the_encoder_without_its_marks(vocabulary, tokenizer):
    ids = vocabulary.encode(TEXTS)
    framed = tokenizer.encode_few(TEXTS, 60)
    assert [[vocabulary.begin_id, *row, vocabulary.end_id] for row in ids] == framed
    assert (vocabulary.begin_id, vocabulary.end_ids) == (2, (3,))
    assert vocabulary.encode([]) == []
    # "[SEP]" in a text is text: its brackets are unknown here.
    assert vocabulary.end_id not in vocabulary.encode(["a [SEP] b"])[0]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("take 3 . 5 ml , twice a day .", "take 3.5 ml, twice a day."),
        ("don ' t use follow - up ( or both )", "don't use follow-up (or both)"),
        ("多 喝 水 ， 少 吃 盐 。 take b12 now", "多喝水，少吃盐。take b12 now"),
        ("a - b and / or c - 5 %", "a-b and/or c-5%"),
        ("take 2 , 3 drinks or 1 , 000", "take 2, 3 drinks or 1,000"),
        ("", ""),
    ],
)
def test_words_are_joined_as_people_write(words, text):
    assert join_words(words.split()) == text


def test_a_text_has_the_same_ids_again(vocabulary):
    for ids in vocabulary.encode(TEXTS):
        assert vocabulary.encode([vocabulary.decode(ids)])[0] == ids or 1 in ids  # unknown marks stay unknown
    assert vocabulary.decode([2, *vocabulary.encode(["what is the help"])[0], 3, 0, 0]) == "what is the help"
    assert vocabulary.decode([vocabulary.vocab_size, 5]) == "what"


def test_what_further_ids_add_leaves_the_text_as_it_is(vocabulary, unigram):
    for tokenizer, text in ((vocabulary, TEXTS[0]), (EncoderVocabulary.load(unigram), "take waters 多喝水")):
        (ids,) = tokenizer.encode([text])
        parts = [tokenizer.decode_finished(ids[:length]) for length in range(len(ids) + 1)]
        assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(parts))


def test_unigram(unigram, tmp_path):
    tokenizer = EncoderVocabulary.load(unigram)
    (ids,) = tokenizer.encode(["take waters 多喝水"])
    assert tokenizer.decode(ids) == "take waters 多喝水"
    assert (tokenizer.begin_id, tokenizer.end_id) == (0, 2)
    assert tokenizer.decode([0, 5, 3, 6, 2]) == "take <unk> water"
    tokenizer.save(str(tmp_path))
    again = EncoderVocabulary.load(str(tmp_path))
    assert (again.fingerprint, again.encode(["take"])) == (tokenizer.fingerprint, tokenizer.encode(["take"]))
    # "▁" counts as no byte: 4 of "take", 3 of "多"
    sizes = tokenizer.token_bytes()
    assert (sizes[0], sizes[3], sizes[5], sizes[11]) == (0, 5, 4, 3)


def test_no_added_tokens(vocabulary):
    with pytest.raises(ValueError, match="cannot take <question>"):
        vocabulary.with_added(["<question>"])


def test_a_chinese_gpt2s_folder(vocab_file, tmp_path):
    """A folder in the published layout: config.json of a GPT-2, BERT's vocab.txt, safetensors."""
    config = GPT2Config(load_tokenizer(vocab_file).vocab_size, 8, 1, 2, max_positions=12)
    generator = TrainedGenerator.make(config, EncoderVocabulary(load_tokenizer(vocab_file)), seed=1)
    randomize(generator.decoder)
    folder = str(tmp_path / "gpt2")
    generator.save_hugging_face(folder)
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"]
    loaded = TrainedGenerator.load(folder)
    assert isinstance(loaded.tokenizer, EncoderVocabulary)
    assert isinstance(tokenizer_of(folder), EncoderVocabulary)
    assert loaded.fingerprint() == generator.fingerprint()
    assert loaded.end_ids == [3]
    stored = json.loads((tmp_path / "gpt2" / "config.json").read_text())
    assert (stored["bos_token_id"], stored["eos_token_id"]) == (2, 3)
    (tmp_path / "gpt2" / "vocab.json").write_text("{}")
    assert not EncoderVocabulary.is_in(folder)


def test_byte_pairs_stay_byte_pairs(tmp_path):
    from data_pipeline.tokenizers import train_byte_pairs

    train_byte_pairs(["a b"], 260).save(str(tmp_path))
    assert not EncoderVocabulary.is_in(str(tmp_path))
    assert BytePairs.load(str(tmp_path)).vocab_size >= 257


def test_new_cross_attention_changes_nothing_yet(tokenizer, tmp_path):
    config = GPT2Config(tokenizer.vocab_size, 8, 2, 2, max_positions=12)
    plain = TrainedGenerator.make(config, EncoderVocabulary(tokenizer), seed=1)
    randomize(plain.decoder)
    crossed = with_cross_attention(plain, encoder_width=6, seed=2)
    ids = np.array([[2, 5, 9, 7]])
    states = np.random.default_rng(0).normal(size=(1, 5, 6)).astype(np.float32)
    expected = plain.decoder.logits(plain.decoder(ids)).numpy()
    assert crossed.decoder.logits(crossed.decoder(ids, encoder_states=states)).numpy() == pytest.approx(
        expected, abs=1e-5
    )
    queries = [v.numpy() for v in crossed.decoder.weights if "cross_attention/query/kernel" in v.path]
    assert len(queries) == 2
    assert all(np.abs(query).max() > 0 for query in queries)  # or nothing could be learned
    assert with_cross_attention(crossed, 6) is crossed
    with pytest.raises(ValueError, match="attends to states of width 6; this encoder's have width 7"):
        with_cross_attention(crossed, 7)
    folder = str(tmp_path / "m")
    crossed.save(folder)
    assert TrainedGenerator.load(folder).fingerprint() == crossed.fingerprint()
