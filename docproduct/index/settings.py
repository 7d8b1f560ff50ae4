"""How an index is built."""

import dataclasses

from data_pipeline.settings import Settings, setting
from docproduct.search import kinds
from docproduct.search.fusion import AUTO, HYBRIDS, Hybrid


@dataclasses.dataclass(frozen=True)
class IndexSettings(Settings):
    """How an index is built; `fusion.fuse` describes the values of `hybrid`, `threshold.calibrate` describes `kept`."""

    factory: str = setting(
        kinds.AUTO,
        "FAISS factory string: Flat (exact), HNSW32, IVF256,SQ8, ...; docproduct.tune_index compares them. auto: by "
        "the number of vectors.",
    )
    search_parameters: str = setting(
        "", "How thoroughly an approximate index searches: nprobe=16 (IVF), efSearch=64 (HNSW), ..."
    )
    passage_tokens: int = setting(
        0,
        "Tokens per passage; 0: each answer is one, cut at the maximum length of the encoder, and documents have 128.",
        least=0,
    )
    passage_overlap: int = setting(32, "Number of tokens that two consecutive passages share.", least=0)
    export_embeddings: bool = setting(False, "Also write all vectors as .npy files.")
    hybrid: str = setting(
        AUTO,
        "How BM25 is combined with the vectors; auto: the best way on dev in training.",
        choices=(AUTO, *HYBRIDS),
    )
    bm25_weight: float = setting(
        0.1,
        "Weight of BM25, with --hybrid=weight; docproduct.evaluate --hybrid=tune finds a good one.",
        least=0,
        below=float("inf"),
    )
    keep: tuple[str, ...] = setting(
        (), "Further columns of the prepared pairs to keep, such as url; a search can be filtered by them."
    )
    dims: int = setting(
        0, "First components of the vectors to keep, for a model trained with matryoshka_dims; 0: all.", least=0
    )
    kept: float = setting(
        0.95, "Share of new questions with an answer in the index that should count as answerable.", above=0, most=1
    )

    def with_hybrid(self, trained: Hybrid) -> "IndexSettings":
        """Returns the settings with `auto` replaced by the best way in training."""
        if self.hybrid != AUTO:
            return self
        return dataclasses.replace(self, hybrid=trained.method, bm25_weight=trained.weight)
