"""The measurement of FAISS indexes: recall by hand, what is recommended, the command."""

import json

import numpy as np
import pytest

from docproduct import tune_index
from docproduct.search import tuning
from docproduct.search.tuning import Candidate, Measured
from tests.commands import run


def unit(random, *shape):
    vectors = random.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def measured(factory, recall, speed, size):
    return Measured(factory, "", recall, 1.0, speed, size, 1.0)


def test_recall_by_hand():
    # The first query finds 2 of its 3 neighbours, in another order; the second finds 1, and misses one (-1).
    assert tuning.recall(np.array([[2, 1, 7], [5, -1, 0]]), np.array([[1, 2, 3], [4, 5, 6]])) == pytest.approx(0.5)


def test_measuring():
    random = np.random.default_rng(0)
    vectors, queries = unit(random, 1_200, 16), unit(random, 30, 16)
    ticks = iter(range(1_000))
    tried = [Candidate("Flat"), Candidate("IVF16,Flat", ("nprobe=1", "nprobe=4", "nprobe=16", "nprobe=16,"))]
    found = list(tuning.measure(vectors, queries, tried, 5, clock=lambda: float(next(ticks))))
    assert [each.factory for each in found] == ["Flat", *["IVF16,Flat"] * 3]  # the last setting finds no more
    assert found[0].recall == 1.0
    assert found[0].recall > found[2].recall > found[1].recall
    assert found[3].recall == 1.0  # all lists
    # A tick a timing: 1,000 ms for 30 queries that are asked one by one.
    assert found[0].ms == pytest.approx(1_000 / 30)
    assert found[0].queries_per_s == pytest.approx(30.0)
    assert found[0].build_seconds == 1.0
    assert found[0].bytes_per_vector == pytest.approx(16 * 4 + 8, abs=1)
    with pytest.raises(ValueError, match="FAISS cannot build 'Nothing'"):
        list(tuning.measure(vectors, queries, [Candidate("Nothing")], 5))
    with pytest.raises(ValueError, match="FAISS cannot build 'this index, nprobe=2'"):
        list(tuning.measure(vectors, queries, [Candidate("Flat", ("nprobe=2",))], 5))


def test_kinds_are_those_that_faiss_builds():
    random = np.random.default_rng(1)
    vectors = unit(random, 3_000, 8)
    tried = tuning.candidates(*vectors.shape)
    assert {kind.factory for kind in tried} >= {"Flat", "HNSW32", "IVF64,RaBitQfs,RFlat", "IVF64,PQ2x4fs,RFlat"}
    found = list(tuning.measure(vectors, unit(random, 5, 8), tried, 3))
    assert {each.factory for each in found} == {kind.factory for kind in tried}
    assert tuning.candidates(999, 8) == [Candidate("Flat")]


def test_the_best_and_those_that_nothing_beats():
    flat, graph, small = (
        measured("Flat", 1.0, 100, 1_536),
        measured("HNSW32", 0.96, 4_000, 1_808),
        measured("IVF,SQ8", 0.95, 900, 412),
    )
    worse = measured("IVF,Flat", 0.95, 800, 1_570)
    every = [flat, graph, small, worse]
    assert tuning.best(every, 0.95, "speed") == graph
    assert tuning.best(every, 0.95, "memory") == small
    assert tuning.best(every, 0.99, "speed") == flat
    assert tuning.best(every, 1.1, "speed") is None
    assert tuning.frontier(every) == [flat, graph, small]
    assert tune_index.recommended(every, 0.95, "memory")["flags"] == ["--factory=IVF,SQ8"]
    with pytest.raises(ValueError, match="Nothing reaches a recall of 0.99"):
        tune_index.recommended([graph], 0.99, "speed")


def test_the_command(folders, tmp_path):
    factories = ("--factories=Flat", "--factories=HNSW4:efSearch=2:efSearch=32")
    named = (f"--index_dir={folders.index_dir}", f"--output_dir={tmp_path}/out")
    done = run("docproduct.tune_index", *named, "--k=3", *factories)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["recall"] >= 0.95
    assert result["flags"][0] in ("--factory=Flat", "--factory=HNSW4")
    assert "| **Flat** |" in done.stderr
    assert len(json.loads((tmp_path / "out" / "measured.json").read_text())) >= 2
    assert (tmp_path / "out" / "plot.png").read_bytes().startswith(b"\x89PNG")
