"""Builds an index; see docproduct/index/__init__.py."""

import contextlib
import json
import os
from typing import Any

from absl import app, flags, logging

from data_pipeline.corpora import Columns
from data_pipeline.corpora.reading import ROLES
from data_pipeline.folders.prepared import open_prepared
from data_pipeline.prepare.workers import ENGINES, LOCAL, RAY
from data_pipeline.rows import PAIR, PASSAGE
from data_pipeline.settings import define_flags, flag_values
from docproduct import command
from docproduct.index import IndexSettings, VectorTable, build, build_from_vectors
from docproduct.index.ray_embedding import RayEncoder
from docproduct.index.reranking import check_retriever
from docproduct.layers import precision
from docproduct.systems.reranker import TrainedReranker
from docproduct.systems.retriever import TrainedRetriever


def _define_flags() -> None:
    flags.DEFINE_string("model_dir", None, "Trained retriever, or a bare encoder folder.")
    flags.DEFINE_multi_string(
        "prepared_dir",
        [],
        "Prepared folder of pairs, or of passages (--rows=passages). Give it several times for several folders.",
    )
    flags.DEFINE_string(
        "vectors",
        None,
        "Parquet file of pairs with their vectors, in place of prepared_dir; model_dir is the encoder that made them.",
    )
    flags.DEFINE_string(
        "question_vectors", "", "Column with the questions' vectors, or an .npy file; default: Q_FFNN_embeds."
    )
    flags.DEFINE_string(
        "answer_vectors", "", "Column with the answers' vectors, or an .npy file; default: A_FFNN_embeds."
    )
    for role in ROLES:
        flags.DEFINE_string(f"{role}_column", None, f"Column with the {role} in vectors, by name or as #3.")
    flags.DEFINE_string(
        "reranker_dir",
        None,
        "Reranker that serve.py will use with this index: it will have a say in whether a question is answerable.",
    )
    flags.DEFINE_string("index_dir", None, "Index folder to write.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace index_dir.")
    flags.DEFINE_enum(
        "precision", "auto", precision.PRECISIONS, "Precision of the encoders; auto: bfloat16 where it is fast."
    )
    engine_help = "Where texts are encoded: on this machine, or on a Ray cluster whose machines share the files."
    flags.DEFINE_enum("engine", LOCAL, ENGINES, engine_help)
    define_flags(IndexSettings)


def main(argv: list[str]) -> None:
    """Builds the index that the flags describe."""
    values = command.begin(argv)
    with command.errors_on_one_line("the index was not written."):
        manifest = _build(values, IndexSettings(**flag_values(IndexSettings)))
    names = ("threshold", "answerable", "answerable_reranked", "of_documents")
    calibrated = {name: manifest[name] for name in names if name in manifest}
    built = {side: kind["factory"] for side, kind in manifest["kinds"].items()}
    print(json.dumps({"index_dir": values.index_dir, **manifest["counts"], "factories": built, **calibrated}))


def _build(values: flags.FlagValues, settings: IndexSettings) -> dict[str, Any]:
    """Builds the index from texts or from vectors and returns its manifest."""
    if bool(values.vectors) == bool(values.prepared_dir):
        raise ValueError("Give either --prepared_dir (rows to encode) or --vectors (pairs with their vectors).")
    if values.vectors:
        if values.reranker_dir:
            raise ValueError(
                "--reranker_dir belongs to --prepared_dir: in an index of --vectors, the cosine decides. Leave it out."
            )
        if values.engine == RAY:
            raise ValueError(
                "--engine=ray encodes the rows of --prepared_dir; --vectors are used as they are. Leave it out."
            )
        columns = Columns(**{role: values[f"{role}_column"].value for role in ROLES})
        table = VectorTable(values.vectors, values.question_vectors, values.answer_vectors, columns)
        retriever = TrainedRetriever.load(values.model_dir) if values.model_dir else None
        name = values.model_dir or ""
        return build_from_vectors(table, values.index_dir, settings, retriever, name, values.overwrite)
    if not values.model_dir:
        raise ValueError("--model_dir is missing: the encoder that makes the vectors of --prepared_dir.")
    if given := [name for name in ("question_vectors", "answer_vectors") if values[name].present]:
        raise ValueError(f"--{given[0]} belongs to --vectors.")
    retriever = TrainedRetriever.load_for_many(values.model_dir, values.precision)
    reranker = _load_reranker(values.reranker_dir, retriever, values.precision) if values.reranker_dir else None
    prepared = [open_prepared(path, (PAIR, PASSAGE)) for path in values.prepared_dir]
    work_dir = f"{os.path.normpath(values.index_dir)}.embedding"  # shards that a killed run has written
    on_cluster = values.engine == RAY
    with RayEncoder(retriever, values.model_dir, work_dir) if on_cluster else contextlib.nullcontext() as encoder:
        return build(
            retriever, prepared, values.index_dir, settings, values.model_dir, values.overwrite, encoder, reranker
        )


def _load_reranker(folder: str, retriever: TrainedRetriever, chosen_precision: str) -> TrainedReranker | None:
    """Loads a reranker; None if it is never used, as it gained nothing on dev."""
    reranker = TrainedReranker.load(folder, chosen_precision)
    if not reranker.weight:
        logging.warning("The reranker in %s gained nothing on dev, and is never used: it calibrates nothing.", folder)
        return None
    check_retriever(reranker, folder, retriever)
    reranker.compile_for_many()
    return reranker


if __name__ == "__main__":
    _define_flags()
    app.run(main)
