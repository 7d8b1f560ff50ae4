"""Triage: a patient's text to departments with probabilities, and to a draft of the doctor's reply.

A BERT encoder with a classifier, and a GPT-2 that attends to the encoder's states, trained together (MEDI-BERPT).

model.py (config, classifier), labels.py (which labels are classes, their weights), folder.py (a trained model as a
folder, its probabilities and replies), calibration.py (temperature, and when to say "not sure"), export.py and
session.py (a SavedModel, and a graph session of it).

Training: train.py, start.py (the model before its first step), rows.py (tokenized rows and their batches), losses.py
(both losses and how they are weighted), task.py (what the loop is given), dev.py (evaluation), fit_calibration.py,
label_report.py, report.py (model card), grid.py (search over settings).
"""

from docproduct.systems.triage.folder import TrainedTriage
from docproduct.systems.triage.model import TriageClassifier, TriageConfig

__all__ = ["TrainedTriage", "TriageClassifier", "TriageConfig"]
