import csv
import json
import random

import pytest

from data_pipeline.tokenizers import BytePairs, train_byte_pairs
from docproduct import sample
from tests.reference import gpt2_ids

TEXTS = [
    "",
    " ",
    "What's a  stroke?\n\n  It's 3.5 mg, they'll say;don't'll",
    "naïve café 中文字符 한국어 \u200b\xa0 \U0001f600 e\u0301 ٣٤ Ⅷ ½",
    "<|endoftext|> is text, <question> too",
    "\x00\x07tabs\tand\r\nlines \n end  ",
    "\ufffd",
]


@pytest.fixture(scope="module")
def answers():
    with open(sample.PAIRS_FILE, encoding="utf-8", newline="") as file:
        return [row["answer"] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def bpe(answers):
    return train_byte_pairs(answers, 1_000, ["<question>", "<answer>"])


@pytest.fixture(scope="module")
def folder(bpe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bpe")
    bpe.save(str(folder))
    return folder


def tables(folder):
    vocab = json.loads((folder / "vocab.json").read_text())
    lines = (folder / "merges.txt").read_text().split("\n")[1:-1]
    return vocab, {tuple(line.split(" ")): rank for rank, line in enumerate(lines)}


def test_ids_are_those_of_openais_algorithm(bpe, folder, answers):
    vocab, ranks = tables(folder)
    dice, words = random.Random(0), {}
    alphabet = [
        *"abc xyz'  \n\t.,!-_0123ÄßéñЖ中漢あ한\u0301\u200d\xa0\u2028",
        "\U0001f468",
        "'s",
        "'ll",
        "<|endoftext|>",
    ]
    drawn = ["".join(dice.choices(alphabet, k=dice.randint(1, 40))) for _ in range(500)]
    texts = [*TEXTS, *answers[:50], *drawn]
    assert bpe.encode(texts) == [gpt2_ids(text, vocab, ranks, words) for text in texts]


def test_ids_give_the_text_back(bpe):
    for text, ids in zip(TEXTS, bpe.encode(TEXTS), strict=True):
        assert bpe.decode(ids) == text
        assert max(ids, default=0) < bpe.vocab_size - 2
        assert bpe.end_id not in ids


def test_the_end_and_added_tokens_are_ids_that_no_text_gets(bpe):
    assert bpe.added == {"<question>": bpe.vocab_size - 2, "<answer>": bpe.vocab_size - 1}
    (ids,) = bpe.encode(["hot"])
    assert bpe.decode([bpe.added["<question>"], *ids, bpe.end_id]) == "hot"
    assert bpe.decode([*ids, bpe.vocab_size + 3]) == "hot"  # a row that a published table has beyond its vocabulary
    assert bpe.show([bpe.added["<question>"], *ids, bpe.end_id]) == "<question> hot <|endoftext|>"
    more = bpe.with_added(["<end>", "<question>"])
    assert more.added == bpe.added | {"<end>": bpe.vocab_size}
    assert more.encode(["hot <end>"]) == bpe.encode(["hot <end>"])
    assert more.fingerprint != bpe.fingerprint


def test_a_text_in_pieces_never_shows_half_a_character(bpe):
    text = "fièvre \U0001f600 中"
    (ids,) = bpe.encode([text])
    shown = [bpe.decode_finished(ids[:i]) for i in range(len(ids) + 1)]
    assert all(text.startswith(part) for part in shown)
    assert shown[-1] == text


def test_folders_in_each_layout_give_the_same_tokenizer(bpe, folder, tmp_path):
    again = BytePairs.load(str(folder))
    assert (again.fingerprint, again.vocab_size, again.added) == (bpe.fingerprint, bpe.vocab_size, bpe.added)
    (tmp_path / "encoder.json").write_text((folder / "vocab.json").read_text())
    (tmp_path / "vocab.bpe").write_text((folder / "merges.txt").read_text())
    openai = BytePairs.load(str(tmp_path))
    for name in ("encoder.json", "vocab.bpe"):  # as saved on Windows
        text = (tmp_path / name).read_text().replace("\n", "\r\n")
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert BytePairs.load(str(tmp_path)).fingerprint == openai.fingerprint
    assert openai.with_added(["<question>", "<answer>"]).fingerprint == bpe.fingerprint
    (tmp_path / "joint").mkdir()
    bpe._tokenizer.save(str(tmp_path / "joint/tokenizer.json"))
    assert BytePairs.load(str(tmp_path / "joint")).fingerprint == openai.fingerprint


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("merges.txt", None, FileNotFoundError, "no merges.txt"),
        ("vocab.json", None, FileNotFoundError, "no vocab.json"),
        ("vocab.json", "{", ValueError, "not valid JSON"),
        ("vocab.json", '{"a": 0, "<|endoftext|>": 2}', ValueError, "2 ids are not 0 to 1"),
        ("vocab.json", '{"a": 0}', ValueError, "no <|endoftext|>"),
        ("merges.txt", "a b c\n", ValueError, "the line 'a b c'"),
        ("merges.txt", "never met\n", ValueError, "name 3 tokens that the vocabulary has not"),
    ],
)
def test_files_that_do_not_fit_are_named(folder, tmp_path, name, content, error, message):
    for file in ("vocab.json", "merges.txt"):
        (tmp_path / file).write_text((folder / file).read_text())
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(error, match=message.replace("|", r"\|")):
        BytePairs.load(str(tmp_path))


def test_what_cannot_be_a_tokenizer(bpe, tmp_path):
    with pytest.raises(FileNotFoundError, match="has no tokenizer. Expected vocab.json and merges.txt, encoder.json"):
        BytePairs.load(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}}')
    with pytest.raises(ValueError, match="another kind of tokenizer"):
        BytePairs.load(str(tmp_path))
    with pytest.raises(ValueError, match="vocab_size is 100; expected 257 or more"):
        train_byte_pairs(["a"], 100)
    with pytest.raises(ValueError, match="stand there already or twice: .*endoftext"):
        bpe.with_added(["<|endoftext|>"])
