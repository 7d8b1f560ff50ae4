"""Tokenizers out of GGUF files: their ids are those of the tokenizer.json that the model is published with."""

import itertools
import json
import random

import gguf
import pytest
import regex

from data_pipeline.tokenizers import DecoderTokenizer
from docproduct.layers import gguf_tokenizers
from docproduct.layers.gguf_reader import GGUFFile
from tests import gguf_models
from tests.gguf_models import GOLDEN
from tests.reference import gpt2_bytes

TEXTS = GOLDEN["texts"]
PRE = {"llama3": "llama-bpe", "qwen25": "qwen2", "qwen3": "qwen2"}


def read(path, entry, pre="llama-bpe", change=None, skip=()):
    """Writes the metadata of a tokenizer, and makes files of Hugging Face of it."""
    writer = gguf.GGUFWriter(str(path), "llama")
    gguf_models.write_tokenizer(writer, entry, pre, skip)
    if change:
        change(writer)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.close):
        step()
    return gguf_tokenizers.from_metadata(GGUFFile(str(path)).metadata, "tiny.gguf")


@pytest.mark.parametrize("name", PRE)
def test_byte_level_ids_are_those_of_transformers(tmp_path, name):
    entry = GOLDEN["tokenizers"][name]
    content, config = read(tmp_path / "t.gguf", entry, PRE[name])
    tokenizer = DecoderTokenizer.from_json(content, config, "tiny.gguf")
    assert tokenizer.encode(TEXTS) == entry["ids"]
    original = DecoderTokenizer.from_json(entry["content"], entry["config"], name)
    assert (tokenizer.added, tokenizer.vocab_size) == (original.added, original.vocab_size)
    assert (tokenizer.end_ids, tokenizer.begin_id) == (original.end_ids, original.begin_id)
    assert tokenizer.chat_template == original.chat_template
    ids = [*tokenizer.added.values()]
    assert tokenizer.decode(ids) == original.decode(ids)  # `<think>` is text there and here


@pytest.mark.parametrize(
    ("pre", "patterns"),
    [
        ("gpt-2", []),
        ("smollm", [r"\p{N}"]),
        ("default", [r"[\p{P}\$\+<=>\^~\|]+", None, r"\p{N}+", r"[0-9][0-9][0-9]"]),
    ],
)
def test_pre_tokenizers_split_as_in_llama_cpp(tmp_path, pre, patterns):
    # unicode_regex_split: each pattern splits the pieces that are left by those before; what it skips is a piece, too.
    words = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    patterns = [pattern or words for pattern in patterns] if None in patterns else [*patterns, words]
    entry = GOLDEN["tokenizers"]["qwen3"]
    tokenizer = DecoderTokenizer.from_json(*read(tmp_path / "t.gguf", entry, pre), "tiny.gguf")
    model, characters = entry["content"]["model"], gpt2_bytes()
    ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
    dice = random.Random(1)
    alphabet = [*"abc 's'll  \n\t.,!-$<=12345ÄßéЖ中\u0301\u2028½٣", "😀", "don't", "1234567"]
    drawn = ["".join(dice.choices(alphabet, k=dice.randint(1, 30))) for _ in range(300)]
    for text in [*TEXTS, *drawn]:
        pieces = [text]
        for pattern in patterns:
            pieces = [part for piece in pieces for part in regex.split(f"({pattern})", piece) if part]
        parts = (merged([characters[byte] for byte in piece.encode()], ranks) for piece in pieces)
        assert tokenizer.encode([text]) == [[model["vocab"][token] for token in itertools.chain(*parts)]], text


def merged(parts, ranks):
    """Merges the adjacent pair of lowest rank, the first of several, until none is left."""
    while len(parts) > 1:
        rank, i = min((ranks.get(pair, float("inf")), i) for i, pair in enumerate(itertools.pairwise(parts)))
        if rank == float("inf"):
            break
        parts = [*parts[:i], parts[i] + parts[i + 1], *parts[i + 2 :]]
    return parts


def sentencepiece_ids(text, scores, ids, prefixed=True):
    """SentencePiece's algorithm: of adjacent pairs, the one that makes the piece of highest score is merged."""
    text = text.replace(" ", "\u2581")
    parts = list(f"\u2581{text}" if prefixed and text else text)
    while len(parts) > 1:
        score, i = max((scores.get(a + b, -1e9), -i) for i, (a, b) in enumerate(itertools.pairwise(parts)))
        if score == -1e9:
            break
        parts = [*parts[:-i], parts[-i] + parts[-i + 1], *parts[-i + 2 :]]
    found = []
    for part in parts:
        found += [ids[part]] if part in scores else [ids[f"<0x{byte:02X}>"] for byte in part.encode()]
    return found


@pytest.mark.parametrize("prefixed", [True, False])
def test_scores_give_sentencepieces_ids(tmp_path, prefixed):
    entry = GOLDEN["tokenizers"]["llama2"]
    content, config = read(
        tmp_path / "t.gguf", entry, change=lambda writer: writer.add_bool("tokenizer.ggml.add_space_prefix", prefixed)
    )
    tokenizer = DecoderTokenizer.from_json(content, config, "tiny.gguf")
    vocab = entry["content"]["model"]["vocab"]
    metadata = GGUFFile(str(tmp_path / "t.gguf")).metadata
    columns = (metadata[f"tokenizer.ggml.{name}"] for name in ("tokens", "scores", "token_type"))
    scores = {token: score for token, score, kind in zip(*columns, strict=True) if kind == 1}
    dice = random.Random(2)
    drawn = [
        "".join(dice.choices([*"the a in  \n12é中▁", "tion", "<s>", "😀"], k=dice.randint(1, 25))) for _ in range(300)
    ]
    for text in [*TEXTS, *drawn]:
        ids = sentencepiece_ids(text, scores, vocab, prefixed)
        assert tokenizer.encode([text]) == [ids], text
        assert tokenizer.decode(ids) == text.replace("\u2581", " ")
    assert tokenizer.added == {"<unk>": 0, "<s>": 1, "</s>": 2}


