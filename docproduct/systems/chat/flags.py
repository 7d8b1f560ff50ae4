"""The flags of train_gpt2.py --task=chat."""

import dataclasses

from absl import flags

from data_pipeline.settings import define_flags, descriptions, flag_values
from docproduct.layers.lora import LoraSettings
from docproduct.systems.chat.config import ChatTraining
from docproduct.training import training_flags

TASK = "chat"
LORA_NAMES = {"rank": "lora_rank", "alpha": "lora_alpha", "targets": "lora_targets"}
OWN = ("system_prompt", "packed")  # flags that no other task of the script has
_DEFAULTS = ChatTraining(prepared_dir="", base_dir="")
_TRAINING = ("epochs", "batch_size", "warmup_share", "schedule")  # settings with another default here

flags.disclaim_key_flags()  # they are the script's own: its --help shows them


def define() -> None:
    """Defines the flags that no other task has."""
    define_flags(ChatTraining, but=set(descriptions(ChatTraining)) - set(OWN))


def names() -> set[str]:
    """Returns the names of all flags that this task reads, but those of every training."""
    return {*descriptions(ChatTraining), *LORA_NAMES.values()}


def config() -> ChatTraining:
    """Returns the settings of the flags; a flag that is not given has this task's default.

    Raises:
      ValueError: dialogues or model are missing, or a value is out of range.
    """
    values = flags.FLAGS
    if not values.prepared_dir:
        raise ValueError(
            "--prepared_dir is missing. Expected dialogues: python -m data_pipeline.prepare --rows=dialogues "
            "--input=DIALOGUES --output_dir=PREPARED"
        )
    if not values.base_dir:
        raise ValueError("--base_dir is missing: the causal language model that learns to chat.")
    given = {name: value for name, value in flag_values(ChatTraining).items() if values[name].present}
    settings = training_flags.settings(_DEFAULTS.settings.learning_rate)
    own = {name: getattr(_DEFAULTS.settings, name) for name in _TRAINING if not values[name].present}
    return ChatTraining(
        **given,
        lora=LoraSettings(**flag_values(LoraSettings, names=LORA_NAMES)),
        settings=dataclasses.replace(settings, **own),
    )
