"""The tokenizer of a decoder that comes with a tokenizer.json: the byte pairs of Llama, Mistral, Qwen and SmolLM.

Two kinds are built in: byte-level byte pairs (SmolLM2, Llama 3, Qwen), and SentencePiece's byte pairs with byte
fallback (Llama 2, Mistral). Ids come from the `tokenizers` package. No text gets the id of an added token such as
`<|im_end|>`, whatever a user types: `encode_parts` puts such ids between texts.
"""

import itertools
import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from data_pipeline.folders import files
from data_pipeline.tokenizers import decoder_files
from data_pipeline.tokenizers.byte_pairs import END, BytePairs

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_BLANK = "\u2581"  # stands for a blank in SentencePiece's tokens
_UNFINISHED = "\ufffd"  # stands for bytes that are no UTF-8
_PROBE = "a  b1. \u00e9\n"
_PLAIN_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


class DecoderTokenizer:
    """Turns texts into ids and back.

    Attributes:
      vocab_size: the largest id and one.
      end_ids: each of them ends a text; the tokenizer's own end comes first.
      end_id: the first of them.
      begin_id: the id that begins a text, None if there is no such token.
      added: {added token: id}, special or not. Pieces of white space that are declared as added tokens are no part.
      special_tokens: {name: token} of bos_token, eos_token ..., as chat templates use them.
      chat_template: the Jinja template that turns a conversation into a prompt, if the model was trained to chat.
      fingerprint: hash of vocabulary, merges, normalization and added tokens; equal ones give equal ids.
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        special_tokens: Mapping[str, str],
        end_ids: Sequence[int] = (),
        chat_template: str | None = None,
        where: str = decoder_files.JSON_FILE,
    ):
        """Builds the tokenizer.

        Args:
          content: the content of tokenizer.json.
          special_tokens: {name: token} of bos_token, eos_token ...
          end_ids: ids that end a text, beside the id of eos_token.
          chat_template: see the class.
          where: the file, for errors.

        Raises:
          ValueError: the content is damaged or of a kind that is not built in, or no id ends a text.
        """
        self._content = decoder_files.checked(content, special_tokens, where)
        self._where = where
        model, entries = self._content["model"], self._content["added_tokens"]
        entries = [entry for entry in entries if not decoder_files.is_white_space(entry)]
        self.added = {entry["content"]: entry["id"] for entry in entries}
        self.special_tokens, self.chat_template = dict(special_tokens), chat_template
        ids = model["vocab"] | {entry["content"]: entry["id"] for entry in self._content["added_tokens"]}
        self.vocab_size = max(ids.values()) + 1
        self.begin_id = self._named_id("bos_token")
        own_end = self._named_id("eos_token")
        self.end_ids = tuple(dict.fromkeys([*([] if own_end is None else [own_end]), *end_ids]))
        if not self.end_ids or not all(isinstance(i, int) and 0 <= i < self.vocab_size for i in self.end_ids):
            raise ValueError(
                f"{where} has the end ids {list(self.end_ids)}; expected at least one id below {self.vocab_size}. Name "
                f"one of its tokens as eos_token in {decoder_files.CONFIG_FILE}."
            )
        self.end_id = self.end_ids[0]
        self._marks = self._private_names()
        self._tokenizer = self._build()
        self._special_ids = {entry["id"] for entry in entries if entry["special"]} | set(self.end_ids)
        self._pieces = self._bytes_of(ids)
        self._strip = self._stripped_blanks()
        self._check_decoder()
        parts = [self._content[name] for name in ("normalizer", "pre_tokenizer", "model")]
        self.fingerprint = files.fingerprint([*parts, self.added])

    @classmethod
    def load(cls, folder: str) -> "DecoderTokenizer":
        """Reads a Hugging Face folder, or one that `save` wrote.

        Beside tokenizer.json it reads tokenizer_config.json, special_tokens_map.json, chat_template.jinja,
        added_tokens.json, generation_config.json and config.json, where they are there.

        Raises:
          FileNotFoundError: there is no tokenizer.
          ValueError: a file is damaged, or the tokenizer is of a kind that is not built in.
        """
        content, config = decoder_files.read(folder)
        return cls.from_json(content, config, os.path.join(folder, decoder_files.JSON_FILE))

    @classmethod
    def from_json(cls, content: Mapping[str, Any], config: Mapping[str, Any], where: str) -> "DecoderTokenizer":
        """Builds the tokenizer from contents of files.

        Args:
          content: of tokenizer.json.
          config: of tokenizer_config.json: bos_token, eos_token ..., chat_template, added_tokens_decoder; and
            eos_token_id, an id or several, as in generation_config.json.
          where: the file, for errors.

        Raises:
          ValueError: see the class.
        """
        content = decoder_files.with_config(content, config, where)
        special_tokens, template = decoder_files.special_tokens(config), decoder_files.chat_template(config, where)
        return cls(content, special_tokens, decoder_files.end_ids(config), template, where)

    def with_added(self, tokens: Sequence[str]) -> "DecoderTokenizer":
        """Returns the same tokenizer with further special tokens; those that it has already stay.

        Raises:
          ValueError: a token is a piece of text in the vocabulary, or is given twice.
        """
        new = [token for token in tokens if token not in self.added]
        if doubled := sorted(set(new) & set(self._content["model"]["vocab"])) or len(set(new)) < len(new):
            raise ValueError(f"Added tokens stand there already or twice: {doubled or new}. Give others.")
        entries = [{"id": self.vocab_size + i, "content": token, **_PLAIN_FLAGS} for i, token in enumerate(new)]
        content = self._content | {"added_tokens": [*self._content["added_tokens"], *entries]}
        return DecoderTokenizer(content, self.special_tokens, self.end_ids, self.chat_template, self._where)

    def save(self, folder: str) -> None:
        """Writes `tokenizer.json` and `tokenizer_config.json`, as Hugging Face folders have them."""
        files.write_json(os.path.join(folder, decoder_files.JSON_FILE), self._content)
        config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **self.special_tokens}
        config |= {"eos_token_id": list(self.end_ids), "clean_up_tokenization_spaces": False}
        if self.chat_template is not None:
            config["chat_template"] = self.chat_template
        files.write_json(os.path.join(folder, decoder_files.CONFIG_FILE), config)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each text, without special tokens. A text that looks like an added token is plain text."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    @property
    def opening_ids(self) -> list[int]:
        """The ids that the tokenizer's file puts before every text, such as LLaMA's begin of text."""
        processor = self._content.get("post_processor") or {}
        parts = [processor, *processor.get("processors", ())]
        single = next((part["single"] for part in parts if part.get("type") == "TemplateProcessing"), [])
        marks = itertools.takewhile(lambda part: "SpecialToken" in part, single)
        return [self.added[mark["SpecialToken"]["id"]] for mark in marks]

    def encode_parts(self, parts: Iterable[str | int]) -> list[int]:
        """Returns the ids of a text with added tokens in it.

        Args:
          parts: texts, and ids of added tokens. Texts beside each other are encoded as one, so that tokens may reach
            over their boundary.

        Returns:
          The ids that the reference gives for the whole text, in which only the ids among `parts` are added tokens.

        Raises:
          ValueError: a number is not the id of an added token, or its token is matched only in normalized text.
        """
        parts = list(parts)
        expected = [part for part in parts if isinstance(part, int)]
        if unknown := sorted(set(expected) - set(self._marks)):
            raise ValueError(f"{unknown} are no ids of added tokens of {self._where}. Give some of `added`.")
        whole = "".join(part if isinstance(part, str) else self._marks[part] for part in parts)
        (ids,) = self.encode([whole])
        if [i for i in ids if i in self._marks] != expected:
            raise ValueError(
                f'The normalizer of {self._where} hides added tokens inside a text. Set their "normalized" to false.'
            )
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids, without special tokens. Bytes that are no UTF-8 become U+FFFD.

        Added tokens that are not special, such as Qwen's `<think>`, are a part of the text, as in transformers.
        """
        size = len(self._pieces)
        text = b"".join([self._pieces[i] for i in ids if i < size])
        for _ in range(self._strip):
            text = text.removeprefix(b" ")
        return text.decode("utf-8", "replace")

    def decode_finished(self, ids: Iterable[int]) -> str:
        """Returns the text of ids that further ids cannot change: it never ends with half a character."""
        return self.decode(ids).rstrip(_UNFINISHED)

    def show(self, ids: Iterable[int]) -> str:
        """Returns the text of ids for people: with added tokens, and blanks around them."""
        names = {number: token for token, number in self.added.items()}
        parts = itertools.groupby(ids, names.get)
        return " ".join(name or self.decode(part).strip() for name, part in parts)

    def token_bytes(self) -> list[int]:
        """Returns the number of bytes that each id stands for; 0 for the ends and added tokens."""
        without = {*self.added.values(), *self.end_ids}
        return [0 if i in without else len(piece) for i, piece in enumerate(self._pieces)]

    def _named_id(self, name: str) -> int | None:
        token = self.special_tokens.get(name)
        if token is not None and token not in self.added:
            raise ValueError(
                f"{self._where} has no token {token!r}, which is its {name} in {decoder_files.CONFIG_FILE}. Give the "
                "files of one model."
            )
        return self.added.get(token) if token is not None else None

    def _private_names(self) -> dict[int, str]:
        """Returns {id: name} of added tokens, under names that nobody can type."""
        nonce = secrets.token_hex(16)
        return {number: f"\ue000{nonce}.{number}\ue001" for number in self.added.values()}

    def _build(self) -> Tokenizer:
        """Returns the tokenizer of the package, which knows added tokens by their private names alone."""
        model, names = self._content["model"], {token: self._marks[number] for token, number in self.added.items()}
        vocab = {token: number for token, number in model["vocab"].items() if token not in names}
        added = []
        for entry in self._content["added_tokens"]:
            name = names.get(entry["content"], entry["content"])
            vocab[name] = entry["id"]
            added.append(entry | {"content": name, "single_word": False})
        merges = [pair for pair in model["merges"] if not {*pair, "".join(pair)} & names.keys()]
        model = model | {"vocab": vocab, "merges": merges, "dropout": None}
        if model.get("unk_token") in list(names):  # which may be no text in a damaged file
            model["unk_token"] = None  # a character without a piece has no id, rather than that of a special token
        content = self._content | {"model": model, "added_tokens": added}
        try:
            return Tokenizer.from_str(json.dumps(content | dict.fromkeys(("truncation", "padding", "post_processor"))))
        except Exception as error:  # the package raises no special class
            raise ValueError(
                f"{self._where} cannot be read ({error}). Expected a tokenizer.json of the tokenizers package."
            ) from error

    def _bytes_of(self, ids: Mapping[str, int]) -> list[bytes]:
        """Returns the bytes that each id stands for; none for special tokens, and for ids that no token has."""
        byte_level = decoder_files.is_byte_level(self._content)
        byte_of = {character: byte for byte, character in decoder_files.byte_alphabet().items()}
        fallback = self._content["model"].get("byte_fallback")
        pieces = [b""] * self.vocab_size
        for token, number in ids.items():
            if number in self._special_ids:
                continue
            if byte_level:
                mapped = all(character in byte_of for character in token) and token not in self.added
                pieces[number] = bytes(byte_of[character] for character in token) if mapped else token.encode()
            elif fallback and (found := _BYTE.fullmatch(token)):
                pieces[number] = bytes.fromhex(found[1])
            else:
                pieces[number] = token.replace(_BLANK, " ").encode()
        return pieces

    def _stripped_blanks(self) -> int:
        """Returns the number of blanks that the decoder takes off the beginning of a text."""
        if decoder_files.is_byte_level(self._content) or self._tokenizer.decoder is None:
            return 0
        return 4 - self._tokenizer.decoder.decode([4 * _BLANK + "a"]).count(" ")

    def _check_decoder(self) -> None:
        """Raises a ValueError if the package would decode otherwise than this class."""
        (ids,) = self.encode([_PROBE])
        reference, ours = self._tokenizer.decode(ids), self.decode(ids)
        if reference != ours:
            raise ValueError(
                f"{self._where} has a decoder that is not built in: it makes {reference!r} of what should be {ours!r}. "
                "Expected the decoder ByteLevel, Metaspace, or SentencePiece's Replace, ByteFallback, Fuse and Strip."
            )


def load_decoder_tokenizer(folder: str) -> BytePairs | DecoderTokenizer:
    """Reads the tokenizer of a decoder's folder: `BytePairs` for a GPT-2, else `DecoderTokenizer`.

    Raises:
      FileNotFoundError: there is no tokenizer, or a part of it is missing.
      ValueError: a file is damaged, or the tokenizer is of a kind that is not built in.
    """
    if not os.path.isfile(os.path.join(folder, decoder_files.JSON_FILE)) and decoder_files.has_gpt2_files(folder):
        return BytePairs.load(folder)
    content, config = decoder_files.read(folder)
    if decoder_files.is_gpt2(content, config, END):
        return BytePairs.load(folder)
    return DecoderTokenizer.from_json(content, config, os.path.join(folder, decoder_files.JSON_FILE))
