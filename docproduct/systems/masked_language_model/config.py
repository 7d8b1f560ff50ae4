"""The settings of masked-language-model training."""

import dataclasses

from data_pipeline.settings import Settings, setting
from data_pipeline.token_rows.masking import MASK_SHARE
from docproduct.layers.bert import BertConfig
from docproduct.training.settings import TrainingSettings


@dataclasses.dataclass(frozen=True)
class MaskedTraining(Settings):
    """Settings of a training; the help beside each field says what it does."""

    text: tuple[str, ...] = setting((), "Files of plain text; <|endoftext|> ends a document.", changes_results=False)
    prepared_dir: str | None = setting(
        None, "Prepared rows of any type, whose texts are read in their splits.", changes_results=False
    )
    encoder_dir: str | None = setting(
        None, "Encoder to start from; default: a small random BERT and a new vocabulary.", changes_results=False
    )
    dev_share: float = setting(0.05, "Share of the documents of text for dev.", least=0, below=1)
    max_tokens: int = setting(128, "Maximum tokens of a row; longer texts become several rows.", least=3)
    mask_share: float = setting(MASK_SHARE, "Share of the tokens that are to be predicted.", above=0, below=1)
    new_pieces: int = setting(
        0, "Number of words to add to the vocabulary: unknown ones first, then those in many pieces.", least=0
    )
    vocab_size: int = setting(8_192, "Without encoder_dir: size of the vocabulary that is learned.", least=50)
    dropout: float | None = setting(
        None, "Dropout inside the encoder; default: as the encoder's folder says.", least=0, below=1
    )
    chunk_size: int = setting(
        0, "Rows whose activations are in memory at once, gradients added up; 0: the whole batch.", least=0
    )
    dev_rows: int = setting(2_000, "Maximum number of dev rows to evaluate with.", least=1)
    random_bert: BertConfig = BertConfig(width=128, num_layers=2, num_heads=2, inner_width=512)
    settings: TrainingSettings = TrainingSettings(epochs=3, batch_size=32)

    def __post_init__(self) -> None:
        """Raises a ValueError for a value out of range."""
        super().__post_init__()
        if self.new_pieces and not self.encoder_dir:
            raise ValueError(
                f"new_pieces is {self.new_pieces} without encoder_dir, where a vocabulary is learned from the texts. "
                "Leave it out, or give a higher vocab_size."
            )
        if self.chunk_size > self.settings.batch_size:
            raise ValueError(
                f"chunk_size is {self.chunk_size}; expected 0 to {self.settings.batch_size}, the batch size."
            )
