"""What a training of the generator is asked for."""

import dataclasses
from typing import TypeVar

from absl import logging

from data_pipeline.settings import REQUIRED, Settings, setting
from docproduct.layers.array_ops import USES_JAX
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.layers.lora import LoraSettings
from docproduct.training.settings import TrainingSettings

T = TypeVar("T")
FORMER = {"copying": False, "pointer": False, "pairs_apart": False}  # settings of earlier versions, where they were off


@dataclasses.dataclass(frozen=True)
class GeneratorTraining(Settings):
    """What to train, from what, on what; the help beside each field says what it does."""

    tokens_dir: str = setting(
        REQUIRED, "Token folder: written by docproduct.contexts, else by train_gpt2.py.", changes_results=False
    )
    base_dir: str | None = setting(
        None,
        "Model to start from: a GPT-2, LLaMA, Mistral or Qwen in a published layout, or one that was trained here; "
        "none: a small GPT-2 with random weights.",
        changes_results=False,
        former_name="gpt2_dir",
    )
    # Of the model without base_dir; the token folder's tokenizer decides vocab_size.
    random_gpt2: GPT2Config = GPT2Config(width=256, num_layers=6, num_heads=4, max_positions=512)
    lora: LoraSettings = LoraSettings()
    adapter_dir: str | None = setting(
        None,
        "With --lora_rank: adapter of base_dir to go on from; default: a new one, which changes nothing yet.",
        changes_results=False,
    )
    dropout: float | None = setting(
        None,
        "Dropout on states, embeddings and attention (LLaMA: attention only); default: as base_dir says, else 0.1.",
        least=0,
        below=1,
    )
    chunk_size: int = setting(
        0, "Rows whose activations are in memory at once, gradients added up; 0: the whole batch.", least=0
    )
    recompute: bool = setting(
        False,
        "Gradient checkpointing: the memory of one layer, and a third more time.",
        changes_results=False,
    )
    prompt_weight: float = setting(0.0, "Loss weight of a prompt token; an answer token has weight 1.", least=0, most=1)
    opening_weight: float = setting(
        1.0,
        "Loss weight of the first two tokens of an answer. In rows of a chat model they name the source, or refuse.",
        above=0,
    )
    num_buckets: int = setting(16, "Classes of like length that batches are drawn from; 1: any length.", least=1)
    num_answers: int = setting(
        16, "Dev questions that are answered after each epoch, for ROUGE-L.", least=0, changes_results=False
    )
    settings: TrainingSettings = TrainingSettings(batch_size=16)

    def __post_init__(self) -> None:
        """Raises a ValueError for a value out of range."""
        super().__post_init__()
        if self.lora.rank and not self.base_dir:
            raise ValueError("lora_rank is given without base_dir; an adapter needs a model that was trained before.")
        check_parts(self.chunk_size, self.settings.batch_size, self.lora, self.adapter_dir)


def check_parts(chunk_size: int, batch_size: int, lora: LoraSettings, adapter_dir: str | None) -> None:
    """Raises a ValueError for chunks that are larger than a batch, or an adapter to go on from without its rank."""
    if chunk_size > batch_size:
        raise ValueError(f"chunk_size is {chunk_size}; expected 0 to {batch_size}, the batch size.")
    if adapter_dir and not lora.rank:
        raise ValueError("adapter_dir is given without lora_rank. Give the rank of that adapter, too.")


def without_answers(config: T) -> T:
    """Returns the config of a training; with JAX, one that writes no answers, which TensorFlow's sessions do."""
    if not (USES_JAX and config.num_answers):
        return config
    logging.info("With --engine=jax no answers are written while training: --num_answers is 0.")
    return dataclasses.replace(config, num_answers=0)
