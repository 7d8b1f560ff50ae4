"""Reads the tokenizer of a model folder, in the layouts that Google, Hugging Face and sentence-transformers publish.

tokenizer.json             vocabulary and normalizer; it decides before the other files
vocab.txt                  vocabulary, one token a line
tokenizer_config.json      do_lower_case, strip_accents, tokenize_chinese_chars, pad_token
sentence_bert_config.json  do_lower_case: lower-case first, whatever the tokenizer does

A tokenizer that would give other ids than in transformers is refused.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

from absl import logging

from data_pipeline.folders import files
from data_pipeline.tokenizers.json_tokenizer import JSON_FILE, JsonTokenizer
from data_pipeline.tokenizers.wordpiece import TOKENIZER_CONFIG_FILE, VOCAB_FILE, WordPiece

MODULES_FILE = "modules.json"
# sentence-transformers takes the first of these files; in old folders, its name may be of another family.
_FAMILIES = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
SENTENCE_CONFIG_FILES = tuple(f"sentence_{family}_config.json" for family in _FAMILIES)
_SENTENCEPIECE_FILES = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
# BertNormalizer's fields in tokenizer.json, by their names in tokenizer_config.json.
_SAME_FIELDS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
# Classes of transformers that tokenize like BERT with a vocab.txt.
_BERT_CLASSES = re.compile(
    r"((Bert|DistilBert|Electra|MobileBert|ConvBert|RetriBert|LayoutLM)Tokenizer(Fast)?)"
    r"|PreTrainedTokenizerFast|TokenizersBackend"
)
_BERT_MARKS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_MODEL_CONFIG_FILE = "config.json"
_MARKS_FILE = "special_tokens_map.json"
_ADDED_FILE = "added_tokens.json"
_WRITE_JSON = (
    'python -c "from transformers import AutoTokenizer as T; T.from_pretrained({folder!r}).save_pretrained({folder!r})"'
)
_PLAIN_WORDPIECE = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}

Tokenizer = WordPiece | JsonTokenizer


def load_tokenizer(path: str, lower_case: bool | None = None) -> Tokenizer:
    """Reads the tokenizer of a model folder, or a vocabulary file.

    Args:
      path: a folder with tokenizer.json or vocab.txt; a sentence-transformers folder with these in the folder of its
        Transformer module; or a vocab.txt.
      lower_case: whether text is lower-cased; None: as the folder says. If it says nothing, text is lower-cased for a
        sentence-transformers folder, as in transformers, and for any other folder if no word of the vocabulary has a
        capital letter.

    Raises:
      FileNotFoundError: the vocabulary is missing.
      ValueError: a file is damaged, the tokenizer is of a kind that is not built in, or `lower_case` is given for a
        tokenizer that is no WordPiece.
    """
    folder = encoder_folder(path) if os.path.isdir(path) else os.path.dirname(path)
    vocab_file = os.path.join(folder, VOCAB_FILE) if os.path.isdir(path) else path
    config = files.read_json(os.path.join(folder, TOKENIZER_CONFIG_FILE)) or {}
    json_file = os.path.join(folder, JSON_FILE)
    content = files.read_json(json_file) if os.path.isdir(path) else None
    lower_first = sentence_config(folder).get("do_lower_case", False)
    if content is None and not os.path.isfile(vocab_file):
        raise FileNotFoundError(_nothing_at(folder, vocab_file))
    _check_cut(folder, config, content)
    if content is not None and not _is_plain_wordpiece(content):
        if lower_case is not None:
            raise ValueError(f"{json_file} decides about lower case by itself. Leave --case at auto.")
        pad_token = config.get("pad_token")
        pad_token = pad_token["content"] if isinstance(pad_token, dict) else pad_token
        return JsonTokenizer(_lowered(content) if lower_first else content, pad_token, json_file)
    if content is not None:
        vocab = sorted(content["model"]["vocab"], key=content["model"]["vocab"].__getitem__)
        options = _normalizer(content, config, folder)
    else:
        _check_class(folder, config)
        _check_marks(folder, config)
        lines = files.read_text(vocab_file).removesuffix("\n").split("\n")
        vocab = [line.rstrip("\r") for line in lines]
        options = {name: config.get(name) for name in _SAME_FIELDS}
    if options["do_lower_case"] is None and os.path.isfile(os.path.join(path, MODULES_FILE)):
        options["do_lower_case"] = True
    if lower_case is not None:
        options["do_lower_case"] = lower_case
    return _wordpiece(vocab, options, lower_first)


def encoder_folder(folder: str) -> str:
    """Returns the folder of the Transformer module in a sentence-transformers folder; any other folder itself."""
    for module in files.read_json(os.path.join(folder, MODULES_FILE)) or []:
        if module["type"].rpartition(".")[2] == "Transformer" and module["path"]:
            return os.path.join(folder, module["path"])
    return folder


def sentence_config(folder: str) -> dict[str, Any]:
    """Returns sentence-transformers' configuration in the folder of a Transformer module."""
    contents = (files.read_json(os.path.join(folder, name)) for name in SENTENCE_CONFIG_FILES)
    return next((content for content in contents if content is not None), {})


