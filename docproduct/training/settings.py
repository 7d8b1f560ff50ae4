"""How long and how fast to train."""

import dataclasses
import importlib.util

from data_pipeline.settings import Settings, setting
from docproduct.layers.precision import PRECISIONS

SCHEDULES = LINEAR, COSINE = ("linear", "cosine")


@dataclasses.dataclass(frozen=True)
class TrainingSettings(Settings):
    """How long and how fast to train; the help beside each field says what it does."""

    epochs: int = setting(1, "Passes over the training rows.", least=1)
    batch_size: int = setting(64, "Rows per step, over all replicas.", least=2)
    learning_rate: float = setting(5e-5, "Peak learning rate, reached after the warm-up; it then falls to 0.", above=0)
    warmup_share: float = setting(0.1, "Share of the steps in which the learning rate rises.", least=0, most=1)
    schedule: str = setting(
        "linear", "How the learning rate falls: in a straight line, or along a half cosine.", choices=SCHEDULES
    )
    weight_decay: float = setting(
        0.01, "AdamW's weight decay, on kernels and embeddings; not on biases and normalization.", least=0
    )
    clip_norm: float = setting(1.0, "Maximum global norm of the gradients.", above=0)
    precision: str = setting(
        "auto",
        "float32, bfloat16 (mixed: variables stay float32), or auto: bfloat16 where it is fast.",
        choices=PRECISIONS,
        changes_results=False,  # a run's record has the dtype policy
    )
    checkpoint_steps: int = setting(
        200,
        "Steps between two checkpoints; each epoch ends with one, too.",
        least=1,
        changes_results=False,
    )
    seed: int = setting(0, "Random seed of weights, dropout, order and samples.", least=0)
    keep: str = setting(
        "best", "Which epoch's weights to keep: the best on dev, or the last.", choices=("best", "last")
    )
    patience: int = setting(
        0,
        "End after this many epochs without improvement; 0: never. The learning rate still follows all epochs.",
        least=0,
        changes_results=False,
    )
    max_steps: int = setting(
        0,
        "End after this many steps, even within an epoch; the learning rate reaches 0 then. 0: after all epochs.",
        least=0,
    )
    tensorboard_dir: str | None = setting(
        None, "Where to write curves for TensorBoard (extra tensorboard); none: nowhere.", changes_results=False
    )

    def __post_init__(self) -> None:
        """Raises a ValueError for a value out of range, or if TensorBoard is asked for and not installed."""
        super().__post_init__()
        if self.tensorboard_dir and not importlib.util.find_spec("tensorboard"):
            raise ValueError("tensorboard_dir is set; TensorBoard is missing. Install it: pip install tensorboard")
        if self.patience and self.keep == "last":
            raise ValueError("patience is for keep=best, but keep is 'last'. Change one of them.")

    def num_steps(self, steps_per_epoch: int) -> int:
        """Returns the steps of all epochs, at most `max_steps`."""
        steps = self.epochs * steps_per_epoch
        return min(steps, self.max_steps or steps)

    def num_epochs(self, steps_per_epoch: int) -> int:
        """Returns the number of epochs that these steps need; the last may be a part of an epoch."""
        return -(-self.num_steps(steps_per_epoch) // steps_per_epoch)
