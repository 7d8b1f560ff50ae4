"""Cuts documents into passages that fit into a prompt each.

A heading of Markdown begins a new passage and is part of its title. Where a section is longer than a passage, it is cut
between paragraphs, then between sentences, then between words, into passages of like size.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from data_pipeline import cleaning
from data_pipeline.corpora import Columns, Refusals
from data_pipeline.corpora.passages import read_passages
from data_pipeline.folders.prepared import PreparedFolder, find_manifest
from data_pipeline.rows import PAIR, PASSAGE, Passage
from data_pipeline.sentences import split_sentences
from data_pipeline.settings import Settings, setting
from data_pipeline.token_rows.packing import split_at_ends
from data_pipeline.tokenizers import load_tokenizer

TOO_SHORT = "the passage is shorter than --least_size"
TWICE = "the passage is there already"
_HEADING = re.compile(r" {0,3}(#{1,6})\s+(.*?)[\s#]*")
_FENCE = re.compile(r" {0,3}(```|~~~)")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_WHOLE = 2**31  # tokens: no text is longer

Size = Callable[[str], int]


@dataclasses.dataclass(frozen=True)
class PassageSettings(Settings):
    """How documents are cut."""

    passage_size: int = setting(
        2_000, "Maximum size of a passage, in characters; with --tokenizer, in its tokens.", least=20
    )
    least_size: int = setting(100, "Shorter passages are left out.", least=1)
    tokenizer: str | None = setting(None, "Model folder or vocabulary file whose tokens measure a passage.")

    def __post_init__(self) -> None:
        """Raises a ValueError for a value out of its bounds, or if no passage can be as short as it must."""
        super().__post_init__()
        if self.least_size > self.passage_size:
            raise ValueError(
                f"least_size is {self.least_size}; expected at most {self.passage_size}, the passage_size: no passage "
                "would be left."
            )

    def size(self) -> Size:
        """Returns what measures a text."""
        if not self.tokenizer:
            return len
        tokenizer = load_tokenizer(self.tokenizer)
        frame = sum(map(len, tokenizer.frame))
        return lambda text: len(tokenizer.encode_few([text], _WHOLE)[0]) - frame


def passage_id(passage: Passage) -> str:
    """Returns the hash of a passage's text, 16 hexadecimal digits."""
    return f"{cleaning.hash64(passage.text) % 2**64:016x}"


def documents(
    paths: Sequence[str], prepared_dir: str | None, split: str, columns: Columns, refusals: Refusals
) -> Iterator[tuple[str, Passage]]:
    """Yields the documents of files, and the passages or answers of a prepared folder, each with its place.

    Args:
      paths: text and Markdown files, and tables; see `read_passages`.
      prepared_dir: a folder of prepared passages or pairs.
      split: the split of its rows that is read.
      columns: the columns of tables.
      refusals: counts rows without a text.

    Raises:
      ValueError: a file is damaged or lacks a column, or the folder holds other rows.
    """
    for path in paths:
        yield from read_passages(path, columns, refusals)
    if prepared_dir:
        schema = PASSAGE if find_manifest(prepared_dir, PASSAGE) else PAIR
        prepared = PreparedFolder(prepared_dir, schema)
        names = ("text", "title", "source", "focus") if schema == PASSAGE else ("answer", "source", "focus")
        for number, row in enumerate(prepared.table(names, split).to_pylist()):
            text, *labels = (row[name] or "" for name in names)
            yield f"{prepared_dir} row {number}", Passage(text, **dict(zip(names[1:], labels, strict=True)))


def cut(rows: Iterable[tuple[str, Passage]], settings: PassageSettings, refusals: Refusals) -> dict[str, Passage]:
    """Returns the passages of documents by their ids, none of them twice.

    Raises:
      ValueError: no passage is left.
    """
    size, passages = settings.size(), dict[str, Passage]()
    for where, document in rows:
        for passage in _passages(document, settings.passage_size, size):
            if size(passage.text) < settings.least_size:
                refusals.add(TOO_SHORT, where)
            elif passages.setdefault(passage_id(passage), passage) is not passage:
                refusals.add(TWICE, where)
    if not passages:
        raise ValueError(
            f"There is no passage. Left out: {refusals.report() or 'nothing'}. Expected texts of "
            f"{settings.least_size} or more; give other files, or a smaller --least_size."
        )
    return passages


def _passages(document: Passage, most: int, size: Size) -> Iterator[Passage]:
    for text in split_at_ends(document.text):
        for heading, section in _sections(text):
            title = " > ".join(filter(None, [cleaning.clean(document.title), document.section, *heading]))
            paragraphs = filter(None, map(cleaning.clean, _BLANK_LINE.split(section)))
            pieces = [piece for paragraph in paragraphs for piece in _pieces(f"{paragraph}\n", most, size)]
            for part in _packed(pieces, list(map(size, pieces)), most):
                yield dataclasses.replace(document, text=part, title=title)


def _sections(text: str) -> Iterator[tuple[list[str], str]]:
    """Yields the texts between the headings of Markdown, each with the headings that it stands under."""
    headings: dict[int, str] = {}  # by level
    lines, is_code = [], False
    for line in text.splitlines():
        is_code ^= bool(_FENCE.match(line))
        if is_code or not (match := _HEADING.fullmatch(line)):
            lines.append(line)
            continue
        yield list(headings.values()), "\n".join(lines)
        level = len(match[1])
        headings = {other: name for other, name in headings.items() if other < level} | {
            level: cleaning.clean(match[2])
        }
        lines = []
    yield list(headings.values()), "\n".join(lines)


def _pieces(text: str, most: int, size: Size) -> list[str]:
    """Returns parts of a text that are no larger than `most`: sentences or, of a longer one, parts of it."""
    if size(text) <= most or len(text) < 2:
        return [text]
    parts = split_sentences(text)
    if len(parts) == 1:
        middle = len(text) // 2
        at = text.rfind(" ", 0, middle) + 1 or middle
        parts = [text[:at], text[at:]]
    return [piece for part in parts for piece in _pieces(part, most, size)]


def _packed(pieces: Sequence[str], sizes: Sequence[int], most: int) -> Iterator[str]:
    """Yields joined pieces, as few texts as their sizes allow, and of like size."""
    wanted = sum(sizes) / max(1, math.ceil(sum(sizes) / most))
    text, filled = "", 0
    for piece, length in zip(pieces, sizes, strict=True):
        if text and (filled >= wanted or filled + length > most):
            yield text.strip()
            text, filled = "", 0
        text, filled = text + piece, filled + length
    if text.strip():
        yield text.strip()
