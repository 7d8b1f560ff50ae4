"""The retriever: a bi-encoder for questions and answers.

model.py (config, model), folder.py (a trained model as a folder, texts to vectors), bare_encoder.py (encoders that
others trained), export.py (the graph as a SavedModel).

Training: train.py, start.py (the model before its first step), task.py (what the loop is given), batches.py, losses.py,
dev.py (evaluation), embedding_store.py (an encoder's vectors, computed once), report.py (model card).
"""

from docproduct.systems.retriever.export import SearchedAnswers, export
from docproduct.systems.retriever.folder import Side, TrainedRetriever
from docproduct.systems.retriever.model import Retriever, RetrieverConfig

__all__ = [
    "Retriever",
    "RetrieverConfig",
    "SearchedAnswers",
    "Side",
    "TrainedRetriever",
    "export",
]
