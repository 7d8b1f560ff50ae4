"""An engine with added and removed vectors, against brute force over the present ones."""

import numpy as np
import pytest

from docproduct.search import faiss_engine
from docproduct.search.faiss_engine import FaissEngine
from docproduct.search.live_engine import LiveEngine

KINDS = {"Flat": "", "SQ8": "", "HNSW16": "efSearch=200", "IVF4,Flat": "nprobe=4", "IVF4,SQ8": "nprobe=4"}


def unit(draw, rows):
    vectors = draw.normal(size=(rows, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute_force(vectors, ids, queries, k):
    scores = queries @ vectors.T
    order = np.argsort(-scores, axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), ids[order]


@pytest.mark.parametrize("factory", KINDS)
def test_changes_equal_brute_force(factory, monkeypatch):
    draw = np.random.default_rng(5)
    present = dict(zip((np.arange(200) * 7 - 300).tolist(), unit(draw, 200), strict=True))
    first = np.array(list(present), np.int64)
    engine = LiveEngine(FaissEngine.build(np.stack(list(present.values())), first, factory, KINDS[factory]))
    atol = 0.03 if "SQ8" in factory else 1e-5
    for step in range(12):
        kind = ("add", "remove", "replace")[step % 3]
        ids = draw.choice(list(present), 5, replace=False)
        if kind == "add":
            ids = np.arange(5) + 10_000 + 10 * step
        else:
            assert engine.remove(np.append(ids, 99_999)) == 5
            for vector_id in ids.tolist():
                del present[vector_id]
        if kind != "remove":
            vectors = unit(draw, 5)
            engine.add(vectors, ids)
            present |= zip(ids.tolist(), vectors, strict=True)
        all_ids, vectors = np.array(list(present), np.int64), np.stack(list(present.values()))
        assert len(engine) == len(present)
        assert set(engine.ids().tolist()) == set(present)
        np.testing.assert_allclose(engine.vectors_of(all_ids), vectors, atol=atol)
        queries, k = unit(draw, 3), int(draw.integers(1, 12))
        scores, found = engine.search(queries, k)
        expected, expected_ids = brute_force(vectors, all_ids, queries, k)
        np.testing.assert_allclose(scores, expected, atol=atol)
        allowed = draw.choice(all_ids, 60, replace=False)
        monkeypatch.setattr(faiss_engine, "FEW", 2_000 * (step % 2))
        rows = np.isin(all_ids, allowed)
        some_scores, some = engine.search(queries, k, allowed)
        expected_some, expected_some_ids = brute_force(vectors[rows], all_ids[rows], queries, k)
        assert set(some.ravel().tolist()) <= set(allowed.tolist())
        if "SQ8" not in factory:
            assert found.tolist() == expected_ids.tolist()
        if factory in ("Flat", "IVF4,Flat") or (factory == "HNSW16" and step % 2):  # else a selector is approximate
            assert some.tolist() == expected_some_ids.tolist()
            np.testing.assert_allclose(some_scores, expected_some, atol=atol)


def test_neighbors_are_found_behind_many_removed_ones():
    draw = np.random.default_rng(2)
    vectors, ids = unit(draw, 300), np.arange(300)
    query = vectors[:1]
    order = np.argsort(-(vectors @ query[0]))
    engine = LiveEngine(FaissEngine.build(vectors, ids, "Flat"))
    assert engine.remove(order[:200]) == 200
    assert engine.search(query, 3)[1][0].tolist() == order[200:203].tolist()
    assert engine.remove(order[200:]) == 100
    scores, found = engine.search(query, 3)
    assert (found.tolist(), np.isneginf(scores).all()) == ([[-1, -1, -1]], True)
    engine.add(vectors[5:6], np.array([7]))
    assert engine.search(query, 3)[1][0].tolist() == [7, -1, -1]
    engine.close()
    with pytest.raises(AttributeError):
        engine.search(query, 1)
