"""The settings of a training of the triage model."""

import dataclasses

from data_pipeline.settings import REQUIRED, Settings, setting
from docproduct.layers.bert import BertConfig
from docproduct.systems.generator.cross_attention import SmallDecoder
from docproduct.systems.triage.labels import LabelSettings
from docproduct.systems.triage.model import MAX_REPLY_TOKENS, MAX_TOKENS, POOLINGS
from docproduct.training.settings import TrainingSettings

ENCODER, FROZEN, DECODER, JOINT = VARIANTS = ("encoder", "frozen", "decoder", "joint")
FIXED, UNCERTAINTY = WEIGHTINGS = ("fixed", "uncertainty")
BEST = ("accuracy", "macro_f1", "label_loss", "reply_perplexity")


@dataclasses.dataclass(frozen=True)
class TriageTraining(Settings):
    """Settings of a training; the help beside each field says what it does."""

    prepared_dir: str = setting(
        REQUIRED, "Prepared triage rows, written by data_pipeline.prepare --rows=triage.", changes_results=False
    )
    encoder_dir: str | None = setting(
        None, "Encoder to start from, or a trained triage model; default: a small random BERT.", changes_results=False
    )
    decoder_dir: str | None = setting(
        None, "GPT-2 to start from, or a trained triage model; default: a small random GPT-2.", changes_results=False
    )
    variant: str = setting(
        JOINT,
        "encoder: the classifier and its encoder. frozen: the classifier on a frozen encoder. decoder: the replies, "
        "from a frozen encoder's states. joint: classifier, encoder and decoder together.",
        choices=VARIANTS,
    )
    weighting: str = setting(
        FIXED,
        "How both losses are weighted: fixed, by reply_weight; uncertainty: by weights that are learned.",
        choices=WEIGHTINGS,
    )
    reply_weight: float = setting(0.3, "Weight of the replies' loss beside the labels'.", least=0)
    labels: LabelSettings = LabelSettings()
    pooling: str | None = setting(
        None, "How token states become the vector that is classified; default: as encoder_dir says.", choices=POOLINGS
    )
    probe_first: bool = setting(
        True, "Begin with the classifier that fits best on the untrained encoder's vectors, not with zeros."
    )
    dropout: float | None = setting(
        None,
        "Dropout in encoder, decoder and before the classifier; default: as the folders say, else 0.1.",
        least=0,
        below=1,
    )
    max_tokens: int = setting(MAX_TOKENS, "Maximum tokens of a text; longer ones are cut.", least=3)
    max_reply_tokens: int = setting(MAX_REPLY_TOKENS, "Maximum tokens of a reply; longer ones are cut.", least=2)
    chunk_size: int = setting(
        0, "Rows whose activations are in memory at once, gradients added up; 0: the whole batch.", least=0
    )
    num_replies: int = setting(
        16,
        "Number of dev texts to write replies for after each epoch, for BLEU and ROUGE-L.",
        least=0,
        changes_results=False,
    )
    reply_temperature: float = setting(
        0.0, "Temperature of these replies; 0: the likeliest token, always.", least=0, changes_results=False
    )
    sure_prob: float = setting(
        0.8, "Lowest calibrated probability at which the model may be sure. Calibration may raise it.", least=0, most=1
    )
    sure_accuracy: float = setting(
        0.95, "Minimum accuracy on dev among the texts that the model is sure of.", least=0, most=1
    )
    known_share: float = setting(
        0.98, "Share of dev texts that are near enough to train texts for the model to be sure.", above=0, most=1
    )
    best_metric: str | None = setting(
        None, "Metric that selects the epoch to keep; default: accuracy, without labels reply_perplexity.", choices=BEST
    )
    random_bert: BertConfig = BertConfig(width=128, num_layers=2, num_heads=2, inner_width=512)
    random_decoder: SmallDecoder = SmallDecoder()
    settings: TrainingSettings = TrainingSettings(epochs=3, batch_size=32)

    @property
    def metric(self) -> str:
        """The metric that selects the epoch to keep."""
        return self.best_metric or ("accuracy" if self.has_labels else "reply_perplexity")

    @property
    def lowest_is_best(self) -> bool:
        """Whether a lower value of this metric is better."""
        return self.metric in ("label_loss", "reply_perplexity")

    @property
    def has_labels(self) -> bool:
        """Whether the classifier is trained."""
        return self.variant != DECODER

    @property
    def has_replies(self) -> bool:
        """Whether the decoder is trained."""
        return self.variant in (DECODER, JOINT)

    @property
    def freezes_encoder(self) -> bool:
        """Whether the encoder stays as it is."""
        return self.variant in (FROZEN, DECODER)
