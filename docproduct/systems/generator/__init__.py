"""The generator: a GPT-2 that writes answers.

folder.py (load, save), task.py and train.py (training), dev.py (perplexity and answers), report.py (model card);
sampling.py (the next token), decoding.py (prompts and tokens inside a graph), export.py (the graph as a SavedModel),
writer.py (texts, in a graph session of its own).
"""

from docproduct.systems.generator.export import export
from docproduct.systems.generator.folder import TrainedGenerator, sizes
from docproduct.systems.generator.sampling import GenerationSettings
from docproduct.systems.generator.train import GeneratorTraining, train
from docproduct.systems.generator.writer import Generation, Writer

__all__ = [
    "Generation",
    "GenerationSettings",
    "GeneratorTraining",
    "TrainedGenerator",
    "Writer",
    "export",
    "sizes",
    "train",
]
