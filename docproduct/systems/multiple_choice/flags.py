"""The flags of train_gpt2.py --task=multiple_choice."""

import dataclasses

from absl import flags

from data_pipeline.settings import define_flags, descriptions, flag_values
from docproduct.systems.multiple_choice.config import ChoiceTraining
from docproduct.training import training_flags

TASK = "multiple_choice"
_DEFAULTS = ChoiceTraining(prepared_dir="", base_dir="")
OWN = ("row_tokens", "choice_metric")  # flags that no other task of the script has
_TRAINING = ("epochs", "batch_size")  # settings with another default here

flags.disclaim_key_flags()  # they are the script's own: its --help shows them


def define() -> None:
    """Defines the flags that no other task has."""
    define_flags(ChoiceTraining, but=set(descriptions(ChoiceTraining)) - set(OWN))


def names() -> set[str]:
    """Returns the names of all flags that this task reads, but those of every training."""
    return set(descriptions(ChoiceTraining))


def config() -> ChoiceTraining:
    """Returns the settings of the flags; a flag that is not given has this task's default.

    Raises:
      ValueError: questions or model are missing, or a value is out of range.
    """
    values = flags.FLAGS
    if not values.prepared_dir:
        raise ValueError(
            "--prepared_dir is missing. Expected questions: python -m data_pipeline.prepare --rows=choices "
            "--input=QUESTIONS --output_dir=PREPARED"
        )
    if not values.base_dir:
        raise ValueError("--base_dir is missing: the causal language model that learns to choose.")
    given = {name: value for name, value in flag_values(ChoiceTraining).items() if values[name].present}
    settings = training_flags.settings(_DEFAULTS.settings.learning_rate)
    own = {name: getattr(_DEFAULTS.settings, name) for name in _TRAINING if not values[name].present}
    return ChoiceTraining(**given, settings=dataclasses.replace(settings, **own))
