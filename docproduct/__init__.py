"""Question answering from a table of pairs: BERT bi-encoder, FAISS, GPT-2. Start at answering/answerer.py."""

import logging

import data_pipeline  # noqa: F401  it holds back the messages of TensorFlow's import

# These libraries log only warnings, even if our own progress is logged. Filters do this, because bm25s sets its own
# level when it is imported.
for _name in ("bm25s", "faiss.loader", "jax._src.xla_bridge", "matplotlib.font_manager", "tensorflow"):
    logging.getLogger(_name).addFilter(lambda record: record.levelno >= logging.WARNING)
