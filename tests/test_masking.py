"""Masking of whole words, rows of long texts, and what a vocabulary does not know: by hand on tiny vocabularies."""

import collections
import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.token_rows.masking import NO_TARGET, cut, mask
from data_pipeline.token_rows.plain_texts import read_texts, rows_of
from data_pipeline.tokenizers import WordPiece
from data_pipeline.tokenizers.json_tokenizer import JsonTokenizer
from data_pipeline.tokenizers.unknown import count_words, new_pieces, pieces_of, unknown_tokens
from data_pipeline.tokenizers.whole_words import WholeWords

#         0        1        2        3        4         5     6      7       8    9     10    11   12
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fe", "##v", "##er", "a", "咳", "嗽", "b", "##b"]
# Scores are chosen so that "▁fever" is cut into ▁fe v er: -2 - 3 - 3 = -8 against -2 - 9 - 9 - 3 letter by letter.
PIECES = [
    ["<s>", 0], ["<pad>", 0], ["</s>", 0], ["<unk>", 0], ["▁", -3], ["▁fe", -2], ["v", -3], ["er", -3], ["咳", -4],
    ["嗽", -4], ["a", -5], ["e", -9], ["r", -9], ["▁a", -4], ["<mask>", 0],
]  # fmt: skip


def unigram(pieces=PIECES, mask_token=True):
    tokenizer = Tokenizer(models.Unigram([tuple(piece) for piece in pieces], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    content = json.loads(tokenizer.to_str())
    if not mask_token:
        content["model"]["vocab"][-1] = ["x", -9]
    return JsonTokenizer(content, "<pad>", "t.json")


@pytest.fixture
def wordpiece():
    return WordPiece(VOCAB, lower_case=True)


@pytest.fixture
def words(wordpiece):
    return WholeWords.of(wordpiece)


def test_words_of_wordpiece(words):
    # [CLS] fe ##v ##er a 咳 嗽 ##b [UNK] b ##b [SEP]: ##b after a Chinese character is a word of its own.
    ids = np.array([2, 5, 6, 7, 8, 9, 10, 12, 1, 11, 12, 3])
    assert words.starts(ids).tolist() == [True, True, False, False, *[True] * 6, False, True]
    assert words.mask_id == 4
    assert words.ordinary_ids.tolist() == [5, 6, 7, 8, 9, 10, 11, 12]


def test_words_of_unigram():
    tokenizer = unigram()
    words = WholeWords.of(tokenizer)
    ids = tokenizer.encode_few(["fever a咳嗽er"], 99)[0]
    assert tokenizer.decode(ids) == ["<s>", "▁fe", "v", "er", "▁a", "咳", "嗽", "er", "</s>"]
    assert words.starts(np.array(ids)).tolist() == [True, True, False, False, True, True, True, True, True]
    assert words.mask_id == 14


def test_a_tokenizer_without_mask_is_refused():
    with pytest.raises(ValueError, match=r"no mask token; expected \[MASK\] or <mask>"):
        WholeWords.of(WordPiece([token for token in VOCAB if token != "[MASK]"], lower_case=True))
    with pytest.raises(ValueError, match="no mask token"):
        WholeWords.of(unigram(mask_token=False))


def test_whole_words_are_masked(words):
    """Ten tokens in six words, share 0.3: three tokens, so a word of three or three of one, never a part of a word."""
    ids = np.array([2, 5, 6, 7, 8, 9, 5, 6, 7, 10, 8, 3, 1])  # [CLS] fever a 咳 fever 嗽 a [SEP], and [UNK]
    seen = collections.Counter()
    for seed in range(200):
        masked, targets = mask(ids, words, np.random.default_rng(seed), 0.3)
        places = np.flatnonzero(targets != NO_TARGET).tolist()
        assert (targets[places] == ids[places]).all()
        rest = np.setdiff1d(np.arange(13), places)
        assert (masked[rest] == ids[rest]).all()
        assert len(places) == 3
        for word in ([1, 2, 3], [6, 7, 8]):
            assert len(set(word) & set(places)) in (0, 3)
        seen.update(places)
    assert not {0, 11, 12} & set(seen)  # special and unknown tokens
    assert set(seen) == {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}


def test_shares_over_many_draws(words):
    """Of 40,000 chosen tokens 80 % are masks; 10 % are drawn from 8 pieces, so 1/80 of all is the token itself."""
    ids = np.array([2, *[8] * 100, 3])
    random = np.random.default_rng(3)
    became = collections.Counter()
    for _ in range(2_000):
        masked, targets = mask(ids, words, random, 0.2)
        assert (targets != NO_TARGET).sum() == 20
        became.update(masked[targets != NO_TARGET].tolist())
    assert sum(became.values()) == 40_000
    assert became[4] / 40_000 == pytest.approx(0.8, abs=0.01)
    assert became[8] / 40_000 == pytest.approx(0.1 + 0.1 / 8, abs=0.01)
    for token in (5, 6, 7, 9, 10, 11, 12):
        assert became[token] / 40_000 == pytest.approx(0.1 / 8, abs=0.004)
    assert set(became) == set(range(4, 13))


def test_a_short_row_has_one_masked_token_and_long_words_are_passed_over(words):
    masked, targets = mask(np.array([2, 8, 3]), words, np.random.default_rng(0))
    assert targets.tolist() == [NO_TARGET, 8, NO_TARGET]
    _, targets = mask(np.array([2, 5, 6, 7, 3]), words, np.random.default_rng(0))  # three tokens, room for one
    assert (targets == NO_TARGET).all()
    masked, targets = mask(np.array([2, 1, 3]), words, np.random.default_rng(0))
    assert masked.tolist() == [2, 1, 3]
    assert (targets == NO_TARGET).all()


def test_long_texts_are_cut_at_words(wordpiece, words):
    ids = np.array([8, 5, 6, 7, 8, 9])  # a fe ##v ##er a 咳
    assert [part.tolist() for part in cut(ids, words, 3)] == [[8], [5, 6, 7], [8, 9]]
    assert [part.tolist() for part in cut(ids, words, 2)] == [[8], [5, 6], [7, 8], [9]]  # a word longer than a row
    assert [part.tolist() for part in cut(ids, words, 6)] == [ids.tolist()]
    rows = rows_of(["a fever a 咳", "", "a"], wordpiece, words, 5)
    assert [row.tolist() for row in rows] == [[2, 8, 3], [2, 5, 6, 7, 3], [2, 8, 9, 3], [2, 8, 3]]
    with pytest.raises(ValueError, match="max_tokens is 2; expected 3 or more"):
        rows_of(["a"], wordpiece, words, 2)


def test_unknown_tokens_of_wordpiece(wordpiece):
    counts = count_words(wordpiece, ["A fever, 痛痛 a", "fever 痛 xyz xyz"])
    # a fe ##v ##er [,] [痛] [痛] a; fe ##v ##er [痛] [xyz] [xyz]: 14 tokens, 6 of them unknown.
    unknown = unknown_tokens(wordpiece, counts)
    assert (unknown.num_tokens, unknown.num_unknown) == (14, 6)
    assert unknown.words == (("痛", 3), ("xyz", 2), (",", 1))
    # Unknown words first: a comma has no letter. "fever" would save 2 * 2 tokens.
    assert new_pieces(wordpiece, counts, 9) == ["痛", "xyz", "fever"]
    assert new_pieces(wordpiece, counts, 1) == ["痛"]


def test_new_pieces_have_no_marks_at_their_ends():
    counts = collections.Counter({",HB-V": 2, "▁(hi": 3, "▁hi)": 4, "▁x-y": 2, "▁12": 5, "z": 1})
    assert new_pieces(unigram(), counts, 9) == ["▁x-y"]


def test_new_pieces_of_wordpiece(wordpiece):
    extended = wordpiece.with_pieces(["fever", "痛"])
    assert extended.encode_few(["a fever 痛"], 9) == [[2, 8, 13, 14, 3]]
    assert extended.encode(["a fever 痛"], 9).to_list() == [[2, 8, 13, 14, 3]]
    assert extended.encode_few(["a fea 咳b"], 9) == wordpiece.encode_few(["a fea 咳b"], 9)


def test_new_pieces_of_unigram_win_and_change_no_other_text():
    tokenizer = unigram()
    counts = count_words(tokenizer, ["fever 咳痛嗽", "fever 痛"])
    unknown = unknown_tokens(tokenizer, counts)
    # ▁fe v er ▁ 咳 <unk> 嗽; ▁fe v er ▁ <unk>
    assert (unknown.num_tokens, unknown.num_unknown, unknown.words) == (12, 2, (("痛", 2),))
    words = new_pieces(tokenizer, counts, 5)
    assert words == ["痛", "▁fever"]
    assert [pieces_of(tokenizer, word) for word in words] == [[3], [5, 6, 7]]
    extended = tokenizer.with_pieces(words)
    assert extended.vocab_size == 17
    assert extended.encode_few(["fever 痛咳"], 9) == [[0, 16, 4, 15, 8, 2]]
    others = ["a咳er 嗽 fev", "fe ver", "x y 咳z", "aer r e"]
    assert extended.encode_few(others, 99) == tokenizer.encode_few(others, 99)
    assert unknown_tokens(extended, counts).num_unknown == 0


def test_a_new_piece_does_not_win_over_a_known_longer_one():
    pieces = [*PIECES[:-1], ["▁feverish", -9], ["ish", -6], ["<mask>", 0]]
    extended = unigram(pieces).with_pieces(["▁fever"])
    assert extended.decode(extended.encode_few(["fever feverish"], 9)[0]) == ["<s>", "▁fever", "▁feverish", "</s>"]


def test_vocabularies_that_cannot_be_extended():
    content = json.loads(unigram().reference.to_str())
    content["added_tokens"] = [
        {"id": 15, "content": "zz", "special": False, "single_word": False}
        | {"lstrip": False, "rstrip": False, "normalized": False}
    ]
    with pytest.raises(ValueError, match="16 ids, but 15 pieces"):
        JsonTokenizer(content, "<pad>", "t.json").with_pieces(["▁b"])
    content = json.loads(unigram().reference.to_str())
    content["model"] = {"type": "WordLevel", "vocab": {p[0]: i for i, p in enumerate(PIECES)}, "unk_token": "<unk>"}
    other = JsonTokenizer(content, "<pad>", "t.json")
    with pytest.raises(ValueError, match="type WordLevel, whose vocabulary cannot be extended"):
        other.with_pieces(["▁b"])
    with pytest.raises(ValueError, match="do not show where a word begins"):
        WholeWords.of(other)


def test_texts_of_files_and_prepared_rows(small, tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("one text\n<|endoftext|>\nanother text<|endoftext|>one text", encoding="utf-8")
    texts = read_texts([str(book)], None, 0.4, 1)
    assert sorted([*texts.train, *texts.dev]) == ["another text", "one text"]
    prepared = read_texts([], small, 0.0, 1)
    rows = PreparedFolder(small).table(["question", "answer", "split"]).to_pylist()
    train = {row[side] for row in rows if row["split"] == "train" for side in ("question", "answer")}
    dev = {row[side] for row in rows if row["split"] == "dev" for side in ("question", "answer")}
    assert set(prepared.train) == train
    assert set(prepared.dev) == dev - train
    assert len(prepared.train) == len(train)
    both = read_texts([str(book)], small, 0.4, 1)
    assert len(both.train) + len(both.dev) == len(prepared.train) + len(prepared.dev) + 2
    assert both.fingerprint() != prepared.fingerprint() == read_texts([], small, 0.0, 1).fingerprint()
    shared = sorted(dev - train)[0]
    book.write_text(shared, encoding="utf-8")  # of dev in the prepared rows, of train in the file
    assert set(read_texts([str(book)], small, 0.0, 1).dev) == dev - train - {shared}
    book.write_text("one text", encoding="utf-8")
    with pytest.raises(ValueError, match="There is no text"):
        read_texts([], None, 0.1, 1)
    with pytest.raises(ValueError, match="No text is in dev"):
        read_texts([str(book)], None, 0.0, 1)
