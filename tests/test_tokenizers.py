import csv
import dataclasses
import string

import numpy as np
import pytest
from tokenizers import BertWordPieceTokenizer

from data_pipeline import batches
from data_pipeline.tokenizers import WordPiece, load_tokenizer, train_wordpiece, wordpiece
from docproduct import sample
from docproduct.systems.retriever import Retriever, RetrieverConfig, TrainedRetriever
from tests.check_token_ids import differing, unpack
from tests.conftest import TINY_BERT, VOCAB

# Characters on which tokenizers are known to part ways.
HARD = [
    "", " ", "...", "\u2026", "a\u2026b", "na\u00efve caf\u00e9", "e\u0301", "\u0130stanbul", "ΣΊΣΥΦΟΣ ΟΔΟΣ",
    "stra\u00dfe",
    "\u4e2d\u6587\u5b57abc", "\u3042\u30ab\ud55c\uad6d", "a\u200bb", "a\u00adb", "a\u00a0b\u3000c", "a\tb\nc\r\nd\x0be",
    "a\x00b\ufffdc", "\u2019\u201c\u2014", "$5.00 (+3%) ^_~`|<>=", "x" * 101, "don't", "[CLS] [MASK] [SEP]",
    "\U0001f600 ok",
    "\u00bd \u00b2 \u2460 \ufb01", "\u0e20\u0e32\u0e29\u0e32", "\u0939\u093f\u0928\u094d\u0926\u0940",
    "a\u2028b\u2029c", "x\U0002b81ey\U0002b920w",
]  # fmt: skip


@pytest.mark.parametrize("lower_case", [True, False])
def test_ids_equal_the_reference(minilm, tmp_path, lower_case):
    with open(sample.PAIRS_FILE, encoding="utf-8", newline="") as file:
        texts = [text for row in csv.DictReader(file) for text in (row["question"], row["answer"])]
    path = f"{minilm}/vocab.txt"
    if not lower_case:  # a cased vocabulary: that of MiniLM with capital letters and some capitalized words
        with open(path, encoding="utf-8") as file:
            vocab = file.read().splitlines()
        capitals = [*string.ascii_uppercase, *(f"##{letter}" for letter in string.ascii_uppercase)]
        capitals += [
            word.capitalize() for word in vocab[2000:8000] if word.isascii() and word.isalpha() and len(word) > 1
        ]
        path = str(tmp_path / "vocab.txt")
        (tmp_path / "vocab.txt").write_text("\n".join(dict.fromkeys(vocab + capitals)), encoding="utf-8")
    assert differing(texts + HARD, path, lower_case) == []


def test_ids_by_hand(tokenizer):
    # "Is" is lower-cased; "ab" is no word of the vocabulary: "a" + "##b"; "$" is unknown.
    wanted = ["[CLS]", "what", "is", "a", "##b", "[UNK]", "?", "[SEP]"]
    ids = tokenizer.encode(["What Is\u00a0 \u00e1b$?"], 99).to_list()[0]
    assert ids == [VOCAB.index(token) for token in wanted]
    assert tokenizer.decode(ids) == wanted


def test_long_texts_lose_their_end_only(tokenizer):
    whole, cut = (tokenizer.encode(["a b c d e"], n).to_list()[0] for n in (99, 5))
    assert cut == whole[:4] + whole[-1:]
    with pytest.raises(ValueError, match="expected 3 or more"):
        tokenizer.encode(["a"], 2)


def test_casing_is_recognised(tmp_path, tokenizer):
    assert tokenizer.lower_case
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*VOCAB, "Hello"]), encoding="utf-8")
    assert not load_tokenizer(str(path)).lower_case
    path.write_text("\n".join([*VOCAB, "<S>"]), encoding="utf-8")  # as in bert-base-chinese
    assert load_tokenizer(str(path)).lower_case


def test_a_saved_tokenizer_is_the_same(tmp_path):
    first = WordPiece([*VOCAB, "Hello"], lower_case=True)
    first.save(str(tmp_path))
    again = load_tokenizer(str(tmp_path))
    assert again.lower_case
    assert again.fingerprint == first.fingerprint
    assert again.fingerprint != load_tokenizer(str(tmp_path), lower_case=False).fingerprint


