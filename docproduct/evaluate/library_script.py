"""Encodes texts with sentence-transformers as its documentation advises; imports nothing of this project.

    PYTHON library_script.py FOLDER WORK_DIR

WORK_DIR holds texts.json: {"documents": texts, "queries": texts}. Writes documents.npy and queries.npy, [N, D] float32,
unit norm unless the model is compared by dot products. Ends with one line of JSON: the seconds and the peak memory.
"""

import json
import os
import resource
import sys
import time

import numpy as np
from sentence_transformers import SentenceTransformer

_WARM_UP = 64  # texts


def main(folder: str, work_dir: str) -> None:
    """Encodes both sides."""
    model = SentenceTransformer(folder)
    if model.similarity_fn_name not in ("cosine", "dot"):
        sys.exit(f"{folder} compares vectors by {model.similarity_fn_name}; expected cosine or dot.")
    with open(os.path.join(work_dir, "texts.json"), encoding="utf-8") as file:
        texts = json.load(file)
    costs = {}
    for side, encode in (("documents", model.encode_document), ("queries", model.encode_query)):
        unit_norm = model.similarity_fn_name == "cosine"
        encode(texts[side][:_WARM_UP])
        start = time.perf_counter()
        vectors = encode(texts[side], normalize_embeddings=unit_norm)
        costs[f"{side}_seconds"] = time.perf_counter() - start
        np.save(os.path.join(work_dir, f"{side}.npy"), vectors.astype(np.float32))
    print(json.dumps(costs | {"peak_mib": _peak_mib()}))


def _peak_mib() -> float:
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
