"""Makes encoder_vectors.json: sentence-transformers' vectors for the folders of tests/encoder_folders.py.

    pip install torch==2.13.0 sentence-transformers==6.2.0 transformers==5.24.0
    python -m tests.golden.make_encoder_vectors

Run it in an environment of its own, from the top of the project.
"""

import importlib.metadata
import json
import pathlib
import tempfile

import sentence_transformers

from tests import encoder_folders


def main() -> None:
    """Writes the file."""
    kinds = {}
    for kind in encoder_folders.KINDS:
        with tempfile.TemporaryDirectory() as folder:
            encoder_folders.write(folder, kind)
            model = sentence_transformers.SentenceTransformer(folder, device="cpu")
            sides = {"question": model.encode_query, "answer": model.encode_document}
            # Alone: nothing is padded.
            found = {side: [encode(text).tolist() for text in encoder_folders.TEXTS] for side, encode in sides.items()}
            kinds[kind] = {side: [[float(f"{x:.7g}") for x in row] for row in rows] for side, rows in found.items()}
    packages = ("sentence-transformers", "transformers", "tokenizers", "torch")
    made_by = {name: importlib.metadata.version(name) for name in packages}
    path = pathlib.Path(__file__).parent / "encoder_vectors.json"
    path.write_text(json.dumps({"made_by": made_by, "kinds": kinds}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