def test_padding_may_be_the_last_row(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*VOCAB[1:], "[PAD]"]) + "\n")
    last = load_tokenizer(str(path))
    pad_id = len(VOCAB) - 1
    assert last.pad_id == pad_id
    ids = last.encode(["a b c ?", "[UNK] [PAD]", "what"], 99)  # id 0 is [UNK], a token like others
    assert not np.any(ids.flat_values == pad_id)
    ((rows, batch),) = batches.length_sorted(ids, 100, last.pad_id)
    for row, padded in zip(rows, batch, strict=True):
        real = ids[row].numpy().tolist()
        assert padded.tolist() == real + [pad_id] * (batch.shape[1] - len(real))
    config = RetrieverConfig(dataclasses.replace(TINY_BERT, pad_id=pad_id), max_tokens=20)
    retriever = TrainedRetriever(Retriever(config, seed=3), last)
    texts = ["a b c ?", "$", "what"]
    alone = np.concatenate([retriever.embed([text], "answer").head for text in texts])
    np.testing.assert_allclose(retriever.embed(texts, "answer").head, alone, atol=1e-5)


def test_encoding_few_texts_gives_the_same_ids(tokenizer, retriever):
    texts = ["what is a3?", "\u4e2d\u6587 b", "", "the " * 40, "[SEP] ?!", "A\u0301"]
    assert tokenizer.encode_few(texts, 20) == tokenizer.encode(texts, 20).to_list()
    for side in ("question", "answer"):
        expected = retriever.embed(texts, side).head
        np.testing.assert_allclose(retriever.embed_few(texts, side), expected, atol=1e-5)
    with pytest.raises(ValueError, match="max_tokens is 1"):
        tokenizer.encode_few(texts, 1)


def test_invalid_vocabularies_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No vocabulary at .*vocab.txt"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\nhello\n")
    with pytest.raises(ValueError, match=r"has no \[CLS\], \[SEP\]"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "vocab.txt").write_text("\n".join([*VOCAB, "what"]))
    with pytest.raises(ValueError, match="several rows of what"):
        load_tokenizer(str(tmp_path))


def test_tokenizer_json_alone_is_enough(tmp_path):
    ids = {token: i for i, token in enumerate(VOCAB)}
    for lower_case in (True, False):
        BertWordPieceTokenizer(ids, lowercase=lower_case).save(str(tmp_path / "tokenizer.json"))
        found = load_tokenizer(str(tmp_path))
        assert found.fingerprint == WordPiece(VOCAB, lower_case).fingerprint
    assert load_tokenizer(str(tmp_path), lower_case=True).lower_case
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE"}}')
    with pytest.raises(ValueError, match="tokenizer.json cannot be read"):
        load_tokenizer(str(tmp_path))


def test_a_trained_vocabulary_covers_its_texts():
    trained = train_wordpiece(["fever and cough", "a cough and a cold"], vocab_size=60)
    ids = trained.encode(["a cold and a fever"], 99).to_list()[0]
    assert trained.vocab_size <= 60
    assert "[UNK]" not in trained.decode(ids)


def test_words_without_pieces_do_not_shorten_a_text(tokenizer):
    # Alone, the accent has no piece: four words, of which only two count.
    packed, lengths = tokenizer.pack_words(["\u0301 \u0301 a b"], 4)
    assert unpack(packed[0]) == tokenizer.encode(["a b"], 4).to_list()[0]
    assert lengths.tolist() == [4]


def test_a_full_word_cache_starts_anew(tokenizer, monkeypatch):
    monkeypatch.setattr(wordpiece, "_MAX_REMEMBERED", 3)
    fresh = WordPiece(VOCAB, lower_case=True)
    texts = ["a b c d", "e a", "what is the", "a " * 9 + "x" * 120, "e a"]
    for text in texts:
        packed, lengths = fresh.pack_words([text], 20)
        assert unpack(packed[0]) == tokenizer.encode([text], 20).to_list()[0]
        assert lengths.tolist() == [len(unpack(packed[0]))]
    assert "x" * 120 not in fresh._remembered


def test_both_ways_agree_where_the_package_differs_from_googles_code(tokenizer):
    text = "a\U0002b820b\U0002b91fc"  # a, unknown, b, unknown, c
    packed, _ = tokenizer.pack_words([text], 20)
    assert unpack(packed[0]) == tokenizer.encode([text], 20).to_list()[0]
    assert tokenizer.decode(unpack(packed[0])) == ["[CLS]", "a", "[UNK]", "b", "[UNK]", "c", "[SEP]"]
