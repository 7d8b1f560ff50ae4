"""The numbers of one corpus, in one pass: each topic counts all rows, or looks at the sample after the pass."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from data_pipeline.report import agreement, duplicates
from data_pipeline.report.boilerplate import Boilerplate
from data_pipeline.report.corpus import Corpus, PreparedCorpus, Row
from data_pipeline.report.counts import Counts
from data_pipeline.report.hashes import HashCollector, Hashes
from data_pipeline.report.languages import languages
from data_pipeline.report.lengths import Lengths
from data_pipeline.report.mojibake import Mojibake
from data_pipeline.report.overlaps import Overlap
from data_pipeline.report.personal_data import PersonalData, shown
from data_pipeline.report.question_types import QuestionTypes
from data_pipeline.report.sample import Sample
from data_pipeline.report.templates import Templates
from data_pipeline.report.vocabulary import vocabulary
from data_pipeline.settings import Settings, setting
from data_pipeline.tokenizers import Tokenizer

_EXAMPLE_CHARACTERS = 500
_RANDOM_EXAMPLES = 6


@dataclasses.dataclass(frozen=True)
class ReportSettings(Settings):
    """How a corpus is looked at; the help beside each field says what it does."""

    sampled_rows: int = setting(
        20_000, "Number of rows for near duplicates, languages, agreement and unknown words; 0: all rows.", least=0
    )
    max_tokens: int = setting(256, "The model's limit, [CLS] and [SEP] counted.", least=3)
    near_threshold: float = setting(0.8, "Jaccard similarity of near duplicates.", above=0, most=1)
    num_examples: int = setting(3, "Number of examples of each finding.", least=0)
    seed: int = setting(0, "Random seed of the sample.")


def held_out(corpus: Corpus, test: Corpus | None, settings: ReportSettings) -> list[Overlap]:
    """Returns the held-out rows to look for in a corpus: its dev and test splits, and a test file."""
    overlaps = []
    if isinstance(corpus, PreparedCorpus):
        for split in [name for name, rows in corpus.splits.items() if rows and name != "train"]:
            overlaps.append(_held(Overlap(split, split, settings.near_threshold), corpus.batches(split)))
    if test:
        overlaps.append(_held(Overlap(test.name, "", settings.near_threshold), test.batches()))
    return overlaps


def _held(overlap: Overlap, batches: Iterator[Any]) -> Overlap:
    for batch in batches:
        overlap.hold(batch.rows)
    return overlap


def measure(
    corpus: Corpus, overlaps: Sequence[Overlap], tokenizer: Tokenizer | None, settings: ReportSettings, progress: bool
) -> tuple[dict[str, Any], Hashes]:
    """Returns the numbers of a corpus as plain JSON, and the hashes of its rows.

    Args:
      corpus: the rows.
      overlaps: held-out rows to look for.
      tokenizer: cuts texts into tokens; None: lengths are in words.
      settings: how to look at the corpus.
      progress: show a progress bar.

    Raises:
      ValueError: a file is damaged or holds no rows of this type.
    """
    examples = settings.num_examples
    collector, sample, mojibake = HashCollector(), Sample(settings.sampled_rows, settings.seed), Mojibake(examples)
    personal = PersonalData(examples)
    topics = {
        "counts": Counts(),
        "lengths": Lengths(tokenizer, settings.max_tokens),
        "question_types": QuestionTypes(),
        "boilerplate": Boilerplate(examples),
    }
    templates = Templates(examples)
    with corpus.bar(progress) as count:
        for batch in corpus.batches():
            for topic in (*topics.values(), collector):
                topic.add(batch.rows)
            masked = personal.masked_rows(batch.rows)
            for topic in (templates, sample):  # they show parts of texts, in which a name might no longer look like one
                topic.add(masked)
            mojibake.add(batch.raw)
            for overlap in overlaps:
                overlap.compare(batch.rows)
            count(len(batch.raw))
    hashes, rows = collector.hashes(), sample.rows()
    numbers = {
        "name": shown(corpus.name),
        "files": [file | {"name": shown(file["name"])} for file in corpus.files],
        "refusals": corpus.refusals(),
        **{name: topic.numbers() for name, topic in topics.items()},
        "templates": templates.numbers(),
        "personal_data": personal.numbers(),
        "sample": {"rows": len(rows), "question_share": sample.share},
        "exact_duplicates": duplicates.exact(hashes, rows, examples),
        "near_duplicates": duplicates.near(rows, settings.near_threshold, examples),
        "answers_a_question": agreement.answers_a_question(hashes),
        "agreement": agreement.agreement(sample.by_question(), examples),
        "vocabulary": vocabulary(rows, tokenizer),
        "mojibake": mojibake.numbers(),
        "languages": languages(rows, examples),
        "leaks": [overlap.numbers(examples) for overlap in overlaps],
        "examples": list(map(_example, sample.random(_RANDOM_EXAMPLES))),
    }
    return numbers, hashes


def _example(row: Row) -> dict[str, str]:
    texts = {name: shown(getattr(row, name), _EXAMPLE_CHARACTERS) for name in ("question", "answer", "focus", "source")}
    return {"where": row.where, **texts}
