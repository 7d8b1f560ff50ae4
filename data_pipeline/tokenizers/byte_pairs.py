"""Byte-level byte-pair encoding, with the ids of OpenAI's GPT-2.

Source: Radford et al. 2019, openai/gpt-2 `encoder.py`; Sennrich et al. 2016. Every text has ids, which give the text
back. Added tokens (`<question>`, ...) have ids that no text ever gets: a prompt puts them between texts.
"""

import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence

from tokenizers import ByteLevelBPETokenizer, Tokenizer, decoders, models, pre_tokenizers

from data_pipeline.folders import files

END = "<|endoftext|>"
VOCAB_FILE, MERGES_FILE = "vocab.json", "merges.txt"
_OPENAI_FILES = ("encoder.json", "vocab.bpe")
_JOINT_FILE = "tokenizer.json"
_CONFIG_FILE = "tokenizer_config.json"
_UNFINISHED = "\ufffd"  # stands for bytes that are no UTF-8


class BytePairs:
    """Turns texts into ids and back.

    Attributes:
      vocab_size: number of ids, added tokens counted.
      end_id: the id that ends a text, `<|endoftext|>`.
      end_ids: all ids that end a text: this one.
      chat_template: None, as a GPT-2 has no conversations.
      added: {added token: id}.
      chat_template: always None.
      fingerprint: hash of vocabulary, merges and added tokens; two tokenizers with equal ones give equal ids.
    """

    chat_template = None

    def __init__(self, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], added: Sequence[str] = ()):
        """Builds the tokenizer.

        Args:
          vocab: {token: id}, with the ids 0, 1, ... and the token `<|endoftext|>`.
          merges: pairs of tokens, in the order in which they are merged.
          added: tokens that get the ids after the vocabulary's.

        Raises:
          ValueError: the vocabulary has gaps or no end token, or lacks a merged token.
        """
        if sorted(vocab.values()) != list(range(len(vocab))):
            raise ValueError(
                f"The vocabulary's {len(vocab)} ids are not 0 to {len(vocab) - 1}. Give the {VOCAB_FILE} of a GPT-2."
            )
        if END not in vocab:
            raise ValueError(f"The vocabulary has no {END}. Give the {VOCAB_FILE} of a GPT-2.")
        missing = sorted({part for a, b in merges for part in (a, b, a + b)} - set(vocab))
        if missing:
            raise ValueError(
                f"The merges name {len(missing)} tokens that the vocabulary has not ({missing[0]!r}, ...). Give "
                f"{VOCAB_FILE} and {MERGES_FILE} of one model."
            )
        if doubled := sorted(set(added) & set(vocab)) or len(set(added)) < len(added):
            raise ValueError(f"Added tokens stand there already or twice: {doubled or list(added)}. Give others.")
        self._vocab, self._merges = dict(vocab), list(merges)
        self.added = {token: len(vocab) + i for i, token in enumerate(added)}
        self.vocab_size = len(vocab) + len(added)
        self.end_id = vocab[END]
        self.end_ids = (self.end_id,)
        self._tokenizer = Tokenizer(models.BPE(self._vocab, self._merges))
        self._tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._tokenizer.decoder = decoders.ByteLevel()
        self.fingerprint = files.fingerprint([self._vocab, self._merges, self.added])

    @classmethod
    def load(cls, folder: str) -> "BytePairs":
        """Reads a folder in OpenAI's layout (encoder.json, vocab.bpe) or Hugging Face's (vocab.json, merges.txt).

        Raises:
          FileNotFoundError: a file is missing.
          ValueError: the files are not those of a byte-level BPE.
        """
        for names in ((VOCAB_FILE, MERGES_FILE), _OPENAI_FILES):
            paths = [os.path.join(folder, name) for name in names]
            exist = [os.path.isfile(path) for path in paths]
            if all(exist):
                vocab, merges = files.read_json(paths[0]), _merges(files.read_text(paths[1]), paths[1])
                break
            if any(exist):
                raise FileNotFoundError(f"{folder} has no {names[exist.index(False)]}, which belongs to the other one.")
        else:
            vocab, merges = _read_joint(folder)
        added = (files.read_json(os.path.join(folder, _CONFIG_FILE)) or {}).get("added_tokens_decoder", {})
        added = {entry["content"]: int(key) for key, entry in added.items() if entry["content"] not in vocab}
        tokenizer = cls(vocab, merges, sorted(added, key=added.__getitem__))
        if tokenizer.added != added:
            raise ValueError(
                f"{folder}/{_CONFIG_FILE} has added tokens with the ids {sorted(added.values())}; expected those from "
                f"{len(vocab)} on."
            )
        return tokenizer

    def with_added(self, tokens: Sequence[str]) -> "BytePairs":
        """Returns the same tokenizer with further added tokens; those that it has already stay."""
        return BytePairs(self._vocab, self._merges, [*self.added, *(t for t in tokens if t not in self.added)])

    def save(self, folder: str) -> None:
        """Writes the files of a Hugging Face folder."""
        files.write_text(os.path.join(folder, VOCAB_FILE), json.dumps(self._vocab, ensure_ascii=False) + "\n")
        lines = ["#version: 0.2", *(f"{a} {b}" for a, b in self._merges)]
        files.write_text(os.path.join(folder, MERGES_FILE), "\n".join(lines) + "\n")
        special = {END: self.end_id, **self.added}
        flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
        config = {
            "tokenizer_class": "GPT2Tokenizer",
            "add_prefix_space": False,
            "bos_token": END,
            "eos_token": END,
            "unk_token": END,
            "added_tokens_decoder": {str(i): {"content": token, **flags} for token, i in special.items()},
        }
        files.write_json(os.path.join(folder, _CONFIG_FILE), config)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each text. A text that looks like an added token, or like the end, is plain text."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids, without added tokens and the end. Bytes that are no UTF-8 become U+FFFD."""
        return self._tokenizer.decode([i for i in ids if i != self.end_id and i < len(self._vocab)])

    def show(self, ids: Iterable[int]) -> str:
        """Returns the text of ids for people: with added tokens and the end, and blanks around them."""
        names = {number: token for token, number in {END: self.end_id, **self.added}.items()}
        parts = itertools.groupby(ids, names.get)
        return " ".join(name or self.decode(part).strip() for name, part in parts)

    def token_bytes(self) -> list[int]:
        """Returns the number of bytes that each id stands for; 0 for the end and added tokens."""
        # A character of a token in the vocabulary is a byte.
        sizes = [0] * self.vocab_size
        for token, number in self._vocab.items():
            sizes[number] = len(token) if number != self.end_id else 0
        return sizes

    def decode_finished(self, ids: Iterable[int]) -> str:
        """Returns the text of ids that further ids cannot change: it never ends with half a character."""
        return self.decode(ids).rstrip(_UNFINISHED)


