"""What a training of the generator is asked for."""

import dataclasses

from docproduct.layers.gpt2_config import GPT2Config
from docproduct.training.settings import TrainingSettings


@dataclasses.dataclass(frozen=True)
class GeneratorTraining:
    """What to train, from what, on what.

    Attributes:
      tokens_dir: the token folder; it decides the task.
      gpt2_dir: the model to start from, in OpenAI's, Hugging Face's or our layout; None: random weights.
      random_gpt2: sizes of the model with random weights; the token folder's tokenizer decides vocab_size.
      dropout: rate on states, embeddings and attention; None: what gpt2_dir says.
      chunk_size: rows whose activations are in memory at once, of a batch whose gradients are added up; 0: all.
      recompute: gradient checkpointing: the memory of one layer, and a third more time.
      prompt_weight: what a token of a prompt counts in the loss, 0 to 1; one of an answer counts 1.
      num_buckets: classes of like length that batches are drawn from; 1: of any length.
      num_answers: dev questions that are answered after every epoch, for ROUGE-L.
      settings: the loop's.
    """

    tokens_dir: str
    gpt2_dir: str | None = None
    random_gpt2: GPT2Config = GPT2Config(width=256, num_layers=6, num_heads=4, max_positions=512)
    dropout: float | None = None
    chunk_size: int = 0
    recompute: bool = False
    prompt_weight: float = 0.0
    num_buckets: int = 16
    num_answers: int = 16
    settings: TrainingSettings = TrainingSettings(batch_size=16)

    def __post_init__(self) -> None:
        """Raises a ValueError for settings out of range."""
        if not 0 <= self.chunk_size <= self.settings.batch_size:
            raise ValueError(
                f"chunk_size is {self.chunk_size}; expected 0 to {self.settings.batch_size}, the batch size."
            )
        if self.num_answers < 0:
            raise ValueError(f"num_answers is {self.num_answers}; expected 0 or more.")
        if not 0 <= self.prompt_weight <= 1:
            raise ValueError(f"prompt_weight is {self.prompt_weight}; expected 0 to 1.")
        if not 0 <= (self.dropout or 0) < 1:
            raise ValueError(f"dropout is {self.dropout}; expected 0 or more, and less than 1.")
