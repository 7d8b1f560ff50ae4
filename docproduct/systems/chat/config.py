"""What a training on dialogues is asked for."""

import dataclasses

from data_pipeline.settings import REQUIRED, Settings, setting
from docproduct.layers.lora import LoraSettings
from docproduct.systems.generator.config import check_parts
from docproduct.training.settings import COSINE, TrainingSettings

WINDOW = 512  # tokens of a row, by default


@dataclasses.dataclass(frozen=True)
class ChatTraining(Settings):
    """Settings of a training; the help beside each field says what it does."""

    prepared_dir: str = setting(
        REQUIRED, "Prepared dialogues, written by data_pipeline.prepare --rows=dialogues.", changes_results=False
    )
    base_dir: str = setting(REQUIRED, "Causal language model to start from.", changes_results=False)
    lora: LoraSettings = LoraSettings()
    adapter_dir: str | None = setting(
        None, "With a rank: adapter of base_dir to go on from; default: a new one.", changes_results=False
    )
    window: int | None = setting(
        None, f"Maximum tokens of a row; default: that of the model, at most {WINDOW}.", least=8
    )
    system_prompt: str = setting("", "What the system says in dialogues that do not tell.")
    packed: bool = setting(False, "Put several dialogues into one row; none sees another.")
    dropout: float | None = setting(None, "Dropout; default: as base_dir says.", least=0, below=1)
    chunk_size: int = setting(
        0, "Rows whose activations are in memory at once, gradients added up; 0: the whole batch.", least=0
    )
    recompute: bool = setting(
        False, "Gradient checkpointing: the memory of one layer, and a third more time.", changes_results=False
    )
    num_answers: int = setting(
        8, "Dev dialogues whose last question is answered after each epoch.", least=0, changes_results=False
    )
    settings: TrainingSettings = TrainingSettings(
        epochs=3, batch_size=16, learning_rate=2e-5, warmup_share=0.03, schedule=COSINE
    )

    def __post_init__(self) -> None:
        """Raises a ValueError for a value out of range."""
        super().__post_init__()
        check_parts(self.chunk_size, self.settings.batch_size, self.lora, self.adapter_dir)
