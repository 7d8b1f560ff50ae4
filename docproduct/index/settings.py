"""How an index is built."""

import dataclasses

from docproduct.search.lexical import AUTO, HYBRIDS


@dataclasses.dataclass(frozen=True)
class IndexSettings:
    """How an index is built.

    Attributes:
      factory: FAISS factory string, e.g. Flat (exact), HNSW32, IVF256,Flat.
      search_parameters: how thorough an approximate index searches, e.g. nprobe=16 (IVF) or efSearch=64 (HNSW).
      passage_tokens: 0: an answer is one passage, what the encoder takes of it. Else: passages of so many tokens.
      passage_overlap: tokens that a passage shares with the next.
      export_embeddings: keep all vectors as .npy files.
      hybrid: how BM25 counts beside the vectors. auto: as was best on dev when the retriever was trained; none, rrf or
        weight: see `lexical.fuse`.
      bm25_weight: for `weight`; `docproduct.evaluate --hybrid=tune` finds a good one.
      dims: 0: whole vectors; else their first components, for a model that was trained for it (matryoshka_dims).
      kept: share of the questions with an answer in the index that shall count as answered; see `threshold.calibrate`.
    """

    factory: str = "Flat"
    search_parameters: str = ""
    passage_tokens: int = 0
    passage_overlap: int = 32
    export_embeddings: bool = False
    hybrid: str = AUTO
    bm25_weight: float = 0.1
    dims: int = 0
    kept: float = 0.95

    def __post_init__(self) -> None:
        """Raises a ValueError for an impossible way to join BM25."""
        if self.hybrid not in (AUTO, *HYBRIDS):
            raise ValueError(f"hybrid is {self.hybrid!r}; expected {AUTO}, {', '.join(HYBRIDS)}.")
        if not 0 < self.kept <= 1:
            raise ValueError(f"kept is {self.kept}; expected more than 0, and at most 1.")
        if not 0 <= self.bm25_weight < float("inf"):
            raise ValueError(f"bm25_weight is {self.bm25_weight}; expected a number from 0 up.")
