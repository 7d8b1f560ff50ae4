"""Makes the tokenizer.json of Hugging Face from the metadata of a GGUF file.

A GGUF file names its pre-tokenizer (tokenizer.ggml.pre), and leaves it to the reader to know the pattern by which it
splits texts. Sources: the tokenizer.json that SmolLM2, Llama 3, Qwen 2.5 and GPT-2 publish; for `default`, which stands
for no known model, llama.cpp's `llama-vocab.cpp`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)  # kinds of tokens
_BLANK = "\u2581"  # stands for a blank in SentencePiece's tokens
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
_LLAMA3 += r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_PUNCTUATION, _DIGITS, _THREE_DIGITS = r"[\p{P}\$\+<=>\^~\|]+", r"\p{N}+", r"[0-9][0-9][0-9]"


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


_WORDS_AND_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_BYTES = _WORDS_AND_BYTES | {"use_regex": False}
# The steps that split a text, by the name of the pre-tokenizer.
_STEPS = {
    "gpt-2": [_WORDS_AND_BYTES],
    "smollm": [{"type": "Digits", "individual_digits": True}, _WORDS_AND_BYTES],
    "llama-bpe": [_split(_LLAMA3), _BYTES],
    "qwen2": [_split(_LLAMA3.replace("{1,3}", "")), _BYTES],
    "default": [*map(_split, (_PUNCTUATION, _GPT2, _DIGITS, _THREE_DIGITS)), _BYTES],
}
_SAME = {"llama3": "llama-bpe", "llama-v3": "llama-bpe", "deepseek-r1-qwen": "qwen2"}
_NAMES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def from_metadata(metadata: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what tokenizer.json and tokenizer_config.json of a model would hold.

    Beside the special tokens, the second has chat_template, and eos_token_id with every id that ends a text.

    Args:
      metadata: of the GGUF file.
      where: the file, for errors.

    Raises:
      ValueError: the metadata is incomplete or contradicts itself, or the tokenizer is of a kind that is not built in.
    """
    kind, tokens = _required(metadata, "model", str, where), _list(metadata, "tokens", str, where)
    kinds = [_NORMAL] * len(tokens)
    if "tokenizer.ggml.token_type" in metadata:
        kinds = _list(metadata, "token_type", int, where)
    if len(kinds) != len(tokens):
        raise ValueError(f"{where} has {len(tokens)} tokens and {len(kinds)} token types. Fetch it again.")
    vocab = {token: i for i, (token, k) in enumerate(zip(tokens, kinds, strict=True)) if k != _UNUSED}
    if len(vocab) < sum(k != _UNUSED for k in kinds):
        raise ValueError(f"{where} has a token twice. Fetch it again.")
    if kind == "gpt2":
        content = _byte_level(metadata, vocab, where)
        begins = content.pop("begins")
    elif kind == "llama":
        content, begins = _sentencepiece(metadata, tokens, kinds, vocab, where), True
    else:
        raise ValueError(
            f"{where} has a tokenizer of the model {kind!r}; expected gpt2 (byte-level) or llama (SentencePiece). "
            "Others are not built in."
        )
    config = _config(metadata, tokens, where)
    content |= {"version": "1.0", "truncation": None, "padding": None, "added_tokens": _added(tokens, kinds)}
    if metadata.get("tokenizer.ggml.add_bos_token", begins) and "bos_token" in config:
        content["post_processor"] = _beginning(config["bos_token"], vocab[config["bos_token"]])
    return content, config


def _byte_level(metadata: Mapping[str, Any], vocab: Mapping[str, int], where: str) -> dict[str, Any]:
    """Returns byte-level byte pairs; "begins" says whether texts begin with a token where the file says nothing."""
    name = _required(metadata, "pre", str, where)
    name = _SAME.get(name, name)
    if name not in _STEPS:
        raise ValueError(
            f"{where} splits texts by the pre-tokenizer {name!r}; expected one of {', '.join([*_STEPS, *_SAME])}. Take "
            "the model's folder with tokenizer.json, or another model."
        )
    merges = _list(metadata, "merges", str, where)
    return {
        "normalizer": {"type": "NFC"} if name == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _STEPS[name]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": _model(vocab, [merge.split(" ", 1) for merge in merges], ignore_merges=name == "llama-bpe"),
        "begins": name == "llama-bpe",
    }


