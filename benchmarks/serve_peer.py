"""The peer of benchmarks/serve_load.py: FastAPI, sentence-transformers and FAISS, as such a service is often written.

    PYTHON benchmarks/serve_peer.py --encoder_dir=ENCODER --vectors=vectors.npy --texts=texts.json --port=8082

Runs in an interpreter of its own and imports nothing of this project.
"""

import argparse
import json

import faiss
import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Question(BaseModel):
    """Body of a request."""

    question: str
    k: int = 5


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser()
    for name in ("encoder_dir", "vectors", "texts", "factory", "port"):
        parser.add_argument(f"--{name}", required=True)
    values = parser.parse_args()
    model = SentenceTransformer(values.encoder_dir, device="cpu")
    vectors = np.load(values.vectors)
    index = faiss.index_factory(vectors.shape[1], values.factory, faiss.METRIC_INNER_PRODUCT)
    index.add(vectors)
    with open(values.texts, encoding="utf-8") as file:
        texts = json.load(file)
    app = FastAPI()

    @app.get("/readyz")
    def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/v1/retrieve")
    def retrieve(body: Question) -> dict[str, list[dict[str, object]]]:
        query = model.encode([body.question], normalize_embeddings=True)
        scores, rows = index.search(query, body.k)
        return {"sources": [{"score": float(s), **texts[r]} for s, r in zip(scores[0], rows[0], strict=True)]}

    model.encode(["warm up"])
    uvicorn.run(app, port=int(values.port), log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
