"""Encoder folders in the published layouts, one of each kind, with tiny random weights.

Needs neither docproduct nor TensorFlow, so that tests/golden/make_encoder_vectors.py can write the same folders where
only sentence-transformers is installed.
"""

import json
import os
import string
from typing import Any

import numpy as np
import safetensors.numpy
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

WIDTH, INNER, LAYERS, POSITIONS = 12, 20, 2, 24
_ACCENTED = "éèÉüñçİ"
_LETTERS = [*string.ascii_letters, *string.digits, *_ACCENTED, "σ", "ς", "Σ", *"中文咳嗽"]
VOCAB = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "what",
    "What",
    "is",
    "the",
    "query",
    "passage",
    "中文",
    ":",
    "?",
]
VOCAB += [".", ",", *_LETTERS, *(f"##{letter}" for letter in _LETTERS)]
PIECES = [
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    "▁",
    "▁what",
    "▁What",
    "▁is",
    "▁the",
    "▁query",
    "▁passage",
    "▁中文",
    ":",
    "?",
]
PIECES += [".", ",", *_LETTERS, *(f"▁{letter}" for letter in _LETTERS)]
TEXTS = (
    "What is the Fever?", "où est l'été, Señor: CAFÉ", "中文 is 咳嗽ab", "İstanbul ΣΟΦΟΣ", "a",
    "the quick brown fox jumps over the lazy dog and this text is longer than the encoder reads",
)  # fmt: skip

Files = dict[str, Any]  # {path in the folder: what to write there as JSON}


def _modules(*kinds: str, first: str = "") -> list[dict[str, str]]:
    paths = [first, *(f"{i}_{kind}" for i, kind in enumerate(kinds[1:], 1))]
    return [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]


def _pooling(mode: str) -> Files:
    return {"1_Pooling/config.json": {"word_embedding_dimension": WIDTH, f"pooling_mode_{mode}": True}}


def _dense(place: int, out: int, activation: str, bias: bool, width: int = WIDTH) -> Files:
    return {
        f"{place}_Dense/config.json": {
            "in_features": width, "out_features": out, "bias": bias,
            "activation_function": f"torch.nn.modules.{activation}",
        }
    }  # fmt: skip


_PLAIN = {"modules.json": _modules("Transformer", "Pooling", "Normalize"), "2_Normalize/config.json": {}}
_MEAN = _PLAIN | _pooling("mean_tokens")
_LOWER = {"do_lower_case": True, "tokenizer_class": "BertTokenizer"}
_CASED = {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}
_PROMPTS = "config_sentence_transformers.json"

# Each kind and its files. "tokenizer.json" holds the settings it is built with; without it there is vocab.txt alone.
KINDS: dict[str, Files] = {
    "mean": _MEAN,
    "cls": _PLAIN | _pooling("cls_token"),
    "max": _PLAIN | _pooling("max_tokens"),
    "mean_sqrt_len": _PLAIN | _pooling("mean_sqrt_len_tokens"),
    "pooling of version 6": _PLAIN | {"1_Pooling/config.json": {"embedding_dimension": WIDTH, "pooling_mode": "max"}},
    "dense": {"modules.json": _modules("Transformer", "Pooling", "Dense", "Dense", "Normalize")}
    | _pooling("mean_tokens")
    | _dense(2, 9, "activation.Tanh", bias=True)
    | _dense(3, 7, "linear.Identity", bias=False, width=9)
    | {"4_Normalize/config.json": {}},
    "query and document": _MEAN | {_PROMPTS: {"prompts": {"query": "query: ", "document": "passage: "}}},
    "query alone, by default": _MEAN | {_PROMPTS: {"prompts": {"query": "query: "}, "default_prompt_name": "query"}},
    "cased": _MEAN | {"tokenizer_config.json": _CASED},
    "lower-cased by sentence_bert_config": _MEAN
    | {"tokenizer_config.json": _CASED, "sentence_bert_config.json": {"max_seq_length": 16, "do_lower_case": True}},
    "accents kept": _MEAN | {"tokenizer_config.json": _LOWER | {"strip_accents": False}},
    "accents stripped, cased": _MEAN | {"tokenizer_config.json": _CASED | {"strip_accents": True}},
    "Chinese words whole": _MEAN | {"tokenizer_config.json": _LOWER | {"tokenize_chinese_chars": False}},
    "the normalizer of tokenizer.json": _MEAN
    | {
        "tokenizer.json": {"lowercase": False, "strip_accents": True, "handle_chinese_chars": False},
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True}
        | {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"},
    },
    "Transformer in a folder of its own": {
        "modules.json": _modules("Transformer", "Pooling", "Normalize", first="0_Transformer"),
        "2_Normalize/config.json": {},
    }
    | _pooling("mean_tokens"),
    "unigram": _MEAN
    | {
        "tokenizer.json": "unigram",
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"},
        _PROMPTS: {"prompts": {"query": "query: ", "document": "passage: "}},
    },
    "unigram, padding in the tokenizer alone": _MEAN
    | {
        "tokenizer.json": "unigram",
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"},
        "config.json": {"pad_token_id": 0},
    },
    "dense, tanh by default": {"modules.json": _modules("Transformer", "Pooling", "Dense")}
    | _pooling("mean_tokens")
    | {"2_Dense/config.json": {"in_features": WIDTH, "out_features": 9, "bias": True}},
    "settings under an old name": _MEAN
    | {"sentence_xlm-roberta_config.json": {"max_seq_length": 8}, "sentence_bert_config.json": None},
    "unigram, lower-cased": _MEAN
    | {
        "tokenizer.json": "unigram",
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"},
        "sentence_bert_config.json": {"max_seq_length": 16, "do_lower_case": True},
    },
}


