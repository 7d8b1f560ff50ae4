"""The systems that a report compares, each evaluated in a process of its own."""

import concurrent.futures
import dataclasses
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

from data_pipeline import beir
from docproduct.evaluate import library
from docproduct.evaluate.ranking import BM25, EvaluationSettings, retrieval
from docproduct.evaluate.record import Record, peak_mib
from docproduct.layers.precision import dtype_policy
from docproduct.training.devices import set_up

_RERANKED_BY = "+"
_CONFIGS = ("config.json", "bert_config.json", "modules.json")  # a folder with an encoder has one of them


class Evaluated(NamedTuple):
    """What the evaluation of one system gives.

    Attributes:
      results: What `retrieval` returns.
      record: Each query's values, and the time.
      peak_mib: Largest resident set size of the process, libraries included.
      dtype_policy: The encoder's; None: BM25, or sentence-transformers' own choice.
    """

    results: dict[str, Any]
    record: Record
    peak_mib: float
    dtype_policy: str | None


def systems_of(entries: Sequence[str]) -> dict[str, str]:
    """Returns {name: source} of entries such as `ours=FOLDER`, `bm25` or `st:FOLDER`; a name is optional.

    Raises:
      ValueError: there are no entries, a name occurs twice, or a source is no system.
    """
    systems: dict[str, str] = {}
    for entry in entries:
        name, named, source = entry.partition("=")
        name, source = (name, source) if named else (entry, entry)
        if not name or name in systems:
            raise ValueError(f"The systems have the name {name!r} twice, or it is empty. Expected NAME=SYSTEM.")
        if source.lower() != BM25 and not all(map(_is_model, source.removeprefix(library.PREFIX).split(_RERANKED_BY))):
            raise ValueError(
                f"There is no system {source!r}. Expected bm25, the folder of a trained retriever or of an encoder, "
                f"RETRIEVER{_RERANKED_BY}RERANKER, or {library.PREFIX}FOLDER for sentence-transformers itself."
            )
        systems[name] = source
    if not systems:
        raise ValueError("There are no systems. Expected NAME=SYSTEM,... with bm25 or folders.")
    return systems


def _is_model(folder: str) -> bool:
    return any(os.path.isfile(os.path.join(folder, config)) for config in _CONFIGS)


def evaluate_alone(name: str, *arguments: Any) -> Evaluated:
    """Calls `evaluate` in a process of its own, so that its memory is that of one system.

    Raises:
      ValueError: the system cannot be evaluated.
    """
    context = multiprocessing.get_context("spawn")
    try:
        with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
            return pool.submit(evaluate, *arguments).result()
    except BrokenProcessPool:
        raise ValueError(f"The process of {name} was killed. Most often, the memory was too small.") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{name} cannot be evaluated: {error}") from error


def evaluate(
    source: str, beir_dir: str, split: str, settings: EvaluationSettings, peer_python: str | None
) -> Evaluated:
    """Evaluates a system; `hybrid`, `dims` and the lengths of texts do not apply to BM25 and sentence-transformers.

    A system RETRIEVER+RERANKER names its reranker.

    Raises:
      ValueError: the settings name a reranker for all systems, or the system cannot be evaluated.
    """
    if settings.reranker_dir:
        raise ValueError(
            f"reranker_dir is for one retriever. Expected systems as NAME=RETRIEVER{_RERANKED_BY}RERANKER."
        )
    set_up()
    data, record = beir.read(beir_dir, split), Record()
    plain = dataclasses.replace(settings, hybrid="auto", dims=0, max_text_tokens=0, passage_tokens=0)
    if source.startswith(library.PREFIX):
        folder = source.removeprefix(library.PREFIX)
        results, peak = library.retrieval(folder, data, plain, record, peer_python)
        return Evaluated(results, record, peak, None)
    if source.lower() == BM25:
        return Evaluated(retrieval(source, data, plain, record=record), record, peak_mib(), None)
    retriever, _, reranker = source.partition(_RERANKED_BY)
    results = retrieval(retriever, data, dataclasses.replace(settings, reranker_dir=reranker or None), record=record)
    return Evaluated(results, record, peak_mib(), dtype_policy(settings.precision))
