"""Retrieval with vectors of the sentence-transformers library, which runs in an interpreter of its own."""

import json
import os
import subprocess
import tempfile
from typing import Any

import numpy as np

from data_pipeline import beir
from data_pipeline.folders import files
from docproduct.evaluate.ranking import EvaluationSettings, measure, merge_equal_documents
from docproduct.evaluate.record import Record

PREFIX = "st:"
_SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "library_script.py")


def retrieval(
    folder: str, data: beir.BeirData, settings: EvaluationSettings, record: Record, python: str
) -> tuple[dict[str, Any], float]:
    """Scores a sentence-transformers folder with the library's own vectors, in its default precision and batch size.

    Args:
      folder: The model.
      data: Documents, queries and judgments.
      settings: How retrieval is evaluated.
      record: Is filled with each query's values, and with the time.
      python: Interpreter that has sentence-transformers.

    Returns:
      What `ranking.retrieval` returns, and the peak memory of the library's process in MiB.

    Raises:
      ValueError: the library cannot encode; its own message is on standard error.
    """
    documents, qrels = merge_equal_documents(data)
    with tempfile.TemporaryDirectory() as work_dir:
        texts = {"documents": list(documents.values()), "queries": list(data.queries.values())}
        files.write_json(os.path.join(work_dir, "texts.json"), texts)
        try:
            done = subprocess.run([python, _SCRIPT, folder, work_dir], stdout=subprocess.PIPE, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ValueError(f"sentence-transformers could not encode with {folder}: {error}") from error
        vectors = {side: np.load(os.path.join(work_dir, f"{side}.npy")) for side in texts}
    costs = json.loads(done.stdout.splitlines()[-1])
    record.document_seconds += costs["documents_seconds"]
    record.query_seconds += costs["queries_seconds"]
    rows = (query @ vectors["documents"].T for query in vectors["queries"])
    return measure(folder, documents, qrels, rows, settings, record=record), costs["peak_mib"]