def _check_cut(folder: str, config: Mapping[str, Any], content: Any) -> None:
    """Raises a ValueError if long texts would lose their beginning."""
    in_json = (content.get("truncation") or {}).get("direction") if isinstance(content, dict) else None
    side = config.get("truncation_side") or in_json or "right"
    if side.lower() != "right":
        raise ValueError(
            f"The tokenizer in {folder} cuts long texts on the {side.lower()}, which is not built in. Expected "
            f'truncation_side "right" in {TOKENIZER_CONFIG_FILE}: texts lose their end.'
        )


def _check_class(folder: str, config: Mapping[str, Any]) -> None:
    """Raises a ValueError if transformers would not tokenize like BERT with a vocab.txt."""
    model_config = files.read_json(os.path.join(folder, _MODEL_CONFIG_FILE)) or {}
    name = config.get("tokenizer_class") or model_config.get("tokenizer_class") or "BertTokenizer"
    if not _BERT_CLASSES.fullmatch(name):
        raise ValueError(
            f"{folder} has a {name}, which does not split words as BERT does. Expected a BertTokenizer, or "
            f"{JSON_FILE}. If transformers can write {JSON_FILE} for it: {_WRITE_JSON.format(folder=folder)}"
        )


def _check_marks(folder: str, config: Mapping[str, Any]) -> None:
    """Raises a ValueError if a vocab.txt comes with special tokens other than BERT's, or with added tokens."""
    marks = (files.read_json(os.path.join(folder, _MARKS_FILE)) or {}) | config
    named = {role: _text(marks.get(role) or usual) for role, usual in _BERT_MARKS.items()}
    added = [*(files.read_json(os.path.join(folder, _ADDED_FILE)) or {})]
    added += [_text(token) for token in (config.get("added_tokens_decoder") or {}).values()]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        tokens = marks.get(key) or []
        added += [_text(token) for token in (tokens.values() if isinstance(tokens, dict) else tokens)]
    others = {*named.values(), *added} - {*_BERT_MARKS.values()}
    if others:
        raise ValueError(
            f"{folder} has the special or added tokens {', '.join(sorted(others)[:5])} beside {VOCAB_FILE}. Expected "
            f"{', '.join(_BERT_MARKS.values())} alone, or {JSON_FILE}, which transformers writes: "
            f"{_WRITE_JSON.format(folder=folder)}"
        )


def _text(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else token["content"]


def _wordpiece(vocab: list[str], options: Mapping[str, bool | None], lower_first: bool) -> WordPiece:
    lower_case = options["do_lower_case"]
    if lower_case is None:
        # [CLS] and <S> are marks, not words.
        lower_case = not any(re.match(r"[^\[<]*[A-Z]", token) for token in vocab)
    strip_accents = lower_case if options["strip_accents"] is None else options["strip_accents"]
    return WordPiece(vocab, lower_case or lower_first, strip_accents, options["tokenize_chinese_chars"] is not False)


def _is_plain_wordpiece(content: Any) -> bool:
    """Returns whether a tokenizer.json is that of a BERT, which `WordPiece` runs."""
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
        and all(
            token.get("special") and token["content"] in _BERT_MARKS.values() and token["content"] in vocab
            for token in added
        )
        and _has_bert_frame(content.get("post_processor") or {}, vocab)
    )


def _has_bert_frame(processor: Mapping[str, Any], vocab: Mapping[str, int]) -> bool:
    """Returns whether a post-processor puts [CLS] before a text and [SEP] after it, and nothing else."""
    ids = {token: vocab.get(token) for token in ("[CLS]", "[SEP]")}
    if processor.get("type") == "BertProcessing":
        return dict([processor["cls"], processor["sep"]]) == ids
    if processor.get("type") != "TemplateProcessing":
        return False
    parts = [next(iter(part.values()))["id"] for part in processor["single"]]
    frame = {name: token["ids"] for name, token in processor["special_tokens"].items()}
    return parts == ["[CLS]", "A", "[SEP]"] and all(frame.get(token) == [i] for token, i in ids.items())


def _normalizer(content: dict[str, Any], config: dict[str, Any], folder: str) -> dict[str, bool | None]:
    """Returns the options of the normalizer in tokenizer.json, by their names in tokenizer_config.json."""
    options = {name: content["normalizer"].get(field) for name, field in _SAME_FIELDS.items()}
    for name, value in options.items():
        if config.get(name) is not None and value is not None and config[name] != value:
            logging.warning(
                "In %s, %s is %s in %s and %s in %s, which is used. Make them agree.",
                *(folder, name, config[name], TOKENIZER_CONFIG_FILE, value, JSON_FILE),
            )
    return options


def _lowered(content: dict[str, Any]) -> dict[str, Any]:
    """Returns a tokenizer.json that lower-cases first, as sentence-transformers does."""
    normalizer = content.get("normalizer")
    steps = normalizer["normalizers"] if (normalizer or {}).get("type") == "Sequence" else [normalizer]
    steps = [{"type": "Lowercase"}, *filter(None, steps)]
    return content | {"normalizer": {"type": "Sequence", "normalizers": steps}}


def _nothing_at(folder: str, vocab_file: str) -> str:
    for name in _SENTENCEPIECE_FILES:
        if os.path.isfile(os.path.join(folder, name)):
            return (
                f"{folder} has its tokenizer as {name} alone. Expected {JSON_FILE}, which transformers writes: "
                f"{_WRITE_JSON.format(folder=folder)}"
            )
    return (
        f"No vocabulary at {vocab_file}. Expected a folder with {VOCAB_FILE} (one token a line) or {JSON_FILE}, or the "
        "path of such a vocabulary."
    )
