"""Documents of plain text, packed into windows of token ids for language modelling.

Source: best-fit packing, Ding et al. 2024 ("Fewer Truncations Improve Language Modeling"): a document is cut only where
it is longer than a window, and its parts are put where they fit best, so that windows are full and most documents stay
whole. The end token begins each text and ends the last, as in GPT-2's own training: a model that reads each text by
itself starts anew with it, and predicts first tokens, too.
"""

import bisect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from data_pipeline import cleaning, splits
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.folders.token_folder import LANGUAGE_MODEL, TokenRow, same_folder, write
from data_pipeline.tokenizers import BytePairs, train_byte_pairs
from data_pipeline.tokenizers.byte_pairs import END as END_OF_TEXT

_LONG = 2_000  # characters; a part has up to twice as many


def read_documents(path: str) -> Iterator[str]:
    """Yields the documents of a UTF-8 text file: `<|endoftext|>` ends one wherever it stands.

    A long one, such as a book, is cut into parts that count as documents, at ends of lines or, where these are far
    apart, of words: some of them can be dev.

    Raises:
      ValueError: the file is not UTF-8, or holds no text.
    """
    found = 0
    for part in split_at_ends(files.read_text(path)):
        for text in split_at_ends(cleaning.clean(part)):  # cleaning decodes &lt;|endoftext|&gt;
            found += 1
            yield from _parts(text)
    if not found:
        raise ValueError(f"{path} holds no text. Expected plain text; remove the file, or give another.")


def split_at_ends(text: str) -> list[str]:
    """Returns the documents between the marks `<|endoftext|>` of a text: the mark itself is never read as letters."""
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
    """Returns the documents of train and dev: equal ones are in one split, and count once; dev has one at least."""
    found: dict[str, dict[int, str]] = {splits.TRAIN: {}, splits.DEV: {}}
    for document in documents:
        group = cleaning.group(document)
        found[splits.split_of(group, seed, dev_share, 0.0)].setdefault(group, document)
    if dev_share and not found[splits.DEV] and len(found[splits.TRAIN]) > 1:
        group, document = found[splits.TRAIN].popitem()
        found[splits.DEV][group] = document
    return {split: list(documents.values()) for split, documents in found.items()}


def pack(documents: Iterable[Sequence[int]], window: int, end_id: int) -> list[list[int]]:
    """Packs documents into windows.

    Args:
      documents: token ids of each.
      window: tokens of a window, at most; 2 or more.
      end_id: begins every part of a document, and ends the window, where it has room.

    Returns:
      The windows, each of 2 to `window` tokens.
    """
    size = window - 1
    parts = [[end_id, *ids[start : start + size]] for ids in documents for start in range(0, len(ids), size)]
    windows: list[list[int]] = []
    # (room, number) of windows that are not full, sorted.
    open_windows: list[tuple[int, int]] = []
    for part in sorted(parts, key=len, reverse=True):
        place = bisect.bisect_left(open_windows, (len(part), 0))  # the least room that is enough
        if place < len(open_windows):
            room, number = open_windows.pop(place)
            windows[number] += part
        else:
            room, number = size, len(windows)
            windows.append(list(part))
        if (left := room - len(part)) > 1:
            bisect.insort(open_windows, (left, number))
    # A part that fills its window is most often cut: no end is learned there.
    return [[*ids, end_id][:window] for ids in windows]


def write_windows(
    path: str,
    text_files: Sequence[str],
    prepared: PreparedFolder | None,
    tokenizer: BytePairs | int,
    window: int,
    dev_share: float = 0.05,
    seed: int = 0,
) -> dict[str, Any]:
    """Writes a token folder of packed windows, unless the same one is there.

    Args:
      path: the folder.
      text_files: plain text, see `read_documents`.
      prepared: its pairs are documents, too, question and answer on lines of their own; in their own splits. One that
        holds `<|endoftext|>` ends there, and goes on as another document; "shortened" counts such pairs.
      tokenizer: makes the ids; or the size of a vocabulary that is learned from the documents of train.
      window: tokens of a window.
      dev_share: share of the text files' documents that goes to dev.
      seed: draws it.

    Returns:
      The manifest.

    Raises:
      ValueError: there is no text, or none in train or dev; or another token folder is at the path.
    """
    splits.check_shares(dev_share, 0.0)
    if not window >= 2:
        raise ValueError(f"window is {window}; expected 2 or more.")
    if not text_files and prepared is None:
        raise ValueError("There is no text. Expected text files, or a prepared folder.")
    made_of = {"texts": [files.sha256(name) for name in text_files], "prepared": prepared and prepared.fingerprint()}
    settings = {"window": window} | ({"dev_share": dev_share, "seed": seed} if text_files else {})
    settings["vocabulary"] = tokenizer if isinstance(tokenizer, int) else tokenizer.fingerprint
    if (found := same_folder(path, LANGUAGE_MODEL, settings, made_of)) is not None:
        return found
    documents = split_documents((text for name in text_files for text in read_documents(name)), seed, dev_share)
    split_pairs = 0
    for split, texts in documents.items():
        if prepared is not None:
            pairs = prepared.pairs(["question", "answer"], split).to_pydict()
            of_pairs = [split_at_ends(f"{asked}\n{answered}") for asked, answered in zip(*pairs.values(), strict=True)]
            split_pairs += sum(len(parts) > 1 for parts in of_pairs)
            texts += itertools.chain.from_iterable(of_pairs)
    for split, texts in documents.items():
        if not texts:
            raise ValueError(
                f"No document is in {split}. Give more texts or another --dev_share; pairs have their splits from "
                "data_pipeline.prepare."
            )
    if isinstance(tokenizer, int):
        tokenizer = train_byte_pairs(documents[splits.TRAIN], tokenizer)
    windows = {split: pack(tokenizer.encode(texts), window, tokenizer.end_id) for split, texts in documents.items()}
    rows = {split: [TokenRow([], ids, number) for number, ids in enumerate(found)] for split, found in windows.items()}
    shortened = {"pairs_split_at_end_of_text": split_pairs} if split_pairs else {}
    return write(path, LANGUAGE_MODEL, tokenizer, rows, settings, made_of, shortened=shortened)
