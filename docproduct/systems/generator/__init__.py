"""The generator: a GPT-2 that writes answers.

model.py (what decoding and exports write with), folder.py (a trained model as a folder).

Training: train.py, start.py (the model before its first step), task.py (what the loop is given), losses.py, config.py
(settings), dev.py (perplexity and answers), report.py (model card).
"""

from docproduct.systems.generator.folder import TrainedGenerator, window_of

__all__ = ["TrainedGenerator", "window_of"]
