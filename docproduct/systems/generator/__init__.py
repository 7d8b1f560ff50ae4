"""The generator: a GPT-2 that writes answers.

folder.py (a trained model as a folder), config.py, task.py and train.py (training), dev.py (perplexity and answers),
report.py (model card).
"""

from docproduct.systems.generator.folder import TrainedGenerator, sizes

__all__ = ["TrainedGenerator", "sizes"]
