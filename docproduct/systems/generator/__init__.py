"""The generator: a causal language model that writes answers.

model.py (what decoding and exports write with), layouts.py (the folders and files that are read), folder.py (a trained
model as a folder), adapter.py (what LoRA adds to a model), open.py (any of them, for export and serving).

Training: train.py, start.py (the model before its first step), causal_task.py and task.py (what the loop is given),
losses.py, config.py (settings), dev.py (perplexity and answers), report.py (model card).
"""

from docproduct.systems.generator.folder import TrainedGenerator, tokenizer_of, window_of
from docproduct.systems.generator.open import is_model, load_model, open_session

__all__ = ["TrainedGenerator", "is_model", "load_model", "open_session", "tokenizer_of", "window_of"]
