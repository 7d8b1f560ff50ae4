"""Which kind of index suits a number of vectors, and that each of them can be built."""

import numpy as np
import pytest

from docproduct.search import kinds
from docproduct.search.kinds import Kind


@pytest.mark.parametrize(
    ("num_vectors", "factory", "parameters"),
    [
        (0, "Flat", ""),
        (49_999, "Flat", ""),
        # Lists: the power of two that is nearest to four times the root; one list in eight is searched.
        (50_000, "IVF1024,RaBitQfs,RFlat", "nprobe=128,k_factor_rf=8"),  # 4 x 224 = 894
        (1_000_000, "IVF4096,RaBitQfs,RFlat", "nprobe=512,k_factor_rf=8"),
        (10_000_000, "IVF16384,RaBitQfs,RFlat", "nprobe=2048,k_factor_rf=8"),  # 12,649
        (100_000_000, "IVF32768,RaBitQfs,RFlat", "nprobe=4096,k_factor_rf=8"),
    ],
)
def test_the_kind_follows_from_the_size(num_vectors, factory, parameters):
    assert kinds.choose("auto", "", num_vectors) == (factory, parameters)
    assert kinds.choose("HNSW32", "efSearch=9", num_vectors) == ("HNSW32", "efSearch=9")


def test_parameters_need_their_factory():
    for call in (lambda: kinds.choose("auto", "nprobe=3", 9), lambda: kinds.check(Kind("auto", "nprobe=3"), 16)):
        with pytest.raises(ValueError, match="search_parameters=nprobe=3 needs the --factory"):
            call()
    kinds.check(Kind("auto"), 16)
    with pytest.raises(ValueError, match="FAISS cannot build 'Nonsense'"):
        kinds.check(Kind("Nonsense,RFlat"), 16)


def test_a_list_has_enough_vectors_to_be_trained_on():
    assert kinds.num_lists(600) == 8  # 4 x 24.5 = 98, to 128; but 600 / 39 = 15.4
    assert kinds.num_lists(1) == 1


def test_what_is_chosen_can_be_built_for_any_width(monkeypatch):
    monkeypatch.setattr(kinds, "_FLAT_BELOW", 0)
    vectors = np.random.default_rng(1).normal(size=(400, 11)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kind = kinds.choose("auto", "", 400)
    kinds.check(kind, 11)
    engine = kinds.build(vectors, np.arange(400), Kind(kind.factory, "nprobe=99,k_factor_rf=9"))
    assert engine.search(vectors, 1)[1][:, 0].tolist() == list(range(400))


def test_kinds_that_give_their_vectors_back():
    kept = {"Flat", "HNSW32", "HNSW32,Flat", "IVF64,Flat", "IVF64,SQ4,RFlat", "SQ4,Refine(SQfp16)"}
    others = {"SQ8", "HNSW32_SQ8", "IVF64,SQ8", "IVF64,RaBitQ", "IVF64,PQ8x4fs,Refine(SQ8)"}
    assert {factory for factory in kept | others if Kind(factory).keeps_vectors} == kept