def _sentencepiece(
    metadata: Mapping[str, Any], tokens: Sequence[str], kinds: Sequence[int], vocab: Mapping[str, int], where: str
) -> dict[str, Any]:
    """Returns SentencePiece's byte pairs; the scores of tokens give the order of merges."""
    scores = _list(metadata, "scores", float, where)
    if len(scores) != len(tokens):
        raise ValueError(f"{where} has {len(tokens)} tokens and {len(scores)} scores. Fetch it again.")
    prefixed = metadata.get("tokenizer.ggml.add_space_prefix", True)
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _BLANK}
    steps = [{"type": "Prepend", "prepend": _BLANK}, replace] if prefixed else [replace]
    decoder = [{"type": "Replace", "pattern": {"String": _BLANK}, "content": " "}, {"type": "ByteFallback"}]
    decoder += [{"type": "Fuse"}] + [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] * prefixed
    unknown = metadata.get("tokenizer.ggml.unknown_token_id", 0)
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoder},
        "model": _model(vocab, _merges(tokens, kinds, scores), byte_fallback=True, fuse_unk=True)
        | {"unk_token": _token(tokens, unknown, "unknown_token_id", where)},
    }


def _merges(tokens: Sequence[str], kinds: Sequence[int], scores: Sequence[float]) -> list[list[str]]:
    """Returns every pair of pieces that makes up a piece, in the order in which SentencePiece would merge them."""
    pieces = {token for token, kind in zip(tokens, kinds, strict=True) if kind == _NORMAL}
    merges = []
    for token, score in zip(tokens, scores, strict=True):
        if token in pieces:
            pairs = ((token[:i], token[i:]) for i in range(1, len(token)))
            merges += [(-score, -len(a), -len(b), [a, b]) for a, b in pairs if a in pieces and b in pieces]
    return [pair for *_, pair in sorted(merges, key=lambda merge: merge[:3])]


def _model(vocab: Mapping[str, int], merges: list[list[str]], **options: Any) -> dict[str, Any]:
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    return model | options | {"vocab": dict(vocab), "merges": merges}


def _added(tokens: Sequence[str], kinds: Sequence[int]) -> list[dict[str, Any]]:
    """Returns the added tokens: those that the file calls unknown or control are special, the user-defined are not."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": i, "content": token, **flags, "special": kind != _USER_DEFINED}
        for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED)
    ]


def _config(metadata: Mapping[str, Any], tokens: Sequence[str], where: str) -> dict[str, Any]:
    _required(metadata, "eos_token_id", int, where)
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for name, key in _NAMES.items():
        number = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if number is not None:
            config[name] = _token(tokens, number, f"{key}_token_id", where)
    ends = [metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom")]
    config["eos_token_id"] = list(dict.fromkeys(end for end in ends if end is not None))
    if template := metadata.get("tokenizer.chat_template"):
        config["chat_template"] = template
    return config


def _beginning(token: str, number: int) -> dict[str, Any]:
    """Returns a post-processor that puts a token before every text."""
    first, text = {"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    second = [{"SpecialToken": {"id": token, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    return {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text, *second],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }


def _token(tokens: Sequence[str], number: Any, key: str, where: str) -> str:
    if not isinstance(number, int) or not 0 <= number < len(tokens):
        raise ValueError(f"{where} has the {key} {number!r}, and {len(tokens)} tokens. Fetch it again.")
    return tokens[number]


def _required(metadata: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    value = metadata.get(f"tokenizer.ggml.{key}")
    if not isinstance(value, kind):
        raise _missing(key, kind.__name__, where)
    return value


def _list(metadata: Mapping[str, Any], key: str, kind: type, where: str) -> list[Any]:
    values = metadata.get(f"tokenizer.ggml.{key}")
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise _missing(key, f"list of {kind.__name__}", where)
    return values


def _missing(key: str, kind: str, where: str) -> ValueError:
    return ValueError(
        f"{where} has no tokenizer.ggml.{key} of type {kind} in its metadata. Take a newer file of this model, with "
        "its tokenizer."
    )
