"""How long and how fast to train."""

import dataclasses
import importlib.util

KEPT = ("best", "last")


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """How long and how fast to train.

    Attributes:
      epochs: passes over the training pairs.
      batch_size: rows of a batch, over all replicas.
      learning_rate: its peak, reached at the end of the warm-up; it then falls to 0 in a straight line.
      warmup_share: share of all steps in which it rises.
      weight_decay: AdamW's, on kernels and embeddings; not on biases and normalization.
      clip_norm: largest global norm of the gradients.
      precision: float32, bfloat16 (mixed: variables stay float32), or auto.
      checkpoint_steps: steps between two checkpoints; there is one after every epoch, too.
      seed: of weights, dropout and order.
      keep: which epoch's weights: the best on dev, or the last.
      patience: end after so many epochs in a row without a better one; 0: never. The learning rate still falls as for
        all epochs.
      max_steps: end after so many steps, if all epochs have as many; the learning rate is 0 there, and the part of an
        epoch is scored as one. 0: do all epochs.
      tensorboard_dir: where to write loss and metrics for TensorBoard; None: nowhere.
    """

    epochs: int = 1
    batch_size: int = 64
    learning_rate: float = 5e-5
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    precision: str = "auto"
    checkpoint_steps: int = 200
    seed: int = 0
    keep: str = "best"
    patience: int = 0
    max_steps: int = 0
    tensorboard_dir: str | None = None

    def __post_init__(self) -> None:
        """Raises a ValueError for a number out of range, or if TensorBoard is asked for and not installed."""
        if self.tensorboard_dir and not importlib.util.find_spec("tensorboard"):
            raise ValueError("tensorboard_dir is set; TensorBoard is missing. Install it: pip install tensorboard")
        if self.keep not in KEPT:
            raise ValueError(f"keep is {self.keep!r}; expected {' or '.join(KEPT)}.")
        if self.patience and self.keep == "last":
            raise ValueError("patience is for the best epoch; keep is 'last'. Give one of them.")
        least = {"epochs": 1, "batch_size": 2, "checkpoint_steps": 1, "seed": 0, "patience": 0, "max_steps": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}; expected {low} or more.")
        for name in ("learning_rate", "clip_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected more than 0.")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay is {self.weight_decay}; expected 0 or more.")
        if not 0 <= self.warmup_share <= 1:
            raise ValueError(f"warmup_share is {self.warmup_share}; expected 0 to 1.")

    def num_steps(self, steps_per_epoch: int) -> int:
        """Returns the steps of all epochs, at most `max_steps`."""
        every = self.epochs * steps_per_epoch
        return min(every, self.max_steps or every)

    def num_epochs(self, steps_per_epoch: int) -> int:
        """Returns how many epochs these steps are; the last one may be a part of one."""
        return -(-self.num_steps(steps_per_epoch) // steps_per_epoch)
