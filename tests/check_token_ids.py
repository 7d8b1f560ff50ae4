"""Compares our token ids with those of references, on every text of a data folder.

WordPiece ids are compared with the BERT tokenizer of the `tokenizers` package. GPT-2's byte pairs are compared with
OpenAI's algorithm in Python (tests/reference.py), and must decode to the text.

    python -m tests.check_token_ids --data_dir=../shared/data

Reads every CSV, JSON, JSONL (plain or gzipped) and XML file there, and the four vocabularies under vocab/. Ends with
one line of JSON: the texts compared and how many differ, for each vocabulary.
"""

import csv
import glob
import gzip
import json
import os
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from absl import app, flags
from tokenizers import BertWordPieceTokenizer, Tokenizer

from data_pipeline import cleaning
from data_pipeline.tokenizers import BytePairs, load_tokenizer
from tests.reference import gpt2_ids

_MAX_TOKENS = 100_000  # nothing is cut
_BATCH = 2_000
_VARINT = re.compile(rb"[\x80-\xff]*[\x00-\x7f]")


def strings_in(value: Any) -> Iterator[str]:
    """Yields every string inside nested lists and dicts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings_in(item)


def texts_of(path: str) -> Iterator[str]:
    """Yields every string of one data file."""
    opener = gzip.open if path.endswith(".gz") else open
    encoding = "gb18030" if "gb18030" in path else "utf-8"
    with opener(path, "rt", encoding=encoding, newline="") as file:
        name = path.removesuffix(".gz")
        if name.endswith(".csv"):
            yield from strings_in(list(csv.reader(file)))
        elif name.endswith(".xml"):
            for element in ElementTree.parse(file).iter():
                yield from filter(None, (element.text, element.tail, *element.attrib.values()))
        elif name.endswith(".jsonl"):
            for line in file:
                yield from strings_in(json.loads(line))
        else:
            yield from strings_in(json.load(file))


def reference(vocab: str, lower_case: bool) -> Tokenizer:
    """Returns the reference tokenizer; it treats "[SEP]" inside a text as text."""
    tokenizer = Tokenizer.from_str(BertWordPieceTokenizer(vocab, lowercase=lower_case).to_str())
    tokenizer.encode_special_tokens = True
    return tokenizer


def differing(texts: list[str], vocab: str, lower_case: bool) -> list[str]:
    """Returns the texts whose ids differ."""
    ours, theirs = load_tokenizer(vocab, lower_case), reference(vocab, lower_case)
    result = []
    for start in range(0, len(texts), _BATCH):
        batch = texts[start : start + _BATCH]
        expected = [encoding.ids for encoding in theirs.encode_batch(batch)]
        received = ours.encode(batch, _MAX_TOKENS).to_list()
        result += [text for text, a, b in zip(batch, expected, received, strict=True) if a != b]
        # Preparing tokenizes clean texts word by word, and cuts them.
        clean = [cleaning.clean(text) for text in batch]
        for longest in (_MAX_TOKENS, 16):
            theirs.enable_truncation(longest)
            expected = [encoding.ids for encoding in theirs.encode_batch(clean)]
            theirs.no_truncation()
            received = [unpack(row) for row in ours.pack_words(clean, longest)[0]]
            result += [text for text, a, b in zip(batch, expected, received, strict=True) if a != b]
    return result


def differing_byte_pairs(texts: list[str], folder: str) -> list[str]:
    """Returns the texts whose ids differ from the reference's, or do not decode to the text."""
    ours = BytePairs.load(folder)
    with open(os.path.join(folder, "encoder.json"), encoding="utf-8") as file:
        vocab = json.load(file)
    with open(os.path.join(folder, "vocab.bpe"), encoding="utf-8") as file:
        ranks = {tuple(line.split()): rank for rank, line in enumerate(file.read().split("\n")[1:-1])}
    words: dict[str, list[int]] = {}
    return [
        text
        for text, ids in zip(texts, ours.encode(texts), strict=True)
        if ids != gpt2_ids(text, vocab, ranks, words) or ours.decode(ids) != text
    ]


def unpack(row: bytes) -> list[int]:
    """Returns the numbers that a row of varints encodes."""
    return [sum((byte & 0x7F) << 7 * i for i, byte in enumerate(varint)) for varint in _VARINT.findall(row)]


def main(argv: list[str]) -> None:
    del argv
    folder = flags.FLAGS.data_dir
    paths = [
        path
        for pattern in ("*.csv", "*.csv.gz", "*.json", "*.jsonl", "*.jsonl.gz", "*.xml")
        for path in sorted(glob.glob(os.path.join(folder, "**", pattern), recursive=True))
        if os.path.relpath(path, folder).split(os.sep)[0] != "vocab"
    ]
    texts = sorted({text for path in paths for text in texts_of(path)})
    report = {"files": len(paths), "texts": len(texts), "differ": {}}
    for name, lower_case in (("bert-base-uncased", True), ("bert-base-cased", False), ("bert-base-chinese", True)):
        wrong = differing(texts, os.path.join(folder, "vocab", name, "vocab.txt"), lower_case)
        for text in wrong[:5]:
            print(name, ascii(text[:300]))
        report["differ"][name] = len(wrong)
    wrong = differing_byte_pairs(texts, os.path.join(folder, "vocab", "gpt2"))
    for text in wrong[:5]:
        print("gpt2", ascii(text[:300]))
    report["differ"]["gpt2"] = len(wrong)
    print(json.dumps(report))


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder with data files and vocab/.", required=True)
    app.run(main)
