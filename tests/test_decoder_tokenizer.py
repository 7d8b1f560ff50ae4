"""Tokenizers of decoders: ids and texts are those of transformers, but no text gets the id of an added token."""

import copy
import json
import random

import numpy as np
import pytest

from data_pipeline.tokenizers import BytePairs, DecoderTokenizer, load_decoder_tokenizer, train_byte_pairs
from docproduct.layers import gguf_tokenizers
from docproduct.layers.gguf_reader import GGUFFile
from tests.gguf_models import GOLDEN

TEXTS, HOSTILE = GOLDEN["texts"], GOLDEN["hostile"]
SMALL = [name for name, entry in GOLDEN["tokenizers"].items() if "content" in entry]


def made(name, **config):
    entry = GOLDEN["tokenizers"][name]
    return DecoderTokenizer.from_json(entry["content"], entry["config"] | config, f"{name}/tokenizer.json")


def changed(name, path, value):
    """The content of a tokenizer.json with another value at a path of keys."""
    content = copy.deepcopy(GOLDEN["tokenizers"][name]["content"])
    *parents, last = path
    part = content
    for key in parents:
        part = part[key]
    part[last] = value
    return content


def write(folder, name, **files):
    entry = GOLDEN["tokenizers"][name]
    contents = {"tokenizer": entry["content"], "tokenizer_config": entry["config"], **files}
    for file, content in contents.items():
        if content is not None:
            (folder / f"{file}.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("name", SMALL)
def test_ids_and_texts_are_those_of_transformers(name):
    entry, tokenizer = GOLDEN["tokenizers"][name], made(name)
    assert tokenizer.encode(TEXTS) == entry["ids"]
    assert [tokenizer.decode(ids) for ids in entry["ids"]] == entry["decoded"]
    assert tokenizer.encode([]) == []
    assert tokenizer.decode(np.array(entry["ids"][4], np.int32)) == entry["decoded"][4]


def test_smollm2(smollm2):
    tokenizer = DecoderTokenizer.from_json(*gguf_tokenizers.from_metadata(GGUFFile(smollm2).metadata, smollm2), smollm2)
    golden = GOLDEN["tokenizers"]["smollm2"]
    assert tokenizer.encode(TEXTS) == golden["ids"]
    assert [tokenizer.decode(ids) for ids in golden["ids"]] == golden["decoded"] == TEXTS
    assert (tokenizer.vocab_size, tokenizer.begin_id, tokenizer.end_ids) == (49_152, 1, (2,))
    assert tokenizer.chat_template.startswith("{% for message in messages %}")
    assert not {*np.concatenate(tokenizer.encode(HOSTILE)).tolist()} & {*tokenizer.added.values()}


@pytest.mark.parametrize("name", SMALL)
def test_no_text_gets_the_id_of_an_added_token(name):
    tokenizer, dice = made(name), random.Random(4)
    pieces = [*tokenizer.added, *"<|_>[]/ \nse", "im", "\ue000", "\ue001", "520", "0."]
    drawn = ["".join(dice.choices(pieces, k=dice.randint(1, 12))) for _ in range(300)]
    for text, ids in zip([*drawn, *HOSTILE], tokenizer.encode([*drawn, *HOSTILE]), strict=True):
        assert not {*ids} & {*tokenizer.added.values()}, text
        assert tokenizer.decode(ids) in (text, text.removeprefix(" ")), text


@pytest.mark.parametrize("name", SMALL)
def test_a_text_in_pieces_never_shows_half_a_character(name):
    tokenizer = made(name)
    for text in [*TEXTS, *HOSTILE, "中😀 x😀"]:
        (ids,) = tokenizer.encode([text])
        shown = [tokenizer.decode_finished(ids[:i]) for i in range(len(ids) + 1)]
        assert all(
            later.startswith(part) for part, later in zip(shown, [*shown[1:], tokenizer.decode(ids)], strict=True)
        )
    assert shown[-1] == "中😀 x😀"  # the last character needs no further id


def test_an_added_token_that_merges_could_make():
    # "he" is a piece of the vocabulary here, and "the" is merged from it.
    vocab = GOLDEN["tokenizers"]["llama3"]["content"]["model"]["vocab"]
    content = changed("llama3", ["version"], "1.0")
    content["added_tokens"].append(content["added_tokens"][0] | {"id": vocab["he"], "content": "he"})
    tokenizer = DecoderTokenizer.from_json(content, GOLDEN["tokenizers"]["llama3"]["config"], "x")
    texts = ["he", " he", "the other, he"]
    for text, ids in zip(texts, tokenizer.encode(texts), strict=True):
        assert vocab["he"] not in ids
        assert tokenizer.decode(ids) == text
    assert tokenizer.encode_parts([vocab["he"], "he"]) == [vocab["he"], vocab["h"], vocab["e"]]


def test_bytes_that_are_no_character_spoil_no_others():
    # The package makes five U+FFFD of these bytes, and takes back the 中 that was shown before.
    tokenizer = made("llama2")
    vocab = GOLDEN["tokenizers"]["llama2"]["content"]["model"]["vocab"]
    ids = [vocab[f"<0x{byte:02X}>"] for byte in [*"中".encode(), 0xFF, 0xE4]]
    assert [tokenizer.decode_finished(ids[:i]) for i in range(6)] == ["", "", "", "中", "中", "中"]
    assert tokenizer.decode(ids) == "中\ufffd\ufffd"


def test_added_tokens():
    tokenizer = made("qwen3")
    assert tokenizer.added == {
        "<|endoftext|>": 520, "<|im_start|>": 521, "<|im_end|>": 522, "<think>": 523, "</think>": 524,
        "<tool_response>": 525,
    }  # fmt: skip
    assert (tokenizer.end_id, tokenizer.end_ids, tokenizer.begin_id, tokenizer.vocab_size) == (522, (522,), None, 526)
    (hot,) = tokenizer.encode(["hot"])
    ids = [521, 523, *hot, 524, *hot, 522]
    assert tokenizer.decode(ids) == "<think>hot</think>hot"  # they are not special
    assert tokenizer.decode([*hot, 526, 9_999]) == "hot"  # rows that a published table has beyond its vocabulary
    assert tokenizer.show(ids) == "<|im_start|> <think> hot </think> hot <|im_end|>"


def test_with_added():
    for name in SMALL:
        tokenizer = made(name)
        more = tokenizer.with_added(["<question>", *tokenizer.added, "<end>"])
        first = tokenizer.vocab_size
        assert more.added == tokenizer.added | {"<question>": first, "<end>": first + 1}
        assert (more.vocab_size, more.end_ids) == (first + 2, tokenizer.end_ids)
        assert more.encode(["hot <end>"]) == tokenizer.encode(["hot <end>"])
        assert more.decode([*tokenizer.encode(["hot"])[0], first]) == "hot"
        assert more.fingerprint != tokenizer.fingerprint
        with pytest.raises(ValueError, match=r"stand there already or twice: \['e'\]"):
            tokenizer.with_added(["e"])
        with pytest.raises(ValueError, match="twice"):
            tokenizer.with_added(["<a>", "<a>"])


def test_bytes_of_ids():
    for name in SMALL:
        tokenizer = made(name)
        sizes = tokenizer.token_bytes()
        assert len(sizes) == tokenizer.vocab_size
        assert all(sizes[i] == 0 for i in tokenizer.added.values())
        text = "Rest \U0001f600 helps, caf\u00e9."
        (ids,) = tokenizer.encode([text])
        blank = name in ("llama2", "mistral")  # which stands before every text
        assert sum(sizes[i] for i in ids) == len(text.encode()) + blank


def test_parts_with_added_tokens_are_encoded_as_one_text():
    tokenizer = made("qwen3")
    start, end = tokenizer.added["<|im_start|>"], tokenizer.added["<|im_end|>"]
    (whole,) = tokenizer.encode(["What helps?"])
    assert tokenizer.encode_parts(["What he", "lps?"]) == whole
    assert tokenizer.encode_parts([start, "What he", "", "lps?", end, end]) == [start, *whole, end, end]
    assert tokenizer.encode_parts(["<|im_start|>", start, "<|im_end|>"]) == [
        *tokenizer.encode(["<|im_start|>"])[0],
        start,
        *tokenizer.encode(["<|im_end|>"])[0],
    ]
    assert tokenizer.encode_parts([]) == []
    with pytest.raises(ValueError, match=r"\[5, 600\] are no ids of added tokens of qwen3/tokenizer.json"):
        tokenizer.encode_parts([600, 5, start])


def test_an_added_token_that_is_matched_in_normalized_text():
    # The package puts the blank that begins a text before the token, too, and then finds it only there.
    content = changed("llama2", ["added_tokens", 1, "normalized"], True)
    tokenizer = DecoderTokenizer.from_json(content, GOLDEN["tokenizers"]["llama2"]["config"], "tokenizer.json")
    assert tokenizer.encode_parts([1, "a"])[0] == 1
    with pytest.raises(ValueError, match="hides added tokens inside a text. Set their"):
        tokenizer.encode_parts(["a", 1, "b"])


def test_a_piece_of_white_space_that_is_declared_as_an_added_token_is_text():
    content = changed("qwen3", ["model", "type"], "BPE")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    content["added_tokens"].append({"id": 526, "content": "   ", **flags})
    tokenizer = DecoderTokenizer.from_json(content, {"eos_token": "<|im_end|>"}, "x")
    assert 526 in tokenizer.encode(["a   b"])[0]
    assert tokenizer.decode(tokenizer.encode(["a   b"])[0]) == "a   b"
    assert "   " not in tokenizer.added
    assert (tokenizer.vocab_size, tokenizer.token_bytes()[526]) == (527, 3)


def test_a_character_without_a_piece_is_left_out():
    content = changed("llama2", ["model", "byte_fallback"], False)
    tokenizer = DecoderTokenizer.from_json(content, GOLDEN["tokenizers"]["llama2"]["config"], "x")
    assert tokenizer.decode(tokenizer.encode(["a\U0001f600b"])[0]) == "ab"  # rather than the id of <unk>


@pytest.mark.parametrize("name", SMALL)
def test_a_saved_folder_gives_the_same_tokenizer(tmp_path, name):
    tokenizer = made(name, eos_token_id=[520, 519]).with_added(["<question>"])
    tokenizer.save(str(tmp_path))
    again = DecoderTokenizer.load(str(tmp_path))
    for attribute in ("fingerprint", "vocab_size", "end_ids", "begin_id", "added", "special_tokens", "chat_template"):
        assert getattr(again, attribute) == getattr(tokenizer, attribute), attribute
    assert again.encode(TEXTS) == tokenizer.encode(TEXTS) == GOLDEN["tokenizers"][name]["ids"]


def test_merges_in_either_form_give_the_same_fingerprint():
    merges = GOLDEN["tokenizers"]["llama3"]["content"]["model"]["merges"]
    content = changed("llama3", ["model", "merges"], [" ".join(pair) for pair in merges])
    tokenizer = DecoderTokenizer.from_json(content, GOLDEN["tokenizers"]["llama3"]["config"], "x")
    assert tokenizer.fingerprint == made("llama3").fingerprint
    assert made("qwen3").fingerprint == made("qwen25").fingerprint != made("llama3").fingerprint


def test_ends_come_from_the_tokenizer_and_the_generation_config(tmp_path):
    write(tmp_path, "llama3", generation_config={"eos_token_id": [521, 524, 523]}, config={"eos_token_id": 5})
    assert DecoderTokenizer.load(str(tmp_path)).end_ids == (524, 521, 523)
    write(tmp_path, "llama3", generation_config={}, config={"eos_token_id": 521})
    assert DecoderTokenizer.load(str(tmp_path)).end_ids == (524, 521)
    write(tmp_path, "llama3", tokenizer_config={}, generation_config={"eos_token_id": 0})
    tokenizer = DecoderTokenizer.load(str(tmp_path))
    assert (tokenizer.end_ids, tokenizer.begin_id, tokenizer.chat_template) == ((0,), None, None)
    write(tmp_path, "llama3", tokenizer_config={}, generation_config={}, config={})
    with pytest.raises(ValueError, match=r"has the end ids \[\]; expected at least one id below 525"):
        DecoderTokenizer.load(str(tmp_path))


def test_names_and_templates_in_all_their_places(tmp_path):
    config = {"eos_token": {"content": "<|eot_id|>", "lstrip": False}, "bos_token": None}
    config["added_tokens_decoder"] = {"525": {"content": "<|extra|>", "special": True}}
    write(tmp_path, "llama3", tokenizer_config=config, added_tokens={"<later>": 526})
    (tmp_path / "special_tokens_map.json").write_text('{"pad_token": "<|end_of_text|>", "eos_token": "other"}')
    tokenizer = DecoderTokenizer.load(str(tmp_path))
    assert tokenizer.special_tokens == {"eos_token": "<|eot_id|>", "pad_token": "<|end_of_text|>"}
    assert (tokenizer.added["<|extra|>"], tokenizer.added["<later>"], tokenizer.vocab_size) == (525, 526, 527)
    assert tokenizer.decode([525, 526]) == "<later>"
    templates = [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]
    assert made("llama3", chat_template=templates).chat_template == "b"
    with pytest.raises(ValueError, match=r"several chat templates \(tool_use\), none of which has the name default"):
        made("llama3", chat_template=templates[:1])
    with pytest.raises(ValueError, match="chat_template of type int; expected text"):
        made("llama3", chat_template=3)
    (tmp_path / "chat_template.jinja").write_text("{{ 1 }}\n", encoding="utf-8")
    assert DecoderTokenizer.load(str(tmp_path)).chat_template == "{{ 1 }}\n"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["model"], {"type": "Unigram", "vocab": [["a", 0.0]]}, "model of type Unigram; expected BPE"),
        (["model"], {"type": "WordPiece", "vocab": {"a": 0}}, "model of type WordPiece; expected BPE"),
        (["model"], {}, "model of type none; expected BPE"),
        (["model", "vocab"], {}, "no vocab or no merges"),
        (["model", "merges"], None, "no vocab or no merges|model of type none"),
        (["model", "vocab"], {"a": -1}, "ids that are no whole numbers"),
        (["model", "merges"], [["a", "b", "c"]], r"the merge \['a', 'b', 'c'\]"),
        (["model", "merges"], [["never", "met"]], "cannot be read .*Expected a tokenizer.json"),
        (["model", "end_of_word_suffix"], "</w>", "end_of_word_suffix, which is not built in"),
        (["pre_tokenizer"], {"type": "Whitespace"}, "neither byte-level .* nor of SentencePiece"),
        (["decoder"], None, "decoder that is not built in"),
        (["decoder"], {"type": "BPEDecoder", "suffix": "</w>"}, "decoder that is not built in"),
        (["added_tokens", 0, "id"], 3, "gives the added token '<|begin_of_text|>' the id 3"),
        (["added_tokens", 0, "id"], 521, "gives the added token '<|end_of_text|>' the id 521"),
        (["added_tokens", 0], "x", "added_tokens that are no list of objects"),
        (["decoder"], [1], "decoder that is no object"),
        (["model", "merges"], [3], "the merge 3"),
        (["added_tokens", 0, "id"], "x", "the id 'x'; expected a whole number"),
        (["added_tokens", 0, "content"], "", "expected a content"),
    ],
)
def test_what_is_damaged_or_not_built_in_is_named(path, value, message):
    content = changed("llama3", path, value)
    config = {"eos_token": "<|eot_id|>"}
    with pytest.raises(ValueError, match=f"where.json.*({message})".replace("<|", r"<\|").replace("|>", r"\|>")):
        DecoderTokenizer.from_json(content, config, "where.json")


