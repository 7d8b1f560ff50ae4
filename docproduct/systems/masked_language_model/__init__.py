"""Masked-language-model training: an encoder reads unlabelled texts, and learns to fill in words that are masked.

model.py (encoder and head), checkpoint.py (weights of a published encoder and head), folder.py (the result as a folder,
which loads wherever an encoder does).

Training: train.py, start.py (texts, vocabulary, and the model before its first step), task.py (what the loop is given),
dev.py (evaluation), config.py (settings), flags.py, report.py (model card).
"""

from docproduct.systems.masked_language_model.folder import TrainedMaskedModel
from docproduct.systems.masked_language_model.model import MaskedLanguageModel

__all__ = ["MaskedLanguageModel", "TrainedMaskedModel"]
