"""What a training of the multiple-choice model is asked for."""

import dataclasses

from data_pipeline.settings import REQUIRED, Settings, setting
from docproduct.training.settings import TrainingSettings

MAX_TOKENS = 512  # of a row, by default
BEST = ("exact_match", "accuracy", "hamming", "loss")


@dataclasses.dataclass(frozen=True)
class ChoiceTraining(Settings):
    """Settings of a training; the help beside each field says what it does."""

    prepared_dir: str = setting(
        REQUIRED, "Prepared questions, written by data_pipeline.prepare --rows=choices.", changes_results=False
    )
    base_dir: str = setting(REQUIRED, "Causal language model to start from.", changes_results=False)
    dropout: float | None = setting(
        None, "Dropout of the language model; default: as its folder says.", least=0, below=1
    )
    row_tokens: int | None = setting(
        None,
        "Maximum tokens of a question with its context and choices; longer contexts are cut. Default: the model's "
        f"window, at most {MAX_TOKENS}.",
        least=8,
    )
    chunk_size: int = setting(
        0, "Rows whose activations are in memory at once, gradients added up; 0: the whole batch.", least=0
    )
    recompute: bool = setting(
        False, "Gradient checkpointing: the memory of one layer, and a third more time.", changes_results=False
    )
    choice_metric: str = setting("exact_match", "Metric of dev that selects the epoch to keep.", choices=BEST)
    settings: TrainingSettings = TrainingSettings(epochs=3, batch_size=16, learning_rate=2e-5)
