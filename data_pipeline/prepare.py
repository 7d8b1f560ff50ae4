"""Prepares a table of questions and answers for training and for the index.

    python -m data_pipeline.prepare --input=docproduct/sample/pairs.csv --tokenizer=MODEL_FOLDER --output_dir=prepared

Reads the pairs, cleans them, groups equal questions and equal answers, splits them by question group, tokenizes, and
writes a prepared folder (see prepared.py). Rows are streamed. Ends with one line of JSON: the counts, and what was
refused and why.
"""

import collections
import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from absl import app, flags

from data_pipeline import cleaning, files, prepared, records, splits
from data_pipeline.corpora import Columns, Refusals, read_pairs
from data_pipeline.tokenizers import WordPiece

_CHUNK = 2_000  # pairs that are tokenized and written together


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the content of a prepared folder.

    Attributes:
      inputs: files whose pairs are split by a hash of their question.
      dev_inputs: files whose pairs are all dev.
      test_inputs: files whose pairs are all test.
      columns: the columns of the files.
      tokenizer: a model folder with vocab.txt, or a vocabulary file.
      lower_case: None takes what the tokenizer's folder says.
      max_question_tokens: a longer question loses its end; [CLS] and [SEP] count.
      max_answer_tokens: the same for an answer.
      dev_share: share of the question groups of `inputs` that goes to dev.
      test_share: share that goes to test.
      num_shards: TFRecord files for each split.
      seed: draws the split.
    """

    inputs: tuple[str, ...]
    tokenizer: str
    dev_inputs: tuple[str, ...] = ()
    test_inputs: tuple[str, ...] = ()
    columns: Columns = Columns()
    lower_case: bool | None = None
    max_question_tokens: int = 256
    max_answer_tokens: int = 256
    dev_share: float = 0.05
    test_share: float = 0.0
    num_shards: int = 8
    seed: int = 0


def prepare(settings: Settings, output_dir: str, overwrite: bool = False) -> dict[str, Any]:
    """Writes a prepared folder, whole or not at all.

    Returns:
      Its manifest.

    Raises:
      ValueError: an input is damaged, or no pair is left.
      FileExistsError: `output_dir` is there already and `overwrite` is off.
    """
    splits.check_shares(settings.dev_share, settings.test_share)
    if settings.num_shards < 1:
        raise ValueError(f"num_shards is {settings.num_shards}; expected 1 or more.")
    tokenizer = WordPiece.load(settings.tokenizer, settings.lower_case)
    with files.whole_folder(output_dir, overwrite) as folder:
        refusals = Refusals()
        counts, histogram, shards = _write_pairs(folder, _rows(settings, refusals), tokenizer, settings)
        if not any(count["pairs"] for count in counts.values()):
            raise ValueError(
                f"No pair is left of {', '.join(settings.inputs)}. Refused: {refusals.report() or 'nothing'}. "
                "Expected rows with a question and an answer."
            )
        tokenizer.save(folder)
        manifest = {
            "kind": prepared.KIND,
            "format": prepared.FORMAT,
            "tokenizer": {"fingerprint": tokenizer.fingerprint, "lower_case": tokenizer.lower_case},
            "counts": counts,
            "refused": refusals.report(),
            "shards": shards,
            "train_lengths": sorted(histogram.items()),
            "settings": dataclasses.asdict(settings),
            "inputs": [
                {"path": path, "bytes": os.path.getsize(path), "sha256": files.sha256(path)}
                for path in (*settings.inputs, *settings.dev_inputs, *settings.test_inputs)
            ],
        }
        files.write_json(os.path.join(folder, prepared.MANIFEST_FILE), manifest)
    return manifest


def _rows(settings: Settings, refusals: Refusals) -> Iterator[dict[str, Any]]:
    """Yields the rows of pairs.parquet: clean, with groups and split, each pair once."""
    given = {}  # question group -> the split that a whole file was given to
    seen = set()  # pair ids
    inputs = ((splits.TEST, settings.test_inputs), (splits.DEV, settings.dev_inputs), (None, settings.inputs))
    for split, path in ((split, path) for split, paths in inputs for path in paths):
        for where, pair in read_pairs(path, settings.columns, refusals):
            row = {
                "question": cleaning.clean(pair.question),
                "answer": cleaning.clean(pair.answer),
                "source": cleaning.clean(pair.source) or os.path.basename(path),
                "focus": cleaning.clean(pair.focus),
            }
            if not row["question"] or not row["answer"]:
                refusals.add(f"empty {'answer' if row['question'] else 'question'}", where)
                continue
            row["pair_id"] = cleaning.pair_id(row["question"], row["answer"])
            if row["pair_id"] in seen:
                refusals.add("the same pair stands before", where)
                continue
            row["question_group"] = cleaning.group(row["question"])
            row["answer_group"] = cleaning.group(row["answer"])
            if given.get(row["question_group"], split) != split:
                refusals.add(f"its question is in a {given[row['question_group']]} file", where)
                continue
            if split:
                given[row["question_group"]] = split
            seen.add(row["pair_id"])
            row["split"] = split or splits.split_of(
                row["question_group"], settings.seed, settings.dev_share, settings.test_share
            )
            yield row


def _write_pairs(
    folder: str, rows: Iterator[dict[str, Any]], tokenizer: WordPiece, settings: Settings
) -> tuple[dict[str, dict[str, int]], collections.Counter[int], dict[str, list[str]]]:
    """Writes the Parquet file and the shards; returns counts by split, train's pair lengths, and shard names."""
    writers: dict[str, records.ShardWriter] = {}
    zero = {"pairs": 0, "question_tokens": 0, "answer_tokens": 0, "longest_question": 0, "longest_answer": 0}
    counts = {split: dict(zero) for split in splits.SPLITS}
    histogram: collections.Counter[int] = collections.Counter()
    with pq.ParquetWriter(os.path.join(folder, prepared.PAIRS_FILE), prepared.PAIRS_SCHEMA) as parquet:
        while chunk := list(itertools.islice(rows, _CHUNK)):
            parquet.write_table(pa.Table.from_pylist(chunk, prepared.PAIRS_SCHEMA))
            questions = tokenizer.encode([row["question"] for row in chunk], settings.max_question_tokens)
            answers = tokenizer.encode([row["answer"] for row in chunk], settings.max_answer_tokens)
            for row, question_ids, answer_ids in zip(chunk, questions.to_list(), answers.to_list(), strict=True):
                ids = {"question_ids": question_ids, "answer_ids": answer_ids}
                numbers = {name: row[name] for name in records.PAIR if name not in ids}
                if row["split"] not in writers:
                    writers[row["split"]] = records.ShardWriter(folder, row["split"], settings.num_shards)
                writers[row["split"]].write(records.serialize(ids | numbers), key=row["pair_id"])
                count = counts[row["split"]]
                count["pairs"] += 1
                for side, side_ids in (("question", question_ids), ("answer", answer_ids)):
                    count[f"{side}_tokens"] += len(side_ids)
                    count[f"longest_{side}"] = max(count[f"longest_{side}"], len(side_ids))
                if row["split"] == splits.TRAIN:
                    histogram[len(question_ids) + len(answer_ids)] += 1
    return counts, histogram, {split: writers[split].close() if split in writers else [] for split in splits.SPLITS}


