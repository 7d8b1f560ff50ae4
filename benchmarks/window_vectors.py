"""Makes a million real vectors to search: short windows of texts, embedded.

    python -m benchmarks.window_vectors --input=medquad_train.csv.gz --input=forum_qa.jsonl --input=chatdoctor.jsonl \
        --encoder_dir=ENCODER --vectors_dir=windows

Cuts questions and answers of the inputs into windows of 12 words, each 2 words after the one before, drops equal ones,
shuffles them, and embeds as many as asked for as answers. The windows that are searched for come from other texts, a
twentieth of all. A killed run goes on. Writes vectors.npy, queries.npy and questions.npy, float32 of unit norm;
questions.npy holds at most 1,000 whole questions of those other texts. windows.parquet has the texts of vectors.npy as
pairs, for `docproduct.index --vectors`. Ends with one line of JSON.
"""

import json
import os
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import app, flags

from data_pipeline.corpora import Columns, Refusals, read_pairs
from data_pipeline.folders import files
from docproduct import command
from docproduct.systems.retriever import Side, TrainedRetriever

_BLOCK = 20_000
_SEED = 0
_MOST_QUESTIONS = 1_000
_QUERY_SHARE = 20  # one text in 20 is for queries


def windows(text: str, words: int, step: int) -> Iterator[str]:
    """Yields windows of some words of a text; a last one that would be shorter is left out."""
    parts = text.split()
    for start in range(0, len(parts) - words + 1, step):
        yield " ".join(parts[start : start + words])


def cut(texts: list[str], words: int, step: int, count: int) -> list[str]:
    """Returns different windows of texts, as many as asked for, drawn at random.

    Raises:
      ValueError: the texts have fewer.
    """
    found = list(dict.fromkeys(window for text in texts for window in windows(text, words, step)))
    if len(found) < count:
        raise ValueError(f"{len(found)} different windows; expected {count}. Give more files or a smaller --step.")
    return [found[row] for row in np.random.default_rng(_SEED).permutation(len(found))[:count]]


def split(texts: list[str]) -> tuple[list[str], list[str]]:
    """Returns the texts whose windows are searched for, a twentieth, and the others, whose windows are searched."""
    unique = list(dict.fromkeys(texts))
    shuffled = [unique[row] for row in np.random.default_rng(_SEED).permutation(len(unique))]
    num_queries = len(shuffled) // _QUERY_SHARE
    return shuffled[:num_queries], shuffled[num_queries:]


def embed(retriever: TrainedRetriever, texts: list[str], path: str, side: Side = "answer") -> None:
    """Writes the vectors of texts, [N, D] float32, block by block; `path`.done holds the number of finished rows.

    Raises:
      ValueError: the file holds another number of vectors.
    """
    done_path = f"{path}.done"
    if os.path.exists(path) and (number := len(np.load(path, mmap_mode="r"))) != len(texts):
        raise ValueError(f"{path} holds {number} vectors; expected {len(texts)}. Give another --vectors_dir.")
    if os.path.exists(path) and not os.path.exists(done_path):
        return
    done = int(files.read_text(done_path)) if os.path.exists(done_path) else 0
    array = np.lib.format.open_memmap(path, "r+" if done else "w+", np.float32, (len(texts), retriever.config.width))
    for start in range(done, len(texts), _BLOCK):
        array[start : start + _BLOCK] = retriever.embed(texts[start : start + _BLOCK], side).head
        array.flush()
        files.write_text(done_path, str(min(start + _BLOCK, len(texts))))
        print(f"{min(start + _BLOCK, len(texts)):,} of {len(texts):,}", flush=True)
    os.remove(done_path)


def main(argv: list[str]) -> None:
    """Cuts and embeds."""
    values = command.begin(argv)
    with command.errors_on_one_line():
        pairs = [pair for path in values.input for _, pair in read_pairs(path, Columns(), Refusals())]
        of_queries, others = split([text for pair in pairs for text in (pair.question, pair.answer)])
        queries = cut(of_queries, values.words, values.step, values.queries)
        searched = cut(others, values.words, values.step, values.count)
        os.makedirs(values.vectors_dir, exist_ok=True)
        with files.whole_file(os.path.join(values.vectors_dir, "windows.parquet")) as partial:
            pq.write_table(pa.table({"question": searched, "answer": searched}), partial)
        retriever = TrainedRetriever.load_for_many(values.encoder_dir, "auto")
        held_out = {*of_queries}
        questions = list(dict.fromkeys(pair.question for pair in pairs if pair.question in held_out))[:_MOST_QUESTIONS]
        embed(retriever, questions, os.path.join(values.vectors_dir, "questions.npy"), "question")
        for name, texts in (("queries", queries), ("vectors", searched)):
            embed(retriever, texts, os.path.join(values.vectors_dir, f"{name}.npy"))
    print(json.dumps({"vectors_dir": values.vectors_dir, "vectors": values.count, "queries": values.queries}))


if __name__ == "__main__":
    flags.DEFINE_multi_string("input", None, "Tables or JSON with questions and answers.", required=True)
    flags.DEFINE_string("encoder_dir", None, "The encoder.", required=True)
    flags.DEFINE_string("vectors_dir", None, "Folder for the vectors.", required=True)
    flags.DEFINE_integer("count", 1_000_000, "Windows to search.", lower_bound=1)
    flags.DEFINE_integer("queries", 10_000, "Windows that are searched for.", lower_bound=1)
    flags.DEFINE_integer("words", 12, "Words in a window.", lower_bound=1)
    flags.DEFINE_integer("step", 2, "Words from a window to the next.", lower_bound=1)
    app.run(main)
