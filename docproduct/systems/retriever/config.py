"""The settings of a training of the retriever."""

import dataclasses

from data_pipeline.settings import REQUIRED, Settings, setting
from docproduct.layers.bert import BertConfig
from docproduct.systems.retriever.losses import LossSettings
from docproduct.systems.retriever.model import HEADS
from docproduct.systems.retriever.pooling import POOLINGS
from docproduct.training.settings import TrainingSettings

_REWORDED_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class RetrieverTraining(Settings):
    """Settings of a training; the help beside each field says what it does.

    A size of the model that is None comes from the folder of the encoder or trained retriever that training starts
    from, or else is RetrieverConfig's default.
    """

    prepared_dir: str = setting(REQUIRED, "Prepared folder, written by data_pipeline.prepare.", changes_results=False)
    encoder_dir: str | None = setting(
        None, "Encoder, or trained retriever, to start from; none: a small random BERT.", changes_results=False
    )
    # Of the model without encoder_dir; the prepared folder's tokenizer decides vocab_size and pad_id.
    random_bert: BertConfig = BertConfig(width=128, num_layers=2, num_heads=2, inner_width=512, max_positions=256)
    pooling: str | None = setting(
        None,
        "How token states become a vector; default: as the encoder's folder says, else mean.",
        choices=tuple(POOLINGS),
    )
    pooled_layer: int | None = setting(
        None, "Layer whose states are pooled: -1 the last (default), -2 the one before it. Later layers are left out."
    )
    max_tokens: int | None = setting(
        None, "Maximum tokens of a text; default: the length at which the prepared pairs were cut."
    )
    dropout: float | None = setting(
        None, "Dropout inside the encoder; default: as the encoder's folder says.", least=0, below=1
    )
    head: str | None = setting(
        None, "Kind of head; default: residual (starts as the identity), or as in encoder_dir.", choices=HEADS
    )
    head_width: int | None = setting(None, "Width inside a head; default: the encoder's.", least=1)
    head_depth: int | None = setting(
        None, "Blocks of a residual head, or hidden layers of a plain one; default: 1.", least=1
    )
    head_dropout: float | None = setting(None, "Dropout inside the heads; default: 0.1.", least=0, below=1)
    # Without matryoshka_dims, those of the retriever that training starts from.
    loss: LossSettings = LossSettings()
    freeze_bert: bool = setting(False, "Train the heads only, on vectors that the encoder computes once.")
    negatives_dir: str | None = setting(
        None,
        "Hard negatives, written by docproduct.negatives; none: only the other answers of a batch.",
        changes_results=False,
    )
    num_negatives: int = setting(1, "Number of hard negatives per pair and step.", least=1)
    cluster_size: int = setting(
        2,
        "Pairs with similar questions to put in one batch, as hard negatives of one another; 1: off. Above 1, "
        "the encoder first encodes all questions, and the token ids of all pairs are in memory. Larger clusters leave "
        "fewer topics in a batch, and other kinds of questions are forgotten.",
        least=1,
    )
    reworded_share: float | None = setting(
        None,
        "Share of the train questions that each epoch asks in other words, anew each time: without their template, "
        "inside a sentence, or misspelt. Only questions in English change. Default: 0.5; 0 with freeze_bert, or with "
        "clusters of 1, whose pairs need not be in memory.",
        least=0,
        most=1,
        changes_results=False,  # a run's record has the share in effect
    )
    chunk_size: int = setting(
        0,
        "Gradient caching: encode this many pairs at once. It needs memory for these only, gives the gradients of the "
        "whole batch, and takes a third more time; 0: off.",
        least=0,
    )
    num_buckets: int = setting(16, "Number of length classes that batches are drawn from; 1: any length.", least=1)
    boundaries: tuple[int, ...] | None = setting(
        None, "Lengths in tokens that divide the buckets; default: the data's quantiles."
    )
    pad_to_multiple: int = setting(1, "Padded lengths are multiples of this number of tokens.", least=1)
    dev_train_answers: int = setting(2_000, "Number of train answers among the candidates on dev.", least=0)
    dev_sets: tuple[str, ...] = setting(
        (),
        "Further questions to score each epoch with, as name=FOLDER in BEIR layout, commas between. What is chosen on "
        "dev is chosen on the mean over these and the sources of the pairs.",
        changes_results=False,  # a run's record has the hash of their files
    )
    trained_share: float | None = setting(
        None,
        "Share of the trained weights in those that are kept; the rest is that of the weights that training started "
        "from. Default: the best on dev; 1 with a random start.",
        least=0,
        most=1,
    )
    settings: TrainingSettings = TrainingSettings()

    def __post_init__(self) -> None:
        """Raises a ValueError for a value out of range, or for settings that contradict each other."""
        super().__post_init__()
        if self.chunk_size > self.settings.batch_size:
            raise ValueError(
                f"chunk_size is {self.chunk_size}; expected 0 to {self.settings.batch_size}, the batch size."
            )
        if self.num_negatives > 1 and not self.negatives_dir:
            raise ValueError(
                f"num_negatives is {self.num_negatives}, but there are no hard negatives. Give --negatives_dir."
            )
        if self.reworded_share and self.freeze_bert:
            raise ValueError(
                "reworded_share asks questions in other words, but with freeze_bert only stored ones have vectors. "
                "Leave one of the two out."
            )
        if self.loss.distillation_weight and not self.negatives_dir:
            raise ValueError("Distillation needs the teacher's scores of hard negatives. Give --negatives_dir.")

    @property
    def effective_reworded_share(self) -> float:
        """`reworded_share`, or its default with these settings."""
        if self.reworded_share is None:
            return 0.0 if self.freeze_bert or self.cluster_size == 1 else _REWORDED_SHARE
        return self.reworded_share
