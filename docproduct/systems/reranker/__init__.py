"""The reranker: a cross-encoder that reads a question and an answer together, and reorders the retriever's first hits.

model.py (config, model), pairs.py (token ids of questions with answers), folder.py (a trained model as a folder, scores
of answers).

Training: train.py, start.py (the model before its first step), task.py (what the loop is given), dev.py (evaluation),
report.py (model card).
"""

from docproduct.systems.reranker.folder import TrainedReranker
from docproduct.systems.reranker.model import Reranker, RerankerConfig

__all__ = ["Reranker", "RerankerConfig", "TrainedReranker"]
