"""Builds an index from vectors that were made elsewhere, without an encoder or joined to the one that made them."""

import dataclasses
from typing import Any

import numpy as np

from data_pipeline.folders import files
from docproduct.index.folder import KIND, LEXICAL_FOLDERS, Content, write
from docproduct.index.settings import IndexSettings
from docproduct.index.vector_table import Rows, VectorTable, read
from docproduct.search import vectors
from docproduct.search.lexical import AUTO, Lexical
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.folder import shorten

PRECOMPUTED = "precomputed"  # in place of a dtype policy
_COMPARED = 32  # rows whose vectors are made again
_SAME_ENCODER = 0.9  # half precision and other cuts change a cosine by far less; other encoders come nowhere near


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
      table: texts and vectors; they become unit vectors.
      index_dir: the folder to write.
      settings: how; passages and exported embeddings are for encoders.
      retriever: the encoder that made the vectors: the index then answers texts that are asked. None: it is searched
        with vectors, see `Index.open_vectors`.
      encoder_name: what the index calls the encoder.
      overwrite: replace `index_dir`.

    Returns:
      The manifest.

    Raises:
      ValueError: see `read`; or the retriever did not make the vectors, or a setting does not fit.
    """
    if settings.passage_tokens or settings.export_embeddings:
        raise ValueError("--passage_tokens and --export_embeddings need an encoder; --vectors gives one vector a text.")
    if settings.hybrid == AUTO:
        method, weight = retriever.hybrid if retriever else ("none", settings.bm25_weight)
        settings = dataclasses.replace(settings, hybrid=method, bm25_weight=weight)
    files.check_free(index_dir, overwrite, KIND)  # before the work
    rows = read(table)
    heads = {side: shorten(of_side, settings.dims) for side, of_side in rows.vectors.items()}
    vectors.check(next(iter(heads.values())).shape[1], settings.factory, settings.search_parameters)
    if retriever:
        _check_encoder(retriever, rows, table.path)
    lexical = {
        side: Lexical.build(rows.pairs[side].to_pylist()) for side in LEXICAL_FOLDERS if settings.hybrid != "none"
    }
    described = {
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
    with files.whole_folder(index_dir, overwrite, KIND) as folder:
        return write(folder, content, lexical, settings, described)


def _check_encoder(retriever: TrainedRetriever, rows: Rows, path: str) -> None:
    """Raises a ValueError unless the retriever makes of some texts the vectors that the table has for them."""
    width, expected = next(iter(rows.vectors.values())).shape[1], retriever.config.bert.width
    if width != expected:
        raise ValueError(
            f"The vectors of {path} have {width} components, those of --model_dir {expected}. Give the encoder that "
            "made them, or none."
        )
    some = np.linspace(0, len(rows.pairs) - 1, min(len(rows.pairs), _COMPARED)).astype(int)
    for side, stored in rows.vectors.items():
        made = retriever.embed([rows.pairs[side][row].as_py() for row in some.tolist()], side).head
        cosine = float(np.median((made * stored[some]).sum(axis=1)))
        if cosine < _SAME_ENCODER:
            raise ValueError(
                f"The {side}s' vectors of {path} were not made by --model_dir: of {len(some)} texts the median cosine "
                f"of both vectors is {cosine:.3f}; expected 1. Questions would be compared with vectors of another "
                "space. Give the encoder that made them, or none."
            )
