"""The generator: a causal language model that writes answers.

model.py (what decoding and exports write with), layouts.py (the folders that are
read), folder.py (a trained model as a folder).

Training: train.py, start.py (the model before its first step), task.py (what the loop is given), losses.py, config.py
(settings), dev.py (perplexity and answers), report.py (model card).
"""

from docproduct.systems.generator.folder import TrainedGenerator, tokenizer_of, window_of

__all__ = ["TrainedGenerator", "tokenizer_of", "window_of"]
