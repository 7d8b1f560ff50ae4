"""FAISS against brute force: additions, removals, and searches restricted to some ids."""

import os

import numpy as np
import pytest

from docproduct.search import faiss_engine
from docproduct.search.faiss_engine import FaissEngine

FACTORIES = ["Flat", "SQ8", "HNSW8", "IVF4,Flat"]


def unit(rows):
    vectors = np.random.default_rng(3).normal(size=(rows, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS = unit(300)
IDS = np.arange(300, dtype=np.int64) * 7 + 3


@pytest.fixture(params=FACTORIES)
def engine(request):
    parameters = {"HNSW8": "efSearch=300", "IVF4,Flat": "nprobe=4"}
    return FaissEngine.build(VECTORS[:200], IDS[:200], request.param, parameters.get(request.param, ""))


def check(engine, rows, allowed=None, atol=0.02):
    """Checks that the nearest vector of each row is the row itself; SQ8 rounds components to 8 bits."""
    cosines, ids = engine.search(VECTORS[rows], 1, allowed)
    assert ids[:, 0].tolist() == IDS[rows].tolist()
    np.testing.assert_allclose(cosines[:, 0], 1, atol=atol)
    np.testing.assert_allclose(engine.vectors_of(IDS[rows]), VECTORS[rows], atol=5 * atol)


def test_added_vectors_are_found(engine, tmp_path):
    assert (len(engine), engine.width) == (200, 16)
    check(engine, np.arange(200))
    engine.add(VECTORS[200:], IDS[200:])
    assert len(engine) == 300
    check(engine, np.arange(300), atol=0.15)  # SQ8 cuts components beyond those that it was trained on
    assert engine.ids().tolist() == IDS.tolist()
    engine.save(str(tmp_path / "e"))
    check(FaissEngine.load(str(tmp_path / "e"), "Build it."), np.arange(300), atol=0.15)


def test_a_mapped_file_is_searched_like_one_that_is_read_and_cannot_be_changed(engine, tmp_path):
    path = str(tmp_path / "e")
    engine.save(path)
    mapped = FaissEngine.load(path, "Build it.", mapped=True)
    os.remove(path)  # the mapping outlives the name
    check(mapped, np.arange(200))
    check(mapped, np.arange(0, 200, 3), IDS[:200:3])
    for mine, its in zip(engine.search(VECTORS, 9), mapped.search(VECTORS, 9), strict=True):
        np.testing.assert_array_equal(its, mine)
    with pytest.raises(ValueError, match="mapped into memory cannot be changed"):
        mapped.add(VECTORS[200:], IDS[200:])
    with pytest.raises(ValueError, match="mapped into memory cannot be changed"):
        mapped.remove(IDS[:3])
    assert mapped.ids().tolist() == IDS[:200].tolist()


def test_a_cut_file_is_refused_when_it_is_mapped(engine, tmp_path):
    path = tmp_path / "e"
    engine.save(str(path))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="missing or damaged .* Build it."):
        FaissEngine.load(str(path), "Build it.", mapped=True)


@pytest.mark.parametrize("few", [0, 2_000])
def test_only_allowed_ids_are_found(engine, few, monkeypatch):
    monkeypatch.setattr(faiss_engine, "FEW", few)
    some = np.arange(0, 200, 3)
    check(engine, some, IDS[some])
    _, ids = engine.search(VECTORS[some + 1], 5, IDS[some])
    order = np.argsort(-(VECTORS[some + 1] @ VECTORS[some].T), axis=1)[:, :5]
    overlap = [len({*row} & {*IDS[some[best]]}) for row, best in zip(ids.tolist(), order, strict=True)]
    assert set(ids.ravel().tolist()) <= {*IDS[some].tolist(), -1}
    assert np.mean(overlap) > 4.5  # HNSW8 and SQ8 are approximate
    _, ids = engine.search(VECTORS[:1], 5, IDS[:3])
    assert sorted(ids[0].tolist()) == [-1, -1, *sorted(IDS[:3].tolist())]


def test_removed_vectors_are_gone_and_the_others_keep_their_ids(engine, request):
    factory = request.node.callspec.params["engine"]
    removed, remaining = np.arange(0, 200, 3), np.setdiff1d(np.arange(200), np.arange(0, 200, 3))
    if factory in ("HNSW8", "IVF4,Flat"):
        # FAISS itself would remove from IVF and mix up the ids that stay.
        with pytest.raises(ValueError, match="cannot remove vectors.*Build the index again"):
            engine.remove(IDS[removed])
        check(engine, np.arange(200))
        return
    assert engine.remove(np.append(IDS[removed], -5)) == len(removed)
    assert len(engine) == len(remaining)
    check(engine, remaining)
    assert not {*engine.search(VECTORS[removed], 9)[1].ravel().tolist()} & {*IDS[removed].tolist()}


def test_a_factory_without_filtered_search_is_refused(monkeypatch):
    monkeypatch.setattr(faiss_engine, "FEW", 0)
    engine = FaissEngine.build(VECTORS, IDS, "NSG16")
    with pytest.raises(ValueError, match="cannot be searched among some vectors only.*factory that can"):
        engine.search(VECTORS[:2], 1, IDS[:9])


def test_a_closed_engine_cannot_be_searched(engine):
    engine.close()
    with pytest.raises(AttributeError):
        engine.search(VECTORS[:1], 1)


def test_a_gpu_is_used_where_faiss_has_one(monkeypatch):
    moved = []

    def index_cpu_to_gpu(resources, number, index):
        moved.append((resources, number))
        return index

    for name, value in (
        ("StandardGpuResources", lambda: "resources"),
        ("get_num_gpus", lambda: 1),
        ("index_cpu_to_gpu", index_cpu_to_gpu),
    ):
        monkeypatch.setattr(faiss_engine.faiss, name, value, raising=False)
    index = FaissEngine.build(VECTORS, IDS, "Flat")._index
    assert not moved
    for device in ("gpu", "auto"):
        check(FaissEngine(index, device), np.arange(300))
    assert moved == [("resources", 0)] * 2
    monkeypatch.setattr(faiss_engine.faiss, "get_num_gpus", lambda: 0)
    with pytest.raises(ValueError, match="there is no GPU"):
        FaissEngine(index, "gpu")
