"""Reads the tokenizer of a model folder, in the layouts that Google, Hugging Face and sentence-transformers publish.

tokenizer.json             vocabulary and normalizer; where it is there, it decides
vocab.txt                  vocabulary, one token a line
tokenizer_config.json      do_lower_case, strip_accents, tokenize_chinese_chars, pad_token
sentence_bert_config.json  do_lower_case: lower-case first, whatever the tokenizer does
"""

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from absl import logging

from data_pipeline.folders import files
from data_pipeline.tokenizers.json_tokenizer import JSON_FILE, JsonTokenizer
from data_pipeline.tokenizers.wordpiece import TOKENIZER_CONFIG_FILE, VOCAB_FILE, WordPiece

MODULES_FILE = "modules.json"
SENTENCE_CONFIG_FILE = "sentence_bert_config.json"
_SENTENCEPIECE_FILES = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
# BertNormalizer's fields in tokenizer.json, by their names in tokenizer_config.json.
_SAME_FIELDS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
_PLAIN_WORDPIECE = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}

Tokenizer = WordPiece | JsonTokenizer


def load_tokenizer(path: str, lower_case: bool | None = None) -> Tokenizer:
    """Reads the tokenizer of a model folder, or a vocabulary file.

    Args:
      path: a folder with tokenizer.json or vocab.txt; a sentence-transformers folder that keeps them in the folder of
        its Transformer module; or a vocab.txt.
      lower_case: None: what the folder says. Without a word of it, text is lower-cased for a sentence-transformers
        folder, as transformers does it, and for any other if no word of its vocabulary has a capital letter.

    Raises:
      FileNotFoundError: no vocabulary there.
      ValueError: a file is damaged, or `lower_case` is given for a tokenizer that is no WordPiece.
    """
    folder = encoder_folder(path) if os.path.isdir(path) else os.path.dirname(path)
    vocab_file = os.path.join(folder, VOCAB_FILE) if os.path.isdir(path) else path
    config = files.read_json(os.path.join(folder, TOKENIZER_CONFIG_FILE)) or {}
    json_file = os.path.join(folder, JSON_FILE)
    content = files.read_json(json_file) if os.path.isdir(path) else None
    lower_first = (files.read_json(os.path.join(folder, SENTENCE_CONFIG_FILE)) or {}).get("do_lower_case", False)
    if content is None and not os.path.isfile(vocab_file):
        raise FileNotFoundError(_nothing_at(folder, vocab_file))
    if content is not None and not _is_plain_wordpiece(content):
        if lower_case is not None:
            raise ValueError(
                f"{json_file} decides itself about lower case. Expected no other word about it: leave --case at auto."
            )
        pad_token = config.get("pad_token")
        pad_token = pad_token["content"] if isinstance(pad_token, dict) else pad_token
        return JsonTokenizer(_lowered(content) if lower_first else content, pad_token, json_file)
    if content is not None:
        vocab = sorted(content["model"]["vocab"], key=content["model"]["vocab"].__getitem__)
        says = _normalizer(content, config, folder)
    else:
        lines = files.read_text(vocab_file).removesuffix("\n").split("\n")
        vocab = [line.rstrip("\r") for line in lines]
        says = {name: config.get(name) for name in _SAME_FIELDS}
    if says["do_lower_case"] is None and os.path.isfile(os.path.join(path, MODULES_FILE)):
        says["do_lower_case"] = True
    return _wordpiece(vocab, says, lower_case, lower_first)


def encoder_folder(folder: str) -> str:
    """Returns the folder of the Transformer module of a sentence-transformers folder; of another, the folder itself."""
    for module in files.read_json(os.path.join(folder, MODULES_FILE)) or []:
        if module["type"].rpartition(".")[2] == "Transformer":
            return os.path.join(folder, module["path"])
    return folder


def _wordpiece(vocab: list[str], says: Mapping[str, bool | None], given: bool | None, lower_first: bool) -> WordPiece:
    lower_case = says["do_lower_case"] if given is None else given
    if lower_case is None:
        # [CLS] and <S> are marks, not words.
        lower_case = not any(re.match(r"[^\[<]*[A-Z]", token) for token in vocab)
    strip_accents = lower_case if says["strip_accents"] is None else says["strip_accents"]
    return WordPiece(vocab, lower_case or lower_first, strip_accents, says["tokenize_chinese_chars"] is not False)


def _is_plain_wordpiece(content: Any) -> bool:
    """Returns whether a tokenizer.json is a BERT's, which `WordPiece` runs."""
    content = content if isinstance(content, dict) else {}
    model, normalizer = content.get("model") or {}, content.get("normalizer") or {}
    vocab = model.get("vocab")
    added = content.get("added_tokens") or []
    return (
        _PLAIN_WORDPIECE.items() <= model.items()
        and model.get("max_input_chars_per_word", 100) == 100
        and (normalizer.get("type"), normalizer.get("clean_text")) == ("BertNormalizer", True)
        and (content.get("pre_tokenizer") or {}).get("type") == "BertPreTokenizer"
        and isinstance(vocab, dict)
        and sorted(vocab.values()) == list(range(len(vocab)))
        and all(token.get("special") and token["content"] in vocab for token in added)
        and "[CLS]" in json.dumps(content.get("post_processor") or "[CLS]")
    )


def _normalizer(content: dict[str, Any], config: dict[str, Any], folder: str) -> dict[str, bool | None]:
    """Returns what tokenizer.json says of the normalization, by the names of tokenizer_config.json."""
    says = {name: content["normalizer"].get(field) for name, field in _SAME_FIELDS.items()}
    for name, value in says.items():
        if config.get(name) is not None and value is not None and config[name] != value:
            logging.warning(
                "In %s, %s is %s in %s and %s in %s, which is used. Make them agree.",
                *(folder, name, config[name], TOKENIZER_CONFIG_FILE, value, JSON_FILE),
            )
    return says


def _lowered(content: dict[str, Any]) -> dict[str, Any]:
    """Returns a tokenizer.json that lower-cases first, as sentence-transformers does it."""
    normalizer = content.get("normalizer")
    rest = normalizer["normalizers"] if (normalizer or {}).get("type") == "Sequence" else [normalizer]
    steps = [{"type": "Lowercase"}, *(step for step in rest if step)]
    return content | {"normalizer": {"type": "Sequence", "normalizers": steps}}


def _nothing_at(folder: str, vocab_file: str) -> str:
    for name in _SENTENCEPIECE_FILES:
        if os.path.isfile(os.path.join(folder, name)):
            return (
                f"{folder} has its tokenizer as {name} alone. Expected {JSON_FILE}, which transformers writes: "
                f'python -c "from transformers import AutoTokenizer as T; T.from_pretrained({folder!r})'
                f'.save_pretrained({folder!r})"'
            )
    return (
        f"No vocabulary at {vocab_file}. Expected a folder with {VOCAB_FILE} (one token a line) or {JSON_FILE}, or the "
        "path of such a vocabulary."
    )
