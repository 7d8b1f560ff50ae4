"""Builds an index; see docproduct/index/__init__.py."""

import dataclasses
import json
import sys
from typing import Any

from absl import app, flags, logging

from data_pipeline.corpora import Columns
from data_pipeline.corpora.reading import ROLES
from data_pipeline.folders.prepared import PreparedFolder
from docproduct.index import IndexSettings, VectorTable, build, build_from_vectors
from docproduct.layers.precision import PRECISIONS
from docproduct.search.lexical import AUTO, HYBRIDS
from docproduct.systems.retriever import TrainedRetriever
from docproduct.training.devices import set_up


def _define_flags() -> None:
    defaults = IndexSettings()
    flags.DEFINE_string("model_dir", None, "Trained retriever, or a bare encoder folder.")
    flags.DEFINE_string("prepared_dir", None, "The prepared folder whose pairs are indexed.")
    flags.DEFINE_string(
        "vectors", None, "Instead of prepared_dir: Parquet file of pairs with their vectors; model_dir: what made them."
    )
    flags.DEFINE_string("question_vectors", "", "Its column, or an .npy file; default: Q_FFNN_embeds, if it is there.")
    flags.DEFINE_string("answer_vectors", "", "The same of the answers; default: A_FFNN_embeds.")
    for role in ROLES:
        flags.DEFINE_string(f"{role}_column", None, f"Column with the {role} in vectors, by name or as #3.")
    flags.DEFINE_string("index_dir", None, "The index folder to write.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace index_dir if it is there.")
    flags.DEFINE_string("factory", defaults.factory, "FAISS factory string: Flat, HNSW32, IVF256,Flat, ...")
    flags.DEFINE_string(
        "search_parameters", defaults.search_parameters, "How thorough it searches: nprobe=16, efSearch=64, ..."
    )
    flags.DEFINE_integer("passage_tokens", defaults.passage_tokens, "0: one passage an answer; else tokens a passage.")
    flags.DEFINE_integer("passage_overlap", defaults.passage_overlap, "Tokens that a passage shares with the next.")
    flags.DEFINE_enum(
        "hybrid", AUTO, [AUTO, *HYBRIDS], "How BM25 counts beside the vectors; auto: as was best in training."
    )
    flags.DEFINE_float("bm25_weight", defaults.bm25_weight, "Of BM25, with --hybrid=weight.")
    flags.DEFINE_integer("dims", defaults.dims, "First components of the vectors to keep; 0: all.")
    flags.DEFINE_float("kept", defaults.kept, "Share of new questions with an answer that shall count as answered.")
    flags.DEFINE_enum("precision", "auto", PRECISIONS, "Of the encoder; auto: bfloat16 where it is fast.")
    flags.DEFINE_bool("export_embeddings", defaults.export_embeddings, "Keep all vectors as .npy files.")


def main(argv: list[str]) -> None:
    """Builds the index that the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    logging.set_verbosity(logging.INFO)
    values = flags.FLAGS
    try:
        chosen = {field.name: values[field.name].value for field in dataclasses.fields(IndexSettings)}
        settings = IndexSettings(**chosen)
        set_up()
        manifest = _build(values, settings)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the index was not written.")
    print(json.dumps({"index_dir": values.index_dir, **manifest["counts"], "threshold": manifest["threshold"]}))


def _build(values: flags.FlagValues, settings: IndexSettings) -> dict[str, Any]:
    """Builds the index from texts or from vectors; returns its manifest."""
    if bool(values.vectors) == bool(values.prepared_dir):
        raise ValueError("Give --prepared_dir, pairs to encode, or --vectors, pairs with their vectors: one of both.")
    where = values.index_dir, settings
    if values.vectors:
        columns = Columns(**{role: values[f"{role}_column"].value for role in ROLES})
        table = VectorTable(values.vectors, values.question_vectors, values.answer_vectors, columns)
        retriever = TrainedRetriever.load(values.model_dir) if values.model_dir else None
        return build_from_vectors(table, *where, retriever, values.model_dir or "", values.overwrite)
    if not values.model_dir:
        raise ValueError("--model_dir is missing: the encoder that makes the vectors of --prepared_dir.")
    if given := [name for name in ("question_vectors", "answer_vectors") if values[name].present]:
        raise ValueError(f"--{given[0]} belongs to --vectors.")
    retriever = TrainedRetriever.load_for_many(values.model_dir, values.precision)
    prepared = PreparedFolder(values.prepared_dir)
    return build(retriever, prepared, *where, values.model_dir, values.overwrite)


if __name__ == "__main__":
    _define_flags()
    app.run(main)
