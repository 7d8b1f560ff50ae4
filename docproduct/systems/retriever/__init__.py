"""The retriever: a bi-encoder for questions and answers.

model.py (config, model), losses.py, folder.py (a trained model as a folder, texts to vectors), bare_encoder.py
(encoders that others trained), embedding_store.py (an encoder's vectors, computed once), task.py (batches and gradients
for the loop), train.py, export.py (the graph as a SavedModel).
"""

from docproduct.systems.retriever.export import SearchedAnswers, export
from docproduct.systems.retriever.folder import Side, TrainedRetriever
from docproduct.systems.retriever.losses import LossSettings, RetrievalLoss
from docproduct.systems.retriever.model import Retriever, RetrieverConfig

__all__ = [
    "LossSettings",
    "RetrievalLoss",
    "Retriever",
    "RetrieverConfig",
    "SearchedAnswers",
    "Side",
    "TrainedRetriever",
    "export",
]
