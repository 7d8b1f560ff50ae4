"""Question answering from a table of pairs: BERT bi-encoder, FAISS, GPT-2. Start at answering/answerer.py."""

import logging

import data_pipeline  # noqa: F401  it holds back what TensorFlow writes when it is imported

# Of these libraries only warnings stand on standard error, also where our own progress is logged. Filters, as bm25s
# sets its level itself when it is imported.
for _name in ("bm25s", "faiss.loader", "matplotlib.font_manager", "tensorflow"):
    logging.getLogger(_name).addFilter(lambda record: record.levelno >= logging.WARNING)
