"""What a training on dialogues starts from: the model before its first step."""

from docproduct.layers.precision import dtype_policy
from docproduct.systems.chat.config import WINDOW, ChatTraining
from docproduct.systems.generator.folder import TrainedGenerator
from docproduct.systems.generator.open import is_adapter
from docproduct.systems.generator.start import adapted


def start(config: ChatTraining) -> TrainedGenerator:
    """Returns the untrained model.

    Raises:
      ValueError: there is no such model; or it is an adapter, or has no positions for the window.
    """
    if is_adapter(config.base_dir):
        raise ValueError(
            f"{config.base_dir} holds an adapter. Give its model with --base_dir, and go on from it with --adapter_dir "
            "and its --lora_rank."
        )
    policy, seed = dtype_policy(config.settings.precision, training=True), config.settings.seed
    generator = TrainedGenerator.load(config.base_dir, policy, seed, config.dropout)
    if window_of(config, generator) > generator.window:
        raise ValueError(f"window is {config.window}; expected at most {generator.window}, the positions of the model.")
    return adapted(generator, config.lora, config.adapter_dir, seed) if config.lora.rank else generator


def window_of(config: ChatTraining, generator: TrainedGenerator) -> int:
    """Returns the largest number of tokens of a row."""
    return config.window or min(WINDOW, generator.window)