def test_files_that_are_missing_or_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no tokenizer.json. Expected the folder of a decoder"):
        DecoderTokenizer.load(str(tmp_path))
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match=r"as tokenizer.model alone. .*transformers import AutoTokenizer"):
        load_decoder_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        load_decoder_tokenizer(str(tmp_path))
    for name in ("tokenizer", "tokenizer_config", "generation_config", "config"):
        write(tmp_path, "llama3", generation_config={}, config={})
        (tmp_path / f"{name}.json").write_text("[1]")
        with pytest.raises(ValueError, match=f"{name}.json holds list; expected an object"):
            load_decoder_tokenizer(str(tmp_path))
    with pytest.raises(ValueError, match=r"no token '<end>', which is its eos_token"):
        made("llama3", eos_token="<end>")
    with pytest.raises(ValueError, match="added_tokens_decoder beside .* cannot be read"):
        made("llama3", added_tokens_decoder={"x": {"content": "a"}})


def test_the_kind_of_tokenizer_is_chosen_by_the_folder(tmp_path):
    byte_pairs = train_byte_pairs(TEXTS * 2, 300)
    byte_pairs.save(str(tmp_path))
    assert load_decoder_tokenizer(str(tmp_path)).fingerprint == byte_pairs.fingerprint
    byte_pairs._tokenizer.save(str(tmp_path / "tokenizer.json"))  # as GPT-2's folder has it, too
    assert isinstance(load_decoder_tokenizer(str(tmp_path)), BytePairs)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": "{{ 1 }}"}))
    chat = load_decoder_tokenizer(str(tmp_path))
    assert isinstance(chat, DecoderTokenizer)
    assert chat.encode(TEXTS) == byte_pairs.encode(TEXTS)
    assert (chat.end_id, chat.vocab_size) == (byte_pairs.end_id, byte_pairs.vocab_size)
    for name in SMALL:  # SmolLM2 and Qwen publish vocab.json and merges.txt beside tokenizer.json
        write(tmp_path, name)
        assert isinstance(load_decoder_tokenizer(str(tmp_path)), DecoderTokenizer)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"has no tokenizer.json"):
        load_decoder_tokenizer(str(tmp_path / "empty"))
