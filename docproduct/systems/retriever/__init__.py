"""The retriever: a bi-encoder for questions and answers.

model.py (config, model, loss), folder.py (a trained model as a folder, texts to vectors), train.py.
"""

from docproduct.systems.retriever.folder import Side, TrainedRetriever
from docproduct.systems.retriever.model import Retriever, RetrieverConfig, in_batch_softmax
from docproduct.systems.retriever.train import RetrieverTraining, train

__all__ = ["Retriever", "RetrieverConfig", "RetrieverTraining", "Side", "TrainedRetriever", "in_batch_softmax", "train"]
