"""The flags of train_gpt2.py --task=triage."""

import dataclasses

from absl import flags

from data_pipeline.settings import define_flags, descriptions, flag_values
from docproduct.systems.triage.config import DECODER, TriageTraining
from docproduct.systems.triage.labels import LabelSettings
from docproduct.training import training_flags

TASK = "triage"
_DEFAULTS = TriageTraining(prepared_dir="")
# Flags that other tasks of the script have, too.
_SHARED = ("prepared_dir", "dropout", "chunk_size")
_SIZES = ("width", "num_layers", "num_heads")  # of the random decoder
_RANDOM_DECODER_RATE = 1e-3  # of a decoder that begins with random weights, and is trained alone
_TRAINING = ("epochs", "batch_size")  # settings with another default here


OWN = (*(name for name in descriptions(TriageTraining) if name not in _SHARED), *descriptions(LabelSettings), "grid")

flags.disclaim_key_flags()  # they are the script's own: its --help shows them


def define() -> None:
    """Defines the flags that no other task has."""
    define_flags(TriageTraining, but=_SHARED)
    define_flags(LabelSettings)
    flags.DEFINE_string(
        "grid",
        None,
        "triage: settings to try, with all their combinations: learning_rate=1e-5,5e-5;dropout=0.1,0.3.",
    )


def config() -> TriageTraining:
    """Returns the settings of the flags; a flag that is not given has this task's default.

    Raises:
      ValueError: --prepared_dir is missing, or a value is out of range.
    """
    values = flags.FLAGS
    if not values.prepared_dir:
        raise ValueError(
            "--prepared_dir is missing. Expected triage rows: python -m data_pipeline.prepare --rows=triage "
            "--input=TABLE --output_dir=PREPARED"
        )
    given = {name: value for name, value in flag_values(TriageTraining).items() if values[name].present}
    sizes = {name: values[name].value for name in _SIZES if values[name].present}
    alone = values.variant == DECODER and not values.decoder_dir
    settings = training_flags.settings(_RANDOM_DECODER_RATE if alone else _DEFAULTS.settings.learning_rate)
    own = {name: getattr(_DEFAULTS.settings, name) for name in _TRAINING if not values[name].present}
    return TriageTraining(
        **given,
        labels=LabelSettings(**flag_values(LabelSettings)),
        random_decoder=dataclasses.replace(_DEFAULTS.random_decoder, **sizes),
        settings=dataclasses.replace(settings, **own),
    )


def names() -> list[str]:
    """Returns the names of all flags that this task reads, but those of every training."""
    return [*OWN, *_SHARED, *_SIZES]
