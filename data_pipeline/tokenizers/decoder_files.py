"""Reads and checks the files of a decoder's tokenizer; see `decoder_tokenizer`."""

import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any

from data_pipeline.folders import files

JSON_FILE, CONFIG_FILE, TEMPLATE_FILE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
_MARKS_FILE, _ADDED_FILE = "special_tokens_map.json", "added_tokens.json"
_GENERATION_FILE, _MODEL_FILE = "generation_config.json", "config.json"
_SENTENCEPIECE_FILES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
_BLANK = "\u2581"
_WRITE_JSON = (
    'python -c "from transformers import AutoTokenizer as T; T.from_pretrained({folder!r}).save_pretrained({folder!r})"'
)


def read(folder: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the content of tokenizer.json, and what the other files of a folder say as one tokenizer_config.json.

    Raises:
      FileNotFoundError: there is no tokenizer.json.
      ValueError: a file is damaged.
    """
    content = files.read_json(os.path.join(folder, JSON_FILE))
    if content is None:
        raise FileNotFoundError(_nothing_in(folder))
    config = _object(folder, _MARKS_FILE) | _object(folder, CONFIG_FILE)
    if os.path.isfile(template := os.path.join(folder, TEMPLATE_FILE)):
        config["chat_template"] = files.read_text(template)
    # Ends of a generation configuration come before those of the model's, as in transformers.
    for name in (_GENERATION_FILE, _MODEL_FILE):
        if config.get("eos_token_id") is None:
            config["eos_token_id"] = _object(folder, name).get("eos_token_id")
    later = {
        str(number): {"content": token, "special": False} for token, number in _object(folder, _ADDED_FILE).items()
    }
    config["added_tokens_decoder"] = later | (config.get("added_tokens_decoder") or {})
    return content, config


def _object(folder: str, name: str) -> dict[str, Any]:
    """Returns the content of a JSON file that holds an object; an empty one if the file is missing."""
    path = os.path.join(folder, name)
    content = files.read_json(path)
    if content is not None and not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__}; expected an object. Write or fetch it again.")
    return content or {}


def _nothing_in(folder: str) -> str:
    for name in _SENTENCEPIECE_FILES:
        if os.path.isfile(os.path.join(folder, name)):
            return (
                f"{folder} has its tokenizer as {name} alone. Expected {JSON_FILE}, which transformers writes: "
                f"{_WRITE_JSON.format(folder=folder)}"
            )
    return f"{folder} has no {JSON_FILE}. Expected the folder of a decoder, such as SmolLM2, with its tokenizer."


def special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns {name: token} of the special tokens that a configuration names."""
    named = {name: config.get(name) for name in _NAMES}
    tokens = {name: token.get("content") if isinstance(token, Mapping) else token for name, token in named.items()}
    return {name: token for name, token in tokens.items() if isinstance(token, str)}


def end_ids(config: Mapping[str, Any]) -> list[int]:
    """Returns a configuration's eos_token_id, an id or several, as a list."""
    ids = config.get("eos_token_id")
    if ids is None:
        return []
    return list(ids) if isinstance(ids, list | tuple) else [ids]


def chat_template(config: Mapping[str, Any], where: str) -> str | None:
    """Returns a configuration's chat template; of several, the one with the name default.

    Raises:
      ValueError: none of several is the default, or it is no text.
    """
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, Mapping)}
        if "default" not in named:
            raise ValueError(
                f"{where} comes with several chat templates ({', '.join(map(str, named))}), none of which has the name "
                f"default. Give one of them in {TEMPLATE_FILE}."
            )
        template = named["default"]
    if template is not None and not isinstance(template, str):
        raise ValueError(f"{where} comes with a chat_template of type {type(template).__name__}; expected text.")
    return template


def with_config(content: Mapping[str, Any], config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns a tokenizer.json with the added tokens that only its tokenizer_config.json has."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} holds {type(content).__name__}; expected an object. Write or fetch it again.")
    entries = _entries(content, where)
    known = {entry["content"] for entry in entries}
    try:
        later = {int(number): entry for number, entry in (config.get("added_tokens_decoder") or {}).items()}
        entries += [
            {
                "id": number,
                **{flag: entry.get(flag, usual) for flag, usual in _FLAGS.items()},
                "content": entry["content"],
            }
            for number, entry in sorted(later.items())
            if entry["content"] not in known
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"The added_tokens_decoder beside {where} cannot be read ({error!r}). Expected ids with a content each."
        ) from error
    return {**content, "added_tokens": entries}