def _define_flags() -> None:
    flags.DEFINE_list("input", [], "Files with pairs (.csv .tsv .json .jsonl, also .gz), split by question.")
    flags.DEFINE_list("dev_input", [], "Files whose pairs are all dev; their questions are kept out of train.")
    flags.DEFINE_list("test_input", [], "Files whose pairs are all test; their questions are kept out of the rest.")
    flags.DEFINE_string("output_dir", None, "The prepared folder to write.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace output_dir if it is there.")
    flags.DEFINE_string("tokenizer", None, "Model folder with vocab.txt, or a vocabulary file.", required=True)
    flags.DEFINE_enum("case", "auto", ["auto", "lower", "cased"], "Casing of the vocabulary; auto asks its folder.")
    for field in dataclasses.fields(Columns):
        flags.DEFINE_string(f"{field.name}_column", None, f"Column with the {field.name}; usual names are recognised.")
    flags.DEFINE_integer("max_question_tokens", Settings.max_question_tokens, "Longer questions lose their end.")
    flags.DEFINE_integer("max_answer_tokens", Settings.max_answer_tokens, "Longer answers lose their end.")
    flags.DEFINE_float("dev_share", None, "Share of questions for dev; 0.05, or 0 where dev_input is given.")
    flags.DEFINE_float("test_share", Settings.test_share, "Share of questions for test.")
    flags.DEFINE_integer("num_shards", Settings.num_shards, "TFRecord files for each split.", lower_bound=1)
    flags.DEFINE_integer("seed", Settings.seed, "Draws the split.")


def main(argv: list[str]) -> None:
    """Prepares what the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; files are given with --input.")
    values = flags.FLAGS
    if not values.input:
        raise app.UsageError("--input is missing: the files with questions and answers.")
    dev_share = values.dev_share
    if dev_share is None:
        dev_share = 0.0 if values.dev_input else Settings.dev_share
    settings = Settings(
        inputs=tuple(values.input),
        dev_inputs=tuple(values.dev_input),
        test_inputs=tuple(values.test_input),
        columns=Columns(*(values[f"{field.name}_column"].value for field in dataclasses.fields(Columns))),
        tokenizer=values.tokenizer,
        lower_case={"auto": None, "lower": True, "cased": False}[values.case],
        max_question_tokens=values.max_question_tokens,
        max_answer_tokens=values.max_answer_tokens,
        dev_share=dev_share,
        test_share=values.test_share,
        num_shards=values.num_shards,
        seed=values.seed,
    )
    try:
        manifest = prepare(settings, values.output_dir, values.overwrite)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps({"output_dir": values.output_dir, "counts": manifest["counts"], "refused": manifest["refused"]}))


if __name__ == "__main__":
    _define_flags()
    app.run(main)
