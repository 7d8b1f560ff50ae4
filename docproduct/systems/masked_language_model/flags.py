"""The flags of train_gpt2.py --task=masked_language_model."""

import dataclasses

from absl import flags

from data_pipeline.settings import define_flags, descriptions, flag_values
from docproduct.systems.masked_language_model.config import MaskedTraining
from docproduct.training import training_flags

TASK = "masked_language_model"
_DEFAULTS = MaskedTraining()
OWN = ("mask_share", "new_pieces", "dev_rows")  # flags that no other task of the script has
_SIZES = ("width", "num_layers", "num_heads")  # of the random BERT
_TRAINING = ("epochs", "batch_size")  # settings with another default here

flags.disclaim_key_flags()  # they are the script's own: its --help shows them


def define() -> None:
    """Defines the flags that no other task has."""
    define_flags(MaskedTraining, but=set(descriptions(MaskedTraining)) - set(OWN))


def names() -> set[str]:
    """Returns the names of all flags that this task reads, but those of every training."""
    return {*descriptions(MaskedTraining), *_SIZES}


def config() -> MaskedTraining:
    """Returns the settings of the flags; a flag that is not given has this task's default.

    Raises:
      ValueError: a value is out of range.
    """
    values = flags.FLAGS
    given = {name: value for name, value in flag_values(MaskedTraining).items() if values[name].present}
    sizes = {name: values[name].value for name in _SIZES if values[name].present}
    if "width" in sizes:
        sizes["inner_width"] = 4 * sizes["width"]
    settings = training_flags.settings(_DEFAULTS.settings.learning_rate)
    own = {name: getattr(_DEFAULTS.settings, name) for name in _TRAINING if not values[name].present}
    return MaskedTraining(
        **given,
        random_bert=dataclasses.replace(_DEFAULTS.random_bert, **sizes),
        settings=dataclasses.replace(settings, **own),
    )