def write(folder: str, kind: str) -> None:
    """Writes a folder of one of the `KINDS`."""
    content = {"sentence_bert_config.json": {"max_seq_length": 16, "do_lower_case": False}} | KINDS[kind]
    inside = next(module["path"] for module in content["modules.json"] if module["type"].endswith("Transformer"))
    tokenizer, changed = content.pop("tokenizer.json", None), content.pop("config.json", {})
    unigram = tokenizer == "unigram"
    encoder_files = ("sentence_bert_config.json", "tokenizer_config.json")
    content = {path: value for path, value in content.items() if value is not None}
    for path, value in content.items():
        _write_json(os.path.join(folder, inside if path in encoder_files else "", path), value)
    encoder = os.path.join(folder, inside)
    if unigram:
        _unigram().save(os.path.join(encoder, "tokenizer.json"))
    elif tokenizer:
        _wordpiece(tokenizer).save(os.path.join(encoder, "tokenizer.json"))
    if not unigram:
        with open(os.path.join(encoder, "vocab.txt"), "w", encoding="utf-8") as file:
            file.write("\n".join(VOCAB) + "\n")
    vocab_size = len(PIECES) if unigram else len(VOCAB)
    config = {
        "model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu", "vocab_size": vocab_size,
        "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 3, "intermediate_size": INNER,
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "pad_token_id": 1 if unigram else 0,
        "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    }  # fmt: skip
    _write_json(os.path.join(encoder, "config.json"), config | changed)
    rng = np.random.default_rng(7)
    _write_tensors(encoder, bert_tensors(rng, vocab_size))
    for path, value in content.items():
        if "Dense" in path:
            shapes = {"linear.weight": (value["out_features"], value["in_features"])}
            shapes |= {"linear.bias": (value["out_features"],)} if value["bias"] else {}
            tensors = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
            _write_tensors(os.path.join(folder, os.path.dirname(path)), tensors)


def bert_tensors(rng: np.random.Generator, vocab_size: int) -> dict[str, np.ndarray]:
    """Returns the tensors of a BertModel under Hugging Face's names, written out by hand."""
    d, f = WIDTH, INNER
    shapes = {
        "embeddings.word_embeddings.weight": (vocab_size, d),
        "embeddings.position_embeddings.weight": (POSITIONS, d),
        "embeddings.token_type_embeddings.weight": (2, d),
        "embeddings.LayerNorm.weight": (d,),
        "embeddings.LayerNorm.bias": (d,),
        "pooler.dense.weight": (d, d),
        "pooler.dense.bias": (d,),
    }
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= {f"{layer}.{name}.weight": (d, d), f"{layer}.{name}.bias": (d,)}
        shapes |= {f"{layer}.intermediate.dense.weight": (f, d), f"{layer}.intermediate.dense.bias": (f,)}
        shapes |= {f"{layer}.output.dense.weight": (d, f), f"{layer}.output.dense.bias": (d,)}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{layer}.{name}.weight": (d,), f"{layer}.{name}.bias": (d,)}
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def _write_json(path: str, value: Any) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)


def _write_tensors(folder: str, tensors: dict[str, np.ndarray]) -> None:
    safetensors.numpy.save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})


def _wordpiece(normalization: dict[str, bool]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(VOCAB)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(**normalization)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in VOCAB[:5]])
    return tokenizer


def _unigram() -> Tokenizer:
    """Returns a tokenizer like XLM-R's: normalize, split at white space, ▁ before each word, Unigram, <s> text </s>."""
    tokenizer = Tokenizer(models.Unigram([(piece, -float(1 + i % 9)) for i, piece in enumerate(PIECES)], unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in PIECES[:4]])
    return tokenizer