def _entries(content: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    entries = content.get("added_tokens") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{where} has added_tokens that are no list of objects. Write or fetch it again.")
    if wrong := [entry for entry in entries if not isinstance(entry.get("content"), str) or not entry["content"]]:
        raise ValueError(f"{where} has the added token {wrong[0]}; expected a content. Write or fetch it again.")
    return entries


def checked(content: Mapping[str, Any], named: Mapping[str, str], where: str) -> dict[str, Any]:
    """Returns a tokenizer.json in one form, after a check that it is of a kind that is built in.

    Merges are pairs, every added token has all of its flags, and the tokens that begin and end a text are added tokens.

    Raises:
      ValueError: it is damaged, or of another kind.
    """
    for name in ("model", "normalizer", "pre_tokenizer", "decoder"):
        if not isinstance(content.get(name), Mapping | None):
            raise ValueError(f"{where} has a {name} that is no object. Write or fetch it again.")
    model = content.get("model") or {}
    kind = model.get("type", "BPE" if "merges" in model else "none")
    vocab, merges = model.get("vocab"), model.get("merges")
    if kind != "BPE":
        raise ValueError(
            f"{where} has a model of type {kind}; expected BPE, as Llama, Mistral, Qwen and SmolLM have it. Other "
            "decoders are not built in."
        )
    if not isinstance(vocab, dict) or not isinstance(merges, list) or not vocab:
        raise ValueError(f"{where} has no vocab or no merges. Write or fetch it again.")
    if any(not isinstance(number, int) or number < 0 for number in vocab.values()):
        raise ValueError(f"{where} has ids that are no whole numbers from 0 on. Write or fetch it again.")
    if affixes := [name for name in ("continuing_subword_prefix", "end_of_word_suffix") if model.get(name)]:
        raise ValueError(
            f"{where} has a {affixes[0]}, which is not built in. Expected a byte-level or SentencePiece BPE."
        )
    pairs = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in merges]
    if wrong := [pair for pair in pairs if not isinstance(pair, list) or list(map(type, pair)) != [str, str]]:
        raise ValueError(f"{where} has the merge {wrong[0]}; expected two tokens. Write or fetch it again.")
    usual = {"normalizer": None, "pre_tokenizer": None, "decoder": None, "version": "1.0"}
    content = {**usual, **content, "model": {**model, "type": "BPE", "merges": pairs}}
    if not is_byte_level(content) and not _is_sentencepiece(content):
        raise ValueError(
            f"{where} is neither byte-level (a pre_tokenizer ByteLevel) nor of SentencePiece (byte_fallback, {_BLANK} "
            "for blanks). Other byte pairs are not built in."
        )
    return {**content, "added_tokens": _added(content, vocab, named, where)}


def _added(
    content: Mapping[str, Any], vocab: Mapping[str, int], named: Mapping[str, str], where: str
) -> list[dict[str, Any]]:
    """Returns the entries of added tokens in the order of their ids, with those that begin and end a text."""
    entries = [_FLAGS | entry for entry in _entries(content, where)]
    known = {entry["content"] for entry in entries}
    ends = [named.get(name) for name in ("bos_token", "eos_token")]
    new = {token: vocab[token] for token in ends if token not in known and token in vocab}
    entries += [_FLAGS | {"id": number, "content": token, "normalized": False} for token, number in new.items()]
    names = {number: token for token, number in vocab.items()}
    for entry in entries:
        token, number = entry["content"], entry.get("id")
        if not isinstance(number, int) or number < 0:
            raise ValueError(f"{where} gives the added token {token!r} the id {number!r}; expected a whole number.")
        entry["special"] = entry["special"] or token in named.values()
        if vocab.get(token, number) != number or names.setdefault(number, token) != token:
            raise ValueError(
                f"{where} gives the added token {token!r} the id {number}, which does not fit its other tokens. Give "
                "the files of one model."
            )
    return sorted(entries, key=lambda entry: entry["id"])


def is_white_space(entry: Mapping[str, Any]) -> bool:
    """Returns whether an added token is a piece of text: a run of blanks or line breaks that is not special."""
    return not entry["special"] and not entry["content"].replace(_BLANK, " ").strip()


def is_byte_level(content: Mapping[str, Any]) -> bool:
    """Returns whether a tokenizer.json spells tokens in GPT-2's alphabet of bytes."""
    all_steps = [step for name in ("normalizer", "pre_tokenizer") for step in steps(content.get(name))]
    return any(step["type"] == "ByteLevel" for step in all_steps)


def _is_sentencepiece(content: Mapping[str, Any]) -> bool:
    kinds = [step["type"] for step in steps(content["pre_tokenizer"])]
    replaced = [step.get("content") for step in steps(content["normalizer"]) if step["type"] == "Replace"]
    return bool(content["model"].get("byte_fallback")) or "Metaspace" in kinds or _BLANK in replaced


def steps(step: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Yields the steps of a normalizer or pre-tokenizer."""
    if isinstance(step, Mapping) and step.get("type") == "Sequence":
        parts = step.get("normalizers") or step.get("pretokenizers")
        for part in parts if isinstance(parts, list) else []:
            yield from steps(part)
    elif isinstance(step, Mapping):
        yield {"type": None, **step}


@functools.cache
def byte_alphabet() -> dict[int, str]:
    """Returns {byte: character} of GPT-2, which spells bytes in printable characters; see `bytes_to_unicode` there."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def has_gpt2_files(folder: str) -> bool:
    """Returns whether a folder has a GPT-2's vocabulary or merges; see `BytePairs.load`."""
    names = ("vocab.json", "merges.txt", "encoder.json", "vocab.bpe")
    return any(os.path.isfile(os.path.join(folder, name)) for name in names)


def is_gpt2(content: Any, config: Mapping[str, Any], end: str) -> bool:
    """Returns whether `BytePairs` gives the ids of a tokenizer.json: a GPT-2's, without a chat template.

    Args:
      content: of tokenizer.json.
      config: see `read`.
      end: the token that ends a text in a GPT-2, the only added token.
    """
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        return False
    model, split = content["model"], content.get("pre_tokenizer") or {}
    options = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges")
    added = {entry.get("content") for entry in content.get("added_tokens") or []}
    added |= {entry.get("content") for entry in config["added_tokens_decoder"].values()}
    return (
        model.get("type") == "BPE"
        and not any(model.get(option) for option in options)
        and content.get("normalizer") is None
        and split.get("type") == "ByteLevel"
        and not split.get("add_prefix_space")
        and split.get("use_regex", True)
        and added <= {end}
        and special_tokens(config).get("eos_token", end) == end
        and config.get("chat_template") is None
    )