def train_byte_pairs(texts: Iterable[str], vocab_size: int, added: Sequence[str] = ()) -> BytePairs:
    """Makes a vocabulary from texts, for models that start from random weights.

    Args:
      texts: texts to learn from.
      vocab_size: largest number of ids, with 256 bytes, the end and added tokens.
      added: see `BytePairs`.

    Raises:
      ValueError: vocab_size is too small.
    """
    least = 257 + len(added)
    if vocab_size < least:
        raise ValueError(f"vocab_size is {vocab_size}; expected {least} or more: 256 bytes, {END}, added tokens.")
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(
        texts, vocab_size=vocab_size - len(added), min_frequency=2, show_progress=False, special_tokens=[END]
    )
    model = json.loads(trainer.to_str())["model"]
    return BytePairs(model["vocab"], [tuple(pair) for pair in model["merges"]], added)


def _merges(text: str, path: str) -> list[tuple[str, str]]:
    """Reads a file of merges: a line with the version, then two tokens a line."""
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip() and not line.startswith("#version")]
    pairs = [tuple(line.split(" ")) for line in lines]
    if wrong := [line for line, pair in zip(lines, pairs, strict=True) if len(pair) != 2]:
        raise ValueError(f"{path} has the line {wrong[0]!r}; expected two tokens with a blank between them.")
    return pairs


def _read_joint(folder: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Reads vocabulary and merges of a tokenizer.json."""
    path = os.path.join(folder, _JOINT_FILE)
    content = files.read_json(path)
    if content is None:
        raise FileNotFoundError(
            f"{folder} has no tokenizer. Expected {VOCAB_FILE} and {MERGES_FILE}, {' and '.join(_OPENAI_FILES)}, or "
            f"{_JOINT_FILE}."
        )
    model, split = content.get("model", {}), content.get("pre_tokenizer") or {}
    if model.get("type") != "BPE" or split.get("type") != "ByteLevel" or split.get("add_prefix_space"):
        raise ValueError(f"{path} is of another kind of tokenizer. Expected byte-level BPE without a prefix blank.")
    vocab = dict(model["vocab"])
    # Hugging Face keeps the end among the added tokens, too.
    vocab |= {t["content"]: t["id"] for t in content.get("added_tokens", []) if t["content"] == END}
    return vocab, [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]
