"""Packs documents of plain text into windows of token ids for language modelling.

Source: best-fit packing, Ding et al. 2024 ("Fewer Truncations Improve Language Modeling"). A document is cut only if it
is longer than a window, and each part goes where it fits best, so that windows are full and most documents stay whole.
The end token begins each text and ends the last, as in GPT-2's own training. The model thus learns to start a new text
after it, and to predict first tokens.
"""

import bisect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from data_pipeline import cleaning, splits
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.folders.token_folder import LANGUAGE_MODEL, Origin, TokenRow, same_folder, write
from data_pipeline.tokenizers import CausalTokenizer, train_byte_pairs
from data_pipeline.tokenizers.byte_pairs import END as END_OF_TEXT

_LONG = 2_000  # characters; a part has up to twice as many


def read_documents(path: str) -> Iterator[str]:
    """Yields the documents of a UTF-8 text file; `<|endoftext|>` ends a document wherever it stands.

    A long document, such as a book, is cut into parts that count as documents, so that some of them can be dev: at the
    end of a line or, where lines are long, of a word.

    Raises:
      ValueError: the file is not UTF-8, or holds no text.
    """
    num_texts = 0
    for part in split_at_ends(files.read_text(path)):
        for text in split_at_ends(cleaning.clean(part)):  # cleaning decodes &lt;|endoftext|&gt;
            num_texts += 1
            yield from _parts(text)
    if not num_texts:
        raise ValueError(f"{path} holds no text. Expected plain text; remove the file, or give another.")


def split_at_ends(text: str) -> list[str]:
    """Returns the documents between the `<|endoftext|>` marks of a text, which are never read as letters."""
    return [part.strip() for part in text.split(END_OF_TEXT) if part.strip()]


def _parts(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > 2 * _LONG:
        least, most = start + _LONG, start + 2 * _LONG
        ends = (text.find("\n", least, most), text.find(" ", least, most), most)
        end = next(end for end in ends if end >= 0)
        yield text[start:end].strip()
        start = end
    yield text[start:].strip()


def split_documents(documents: Iterable[str], seed: int, dev_share: float) -> dict[str, list[str]]:
    """Returns the documents of train and dev. Equal documents count once; dev gets at least one if there are two."""
    by_group: dict[str, dict[int, str]] = {splits.TRAIN: {}, splits.DEV: {}}
    for document in documents:
        group = cleaning.group(document)
        by_group[splits.split_of(group, seed, dev_share, 0.0)].setdefault(group, document)
    if dev_share and not by_group[splits.DEV] and len(by_group[splits.TRAIN]) > 1:
        group, document = by_group[splits.TRAIN].popitem()
        by_group[splits.DEV][group] = document
    return {split: list(documents.values()) for split, documents in by_group.items()}


def pack(documents: Iterable[Sequence[int]], window: int, end_id: int) -> list[list[int]]:
    """Packs documents into windows.

    Args:
      documents: token ids of each document.
      window: largest number of tokens of a window; 2 or more.
      end_id: begins every part of a document, and ends the window if there is room.

    Returns:
      The windows, each of 2 to `window` tokens.
    """
    size = window - 1
    parts = [[end_id, *ids[start : start + size]] for ids in documents for start in range(0, len(ids), size)]
    filled = best_fit(list(map(len, parts)), size)
    # A part that fills its window was most often cut: the model learns no end there.
    return [[*(i for place in places for i in parts[place]), end_id][:window] for places in filled]


def best_fit(lengths: Sequence[int], window: int) -> list[list[int]]:
    """Returns the places of the texts of each window: the longest first, each into the window that it fills best.

    Args:
      lengths: of the texts, in tokens; one that is longer than a window has a window alone.
      window: largest number of tokens of a window.
    """
    windows: list[list[int]] = []
    # (room, number) of windows with room, sorted.
    open_windows: list[tuple[int, int]] = []
    for text in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        place = bisect.bisect_left(open_windows, (lengths[text], 0))  # the window with the least room that is enough
        if place < len(open_windows):
            room, number = open_windows.pop(place)
            windows[number].append(text)
        else:
            room, number = window, len(windows)
            windows.append([text])
        if (left := room - lengths[text]) > 1:
            bisect.insort(open_windows, (left, number))
    return windows


def write_windows(
    path: str,
    text_files: Sequence[str],
    prepared: PreparedFolder | None,
    tokenizer: CausalTokenizer | int,
    window: int,
    dev_share: float = 0.05,
    seed: int = 0,
) -> dict[str, Any]:
    """Writes a token folder of packed windows, unless the same one is there.

    Args:
      path: the folder.
      text_files: plain text, see `read_documents`.
      prepared: a folder whose pairs are documents, too, in their own splits; the answer stands on the line after the
        question. `<|endoftext|>` inside a pair ends the document and begins another; "shortened" counts such pairs.
      tokenizer: makes the ids; or the size of a vocabulary, which is then learned from the documents of train.
      window: largest number of tokens of a window.
      dev_share: share of the text files' documents that goes to dev.
      seed: draws the documents of dev.

    Returns:
      The manifest.

    Raises:
      ValueError: train or dev has no text; or another token folder is at the path.
    """
    splits.check_shares(dev_share, 0.0)
    if window < 2:
        raise ValueError(f"window is {window}; expected 2 or more.")
    if not text_files and prepared is None:
        raise ValueError("There is no text. Expected text files, or a prepared folder.")
    made_of = {"texts": [files.sha256(name) for name in text_files], "prepared": prepared and prepared.fingerprint()}
    settings = {"window": window} | ({"dev_share": dev_share, "seed": seed} if text_files else {})
    settings["vocabulary"] = tokenizer if isinstance(tokenizer, int) else tokenizer.fingerprint
    origin = Origin(LANGUAGE_MODEL, settings, made_of)
    if (manifest := same_folder(path, origin)) is not None:
        return manifest
    documents = split_documents((text for name in text_files for text in read_documents(name)), seed, dev_share)
    num_cut = _add_pairs(documents, prepared) if prepared is not None else 0
    for split, texts in documents.items():
        if not texts:
            raise ValueError(
                f"No document is in {split}. Give more texts or another --dev_share; pairs have their splits from "
                "data_pipeline.prepare."
            )
    if isinstance(tokenizer, int):
        tokenizer = train_byte_pairs(documents[splits.TRAIN], tokenizer)
    rows = {}
    for split, texts in documents.items():
        windows = pack(tokenizer.encode(texts), window, tokenizer.end_id)
        rows[split] = [TokenRow([], ids, number) for number, ids in enumerate(windows)]
    return write(path, origin, tokenizer, rows, shortened={"pairs_split_at_end_of_text": num_cut} if num_cut else {})


def _add_pairs(documents: dict[str, list[str]], prepared: PreparedFolder) -> int:
    """Adds the pairs of a prepared folder to the documents of each split; returns the number of pairs that were cut."""
    num_cut = 0
    for split, texts in documents.items():
        pairs = prepared.table(["question", "answer"], split).to_pylist()
        parts = [split_at_ends(f"{pair['question']}\n{pair['answer']}") for pair in pairs]
        num_cut += sum(len(part) > 1 for part in parts)
        texts += itertools.chain.from_iterable(parts)
    return num_cut
