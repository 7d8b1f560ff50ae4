"""Builds an index from vectors that were made elsewhere, with the encoder that made them or without one."""

import dataclasses
from typing import Any

import numpy as np

from data_pipeline.folders import files
from docproduct.index.calibrating import threshold_of
from docproduct.index.content import Content
from docproduct.index.folder import KIND, word_indexes, write
from docproduct.index.settings import IndexSettings
from docproduct.index.vector_table import Rows, VectorTable, read
from docproduct.search import kinds
from docproduct.search.fusion import Hybrid
from docproduct.search.kinds import Kind
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.folder import shorten

PRECOMPUTED = "precomputed"  # in place of a dtype policy
_COMPARED = 32  # rows whose vectors are made again
_SAME_ENCODER = 0.9  # of the median cosine: half precision changes it far less, another encoder far more


def build_from_vectors(
    table: VectorTable,
    index_dir: str,
    settings: IndexSettings = IndexSettings(),
    retriever: TrainedRetriever | None = None,
    encoder_name: str = "",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes an index of the vectors of a table, whole or not at all.

    Args:
      table: Texts and vectors; the vectors are scaled to unit norm.
      index_dir: The folder to write.
      settings: How the index is built; passages and exported embeddings need an encoder.
      retriever: The encoder that made the vectors, so that the index can be searched with texts. Without it, the index
        is searched with vectors; see `Index.open_vectors`.
      encoder_name: Name of the encoder, for the error that refuses another.
      overwrite: Whether to replace `index_dir`.

    Returns:
      The manifest.

    Raises:
      ValueError: the table cannot be read (see `read`), the retriever did not make the vectors, or a setting does not
        fit.
    """
    if settings.passage_tokens or settings.export_embeddings:
        raise ValueError(
            "--passage_tokens and --export_embeddings need an encoder; --vectors gives one vector per text."
        )
    if settings.keep:
        raise ValueError("--keep is for the columns of prepared pairs; --vectors gives source and focus.")
    settings = settings.with_hybrid(retriever.hybrid if retriever else Hybrid("none", settings.bm25_weight))
    files.check_free(index_dir, overwrite, KIND)  # before the work
    rows = read(table)
    heads = {side: shorten(vectors, settings.dims) for side, vectors in rows.vectors.items()}
    kinds.check(Kind(settings.factory, settings.search_parameters), next(iter(heads.values())).shape[1])
    if retriever:
        _check_encoder(retriever, rows, table.path)
    words = word_indexes(rows.pairs, settings)
    made_of = {
        "encoder": {
            "name": encoder_name if retriever else f"that of {table.path}, unknown",
            "fingerprint": retriever.fingerprint() if retriever else "",
            "dtype_policy": PRECOMPUTED,
        },
        "prepared": "",  # no prepared folder
        "vectors": {"sha256": files.sha256(table.path), "refused": rows.refused},
        "settings": dataclasses.asdict(settings),
    }
    numbers = np.arange(len(rows.pairs))
    content = Content(rows.pairs, np.full(len(numbers), ""), heads, numbers, np.zeros_like(numbers))
    made_of["threshold"] = threshold_of(content, settings.kept)
    with files.whole_folder(index_dir, overwrite, KIND) as folder:
        return write(folder, content, words, settings, made_of)


def _check_encoder(retriever: TrainedRetriever, rows: Rows, path: str) -> None:
    """Raises a ValueError unless the retriever encodes some texts as the vectors that the table has for them."""
    width, expected = next(iter(rows.vectors.values())).shape[1], retriever.config.bert.width
    if width != expected:
        raise ValueError(
            f"The vectors of {path} have {width} components, those of --model_dir {expected}. Give the encoder that "
            "made them, or none."
        )
    compared = np.linspace(0, len(rows.pairs) - 1, min(len(rows.pairs), _COMPARED)).astype(int)
    for side, stored in rows.vectors.items():
        vectors = retriever.embed([rows.pairs[side][row].as_py() for row in compared.tolist()], side).head
        cosine = float(np.median((vectors * stored[compared]).sum(axis=1)))
        if cosine < _SAME_ENCODER:
            raise ValueError(
                f"The {side}s' vectors of {path} were not made by --model_dir: of {len(compared)} texts the median "
                f"cosine of both vectors is {cosine:.3f}; expected 1. Questions would be compared with vectors of "
                "another space. Give the encoder that made them, or none."
            )
