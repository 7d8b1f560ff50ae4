"""A compressed index with rescoring, against brute force over the vectors."""

import os

import numpy as np
import pytest

from docproduct.search import rescored_engine
from docproduct.search.kinds import Kind, build, load
from docproduct.search.live_engine import LiveEngine
from docproduct.search.rescored_engine import RescoredEngine, VectorFile, parts, split_parameters

# All lists are probed, and so many neighbours are rescored that the codes, of one to four bits a component, miss none.
KINDS = [
    Kind("SQ4,RFlat", "k_factor_rf=40"),
    Kind("IVF4,SQ4,Refine(SQfp16)", "k_factor_rf=40,nprobe=4"),
    Kind("IVF4,RaBitQfs,RFlat", "nprobe=4,k_factor_rf=60"),
    Kind("IVF4,PQ8x4fs,RFlat", "nprobe=4,k_factor_rf=60"),
]


def unit(seed, rows):
    vectors = np.random.default_rng(seed).normal(size=(rows, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS, QUERIES = unit(3, 600), unit(4, 7)
IDS = np.random.default_rng(5).permutation(600).astype(np.int64) * 7 - 900


def brute_force(vectors, ids, k):
    scores = QUERIES @ vectors.T
    order = np.argsort(-scores, axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), ids[order]


@pytest.fixture(scope="module", params=KINDS, ids=str)
def built(request):
    return request.param, build(VECTORS, IDS, request.param)


@pytest.fixture(scope="module")
def loaded(built, tmp_path_factory):
    kind, engine = built
    path = str(tmp_path_factory.mktemp("engine") / "answers.faiss")
    engine.save(path)
    return load(path, kind, "Build it.", mapped=True)


@pytest.mark.parametrize("which", ["built", "loaded"])
def test_a_rescored_search_is_exact(which, built, loaded):
    kind, engine = built
    engine = engine if which == "built" else loaded
    atol = 1e-3 if "fp16" in kind.factory else 1e-6
    cosines, ids = engine.search(QUERIES, 5)
    expected, expected_ids = brute_force(VECTORS, IDS, 5)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(cosines, expected, atol=atol)
    np.testing.assert_allclose(engine.vectors_of(IDS[[9, 2, 400]]), VECTORS[[9, 2, 400]], atol=atol)
    np.testing.assert_array_equal(engine.ids(), IDS)
    assert (len(engine), engine.width) == (600, 16)


def test_what_the_lists_do_not_hold_comes_last_without_an_id():
    engine = build(VECTORS, IDS, Kind("IVF4,SQ8,RFlat", "nprobe=1"))
    cosines, ids = engine.search(QUERIES, 600)
    expected = QUERIES @ VECTORS[np.argsort(IDS)].T  # by ascending id
    for row in range(len(QUERIES)):
        found = int((ids[row] != -1).sum())
        assert 0 < found < 600
        assert (ids[row, found:] == -1).all()
        assert (cosines[row, found:] == -np.inf).all()
        own = expected[row, np.searchsorted(np.sort(IDS), ids[row, :found])]
        np.testing.assert_allclose(cosines[row, :found], own, atol=1e-6)
        assert (np.diff(cosines[row, :found]) <= 0).all()


@pytest.mark.parametrize("few", [0, 2_000])
def test_only_allowed_ids_are_found(few, loaded, monkeypatch):
    monkeypatch.setattr(rescored_engine, "FEW", few)
    monkeypatch.setattr("docproduct.search.faiss_engine.FEW", few)
    rows = np.arange(0, 600, 3)
    _, ids = loaded.search(QUERIES, 5, IDS[rows])
    np.testing.assert_array_equal(ids, brute_force(VECTORS[rows], IDS[rows], 5)[1])
    _, ids = loaded.search(QUERIES, 5, IDS[:3])
    assert ids.shape == (7, 5)
    assert set(ids[0].tolist()) == {-1, *IDS[:3].tolist()}


def test_changes_stand_beside_it(loaded):
    with pytest.raises(ValueError, match="cannot be changed. Put it into a LiveEngine"):
        loaded.add(QUERIES, np.arange(7))
    with pytest.raises(ValueError, match="cannot be changed. Put it into a LiveEngine"):
        loaded.remove(IDS[:1])
    live = LiveEngine(loaded)
    gone = np.unique(live.search(QUERIES, 2)[1])
    assert live.remove(gone) == len(gone)
    live.add(QUERIES[:1], np.array([12_345]))
    kept = ~np.isin(IDS, gone)
    vectors, ids = np.concatenate([VECTORS[kept], QUERIES[:1]]), np.append(IDS[kept], 12_345)
    np.testing.assert_array_equal(live.search(QUERIES, 5)[1], brute_force(vectors, ids, 5)[1])
    np.testing.assert_array_equal(live.vectors_of(np.array([12_345])), QUERIES[:1])


def test_more_neighbours_are_rescored_with_a_higher_factor(tmp_path):
    def share(factor):
        engine = build(VECTORS, IDS, Kind("IVF4,RaBitQ,RFlat", f"nprobe=4,k_factor_rf={factor}"))
        return np.mean(engine.search(QUERIES, 5)[1] == brute_force(VECTORS, IDS, 5)[1])

    assert share(1) < share(4) <= share(60) == 1


def test_vectors_stay_in_their_file(loaded, tmp_path):
    np.save(tmp_path / "v.npy", VECTORS)
    file = VectorFile(str(tmp_path / "v.npy"))
    (tmp_path / "v.npy").unlink()  # an open file outlives its name
    rows = np.array([7, 599, 0, 7])
    np.testing.assert_array_equal(file[rows], VECTORS[rows])
    np.testing.assert_array_equal(file[590:700], VECTORS[590:])
    assert file[rows[:0]].shape == (0, 16)
    assert isinstance(loaded._vectors, VectorFile)


def test_a_file_that_is_cut_while_it_is_open_gives_no_wrong_vectors(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fadvise", raising=False)  # as on macOS
    path = tmp_path / "v.npy"
    np.save(path, VECTORS)
    file = VectorFile(str(path))
    os.truncate(path, path.stat().st_size - 1)
    np.testing.assert_array_equal(file[598:599], VECTORS[598:599])
    with pytest.raises(OSError, match=r"v\.npy ends before row 599"):
        file[599:]


def test_damaged_files_are_refused(tmp_path):
    path = str(tmp_path / "a.faiss")
    build(VECTORS, IDS, KINDS[0]).save(path)
    vectors = tmp_path / "a.vectors.npy"
    content = vectors.read_bytes()
    for damaged in (b"nothing", content[:-9]):
        vectors.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.vectors\.npy is missing or damaged .* Build it\."):
            load(path, KINDS[0], "Build it.")
    np.save(vectors, VECTORS[:9])
    with pytest.raises(ValueError, match=r"expected \[600, 16\] numbers.*received \[9, 16\]"):
        load(path, KINDS[0], "Build it.")
    os.remove(vectors)
    with pytest.raises(ValueError, match=r"a\.vectors\.npy is missing"):
        RescoredEngine.load(path, "", "Build it.")


def test_factories_and_parameters():
    assert parts("IVF64,SQ4,RFlat") == ("IVF64,SQ4", np.float32)
    assert parts("IVF64,SQ4,Refine(Flat)") == ("IVF64,SQ4", np.float32)
    assert parts("SQ4,Refine(SQfp16)") == ("SQ4", np.float16)
    assert split_parameters("nprobe=8,k_factor_rf=2.5") == ("nprobe=8", 2.5)
    assert split_parameters("k_factor_rf=16,nprobe=8") == ("nprobe=8", 16)
    assert split_parameters("nprobe=8,k_factor_rf=0,ht=3") == ("nprobe=8,ht=3", 1)
    assert split_parameters("") == ("", 4)
