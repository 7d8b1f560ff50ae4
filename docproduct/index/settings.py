"""How an index is built."""

import dataclasses

from data_pipeline.settings import Settings, setting
from docproduct.search.fusion import AUTO, HYBRIDS, Hybrid


@dataclasses.dataclass(frozen=True)
class IndexSettings(Settings):
    """How an index is built; `fusion.fuse` describes the values of `hybrid`, `threshold.calibrate` describes `kept`."""

    factory: str = setting("Flat", "FAISS factory string: Flat (exact), HNSW32, IVF256,Flat, ...")
    search_parameters: str = setting(
        "", "How thoroughly an approximate index searches: nprobe=16 (IVF), efSearch=64 (HNSW), ..."
    )
    passage_tokens: int = setting(
        0, "Tokens of a passage; 0: an answer is one passage, as much as the encoder takes of it.", least=0
    )
    passage_overlap: int = setting(32, "Tokens that a passage shares with the next.", least=0)
    export_embeddings: bool = setting(False, "Keep all vectors as .npy files.")
    hybrid: str = setting(
        AUTO,
        "How BM25 counts beside the vectors; auto: the way that was best on dev in training.",
        choices=(AUTO, *HYBRIDS),
    )
    bm25_weight: float = setting(
        0.1,
        "Weight of BM25, with --hybrid=weight; docproduct.evaluate --hybrid=tune finds a good one.",
        least=0,
        below=float("inf"),
    )
    dims: int = setting(
        0, "First components of the vectors to keep, for a model trained with matryoshka_dims; 0: all.", least=0
    )
    kept: float = setting(
        0.95, "Share of new questions with an answer in the index that should count as answerable.", above=0, most=1
    )

    def with_hybrid(self, trained: Hybrid) -> "IndexSettings":
        """Returns the settings with the way that was best in training in place of `auto`."""
        if self.hybrid != AUTO:
            return self
        return dataclasses.replace(self, hybrid=trained.method, bm25_weight=trained.weight)