def test_ends_of_a_text(tmp_path):
    def change(writer):
        writer.add_eot_token_id(521)
        writer.add_uint32("tokenizer.ggml.eom_token_id", 522)
        writer.add_uint32("tokenizer.ggml.padding_token_id", 0)

    content, config = read(tmp_path / "t.gguf", GOLDEN["tokenizers"]["llama3"], change=change)
    assert DecoderTokenizer.from_json(content, config, "x").end_ids == (524, 521, 522)
    assert config["eos_token_id"] == [524, 521, 522]
    assert (config["bos_token"], config["eos_token"]) == ("<|begin_of_text|>", "<|eot_id|>")
    assert config["pad_token"] == min(content["model"]["vocab"], key=content["model"]["vocab"].get)


def test_a_text_begins_with_a_token_where_the_file_or_its_kind_says_so(tmp_path):
    def processor(name, pre="llama-bpe", add=None):
        def change(writer):
            if add is not None:
                writer.add_add_bos_token(add)

        return read(tmp_path / "t.gguf", GOLDEN["tokenizers"][name], pre, change)[0]["post_processor"]

    first = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    assert processor("llama2")["single"] == [first, {"Sequence": {"id": "A", "type_id": 0}}]
    assert processor("llama2")["special_tokens"]["<s>"]["ids"] == [1]
    assert processor("llama2", add=False) is None
    assert processor("llama3")["special_tokens"].keys() == {"<|begin_of_text|>"}
    assert processor("llama3", pre="gpt-2") is None
    assert processor("llama3", pre="gpt-2", add=True) is not None
    assert processor("qwen25", pre="qwen2", add=True) is None  # it has no such token


def test_unused_tokens_are_left_out(tmp_path):
    entry = json.loads(json.dumps(GOLDEN["tokenizers"]["llama3"]))
    writer = gguf.GGUFWriter(str(tmp_path / "t.gguf"), "llama")
    vocab = {
        token: i for i, token in enumerate([*entry["content"]["model"]["vocab"], "<|eot_id|>", "[PAD521]", "[PAD522]"])
    }
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list([*vocab])
    writer.add_token_types([1] * 520 + [3, 5, 5])
    writer.add_token_merges([" ".join(pair) for pair in entry["content"]["model"]["merges"]])
    writer.add_eos_token_id(520)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.close):
        step()
    content, config = gguf_tokenizers.from_metadata(GGUFFile(str(tmp_path / "t.gguf")).metadata, "x")
    tokenizer = DecoderTokenizer.from_json(content, config, "x")
    assert (tokenizer.vocab_size, tokenizer.begin_id, tokenizer.chat_template) == (521, None, None)
    assert tokenizer.with_added(["<question>"]).added["<question>"] == 521  # as in transformers


def test_llama_3_takes_a_word_of_its_vocabulary_as_it_is(tmp_path):
    entry = json.loads(json.dumps(GOLDEN["tokenizers"]["llama3"]))
    entry["content"]["model"]["vocab"]["xyzzy"] = 525  # no merges lead to it
    for pre, expected in [("llama-bpe", [525]), ("gpt-2", None)]:
        tokenizer = DecoderTokenizer.from_json(*read(tmp_path / "t.gguf", entry, pre), "x")
        (ids,) = tokenizer.encode(["xyzzy"])
        assert ids == expected if expected else len(ids) > 1


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", "bert", "tokenizer of the model 'bert'; expected gpt2"),
        ("model", None, "no tokenizer.ggml.model of type str"),
        ("tokens", [1, 2], "no tokenizer.ggml.tokens of type list of str"),
        ("tokens", ["a"] * 525, "a token twice"),
        ("token_type", [1], "525 tokens and 1 token types"),
        ("token_type", 3, "token_type of type list of int"),
        ("eos_token_id", 525, "the eos_token_id 525, and 525 tokens"),
        ("bos_token_id", "x", "the bos_token_id 'x'"),
        ("pre", "superbpe", "pre-tokenizer 'superbpe'; expected one of gpt-2, smollm, llama-bpe, qwen2, default"),
    ],
)
def test_metadata_that_is_wrong(tmp_path, key, value, message):
    read(tmp_path / "t.gguf", GOLDEN["tokenizers"]["llama3"])
    metadata = GGUFFile(str(tmp_path / "t.gguf")).metadata
    with pytest.raises(ValueError, match=f"x.gguf .*{message}"):
        gguf_tokenizers.from_metadata({**metadata, f"tokenizer.ggml.{key}": value}, "x.gguf")


def test_scores_that_are_missing(tmp_path):
    read(tmp_path / "t.gguf", GOLDEN["tokenizers"]["llama2"])
    metadata = GGUFFile(str(tmp_path / "t.gguf")).metadata
    for value, message in [(None, "no tokenizer.ggml.scores of type list of float"), ([0.0], "tokens and 1 scores")]:
        with pytest.raises(ValueError, match=message):
            gguf_tokenizers.from_metadata({**metadata, "tokenizer.ggml.scores": value}, "x.gguf")
