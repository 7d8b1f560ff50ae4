"""Uploads an index folder to Milvus or PostgreSQL, for searches past one machine.

    python -m docproduct.upload_index --index_dir=index --to=milvus://localhost:19530/medquad
    python serve.py --model_dir=model --index_dir=milvus://localhost:19530/medquad --question="How is asthma treated?"

The same command goes on with an upload that was interrupted. Ends with one line of JSON.
"""

import json

from absl import app, flags

from docproduct import command
from docproduct.index import upload


def _define_flags() -> None:
    flags.DEFINE_string("index_dir", None, "Index folder to upload.", required=True)
    flags.DEFINE_string(
        "to",
        None,
        "milvus://host:19530/name, milvus:///folder/file.db/name (Milvus Lite), or "
        "postgresql://user@host/database?index=name (with pgvector). Passwords: MILVUS_TOKEN, PGPASSWORD or ~/.pgpass.",
        required=True,
    )
    flags.DEFINE_enum(
        "kind",
        upload.AUTO,
        upload.KINDS,
        "flat: every vector is compared; hnsw: approximate and fast; auto: flat up to 100,000 vectors.",
    )
    flags.DEFINE_bool("overwrite", False, "Replace another index at the address, when the upload is complete.")


def main(argv: list[str]) -> None:
    """Uploads the index that the flags name."""
    values = command.begin(argv)
    with command.errors_on_one_line("the same command goes on with the upload."):
        print(json.dumps(upload.upload(values.index_dir, values.to, values.kind, values.overwrite)))


if __name__ == "__main__":
    _define_flags()
    app.run(main)
