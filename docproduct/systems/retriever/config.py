"""What a training of the retriever is asked for."""

import dataclasses

from docproduct.layers.bert import BertConfig
from docproduct.systems.retriever.losses import LossSettings
from docproduct.training.settings import TrainingSettings


@dataclasses.dataclass(frozen=True)
class RetrieverTraining:
    """What to train, from what, on what.

    Attributes:
      prepared_dir: the prepared folder.
      encoder_dir: the encoder, or trained retriever, to start from; None: a random BERT of `random_bert`'s sizes.
      random_bert: sizes without vocab_size and pad_id, which the prepared folder's tokenizer decides.
      pooling: mean, cls, max or mean_sqrt_len; None: what the encoder's folder says, else mean.
      pooled_layer: the layer whose states are pooled: -1 the last, -2 the one before it, as in docproduct 0.2. The
        layers behind it are left out of the model. Defaults to the last.
      max_tokens: longest text that the trained model encodes; None: what the pairs were cut at when they were prepared,
        so that the model is used on what it is trained on.
      dropout: rate inside the encoder, on states and on attention; None: what the encoder's folder says.
      head: residual, plain or none; see RetrieverConfig for its defaults, as for the next three. None: the default, or
        what a trained retriever has that training goes on from.
      head_width: width inside a head.
      head_depth: blocks or hidden layers of a head.
      head_dropout: rate inside the heads.
      loss: what to minimize. Without matryoshka_dims, those of the retriever that training goes on from.
      freeze_bert: train the heads only, on vectors that the encoder computed once.
      negatives_dir: hard negatives that `docproduct.negatives` found; None: only the other answers of a batch.
      num_negatives: hard negatives a pair and step.
      cluster_size: pairs with like questions that share a batch, as hard negatives for one another; 1: none. The
        encoder says first what is alike; token ids of all pairs are in memory.
      chunk_size: 0: the whole batch is encoded at once. Else gradient caching: so many pairs at once, which is what
        memory is needed for; the gradients are the same, and a step takes a third longer.
      num_buckets: classes of like length that batches are drawn from; 1: of any length.
      boundaries: the lengths that divide them; None: the data's quantiles.
      pad_to_multiple: padded lengths are multiples of it.
      dev_train_answers: answers of train that stand beside dev's as candidates in evaluation.
      settings: the loop's.
    """

    prepared_dir: str
    encoder_dir: str | None = None
    random_bert: BertConfig = BertConfig(width=128, num_layers=2, num_heads=2, inner_width=512, max_positions=256)
    pooling: str | None = None
    pooled_layer: int | None = None
    max_tokens: int | None = None
    dropout: float | None = None
    head: str | None = None
    head_width: int | None = None
    head_depth: int | None = None
    head_dropout: float | None = None
    loss: LossSettings = LossSettings()
    freeze_bert: bool = False
    negatives_dir: str | None = None
    num_negatives: int = 1
    cluster_size: int = 8
    chunk_size: int = 0
    num_buckets: int = 16
    boundaries: tuple[int, ...] | None = None
    pad_to_multiple: int = 1
    dev_train_answers: int = 2_000
    settings: TrainingSettings = TrainingSettings()

    def __post_init__(self) -> None:
        """Raises a ValueError for settings that contradict each other."""
        if not 0 <= self.chunk_size <= self.settings.batch_size:
            raise ValueError(
                f"chunk_size is {self.chunk_size}; expected 0 to {self.settings.batch_size}, the batch size."
            )
        for name in ("cluster_size", "num_negatives"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more.")
        for name in ("dropout", "head_dropout"):
            if not 0 <= (getattr(self, name) or 0) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more, and less than 1.")
        if self.num_negatives > 1 and not self.negatives_dir:
            raise ValueError(f"num_negatives is {self.num_negatives}, of no hard negatives. Give --negatives_dir.")
        if self.loss.distillation_weight and not self.negatives_dir:
            raise ValueError("Distillation needs the teacher's scores of hard negatives. Give --negatives_dir.")
