"""What a training starts from: checked rows, the labels, and the model before its first step."""

import dataclasses
import os

import numpy as np
from absl import logging
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from data_pipeline import splits
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prompts.encoder_prompts import EncoderPrompts
from data_pipeline.rows import TRIAGE
from data_pipeline.tokenizers import EncoderVocabulary, Tokenizer, load_tokenizer, train_wordpiece
from docproduct.layers import checkpoints
from docproduct.layers.bert import Bert, BertConfig
from docproduct.layers.precision import dtype_policy
from docproduct.model_folder import CONFIG_FILE
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.generator.cross_attention import with_cross_attention
from docproduct.systems.retriever.bare_encoder import load_encoder
from docproduct.systems.triage import labels
from docproduct.systems.triage.config import TriageTraining
from docproduct.systems.triage.folder import DECODER_FOLDER, KIND, TrainedTriage
from docproduct.systems.triage.model import POOLINGS, TriageClassifier, TriageConfig
from docproduct.systems.triage.rows import TriageRows

_VOCABULARY = 4_096  # ids of a vocabulary that is learned from the texts
_PENALTIES = np.logspace(-4, 1, 6).tolist()  # C of the first classifier: the inverse strength of its regularization
_MOST_KNOWN = 1_000  # train texts that a text is compared with
_FOLDS, _LEAST_OF_CLASS = 3, 3
_TOLERANCE = 1e-6  # of the solver's gradient
_LEAST_DEVIATION = 0.01  # of the median deviation


@dataclasses.dataclass(frozen=True)
class Encoder:
    """An encoder with what belongs to it.

    Attributes:
      bert: its sizes.
      weights: {name: value} of its variables; None: random.
      tokenizer: its tokenizer.
      prompts: what it expects before a text.
      pooling: how its states become a vector; None: its folder says nothing.
      labels: those of its classifier, if it has one.
      classifier: kernel and bias of this classifier.
    """

    bert: BertConfig
    weights: dict[str, np.ndarray] | None
    tokenizer: Tokenizer
    prompts: EncoderPrompts = EncoderPrompts()
    pooling: str | None = None
    labels: tuple[str, ...] = ()
    classifier: tuple[np.ndarray, ...] = ()


def training_rows(config: TriageTraining) -> PreparedFolder:
    """Returns the prepared rows.

    Raises:
      ValueError: there are none to train on, or none to evaluate with.
    """
    prepared = PreparedFolder(config.prepared_dir, TRIAGE)
    for split in (splits.TRAIN, splits.DEV):
        if not prepared.num_rows(split):
            raise ValueError(
                f"{prepared.path} has no {split} rows. Prepare it again with more rows, or with a "
                f"{'higher' if split == splits.DEV else 'lower'} --dev_share."
            )
    return prepared


def start(config: TriageTraining, prepared: PreparedFolder, resumed_dir: str | None = None) -> TrainedTriage:
    """Returns the untrained model.

    Args:
      config: what to train.
      prepared: the rows.
      resumed_dir: folder of the run that is resumed; a vocabulary that is learned from texts is not always the same.

    Raises:
      ValueError: the parts do not fit together, or there are not two labels to tell apart.
    """
    encoder = _encoder(config, prepared, resumed_dir)
    bert = encoder.bert.with_dropout(config.dropout)
    policy = dtype_policy(config.settings.precision, training=True)
    generator = _generator(config, encoder, policy) if config.has_replies else None
    sizes = TriageConfig(
        bert,
        _labels(config, prepared),
        config.pooling or encoder.pooling or "mean",
        0.1 if config.dropout is None else config.dropout,
        min(config.max_tokens, bert.max_positions),
        # The mark that begins a reply stands in the decoder's window, too.
        min(config.max_reply_tokens, generator.window - 1) if generator else config.max_reply_tokens,
        min(_MOST_KNOWN, prepared.num_rows(splits.TRAIN)) if config.has_labels else 0,
    )
    model = TriageClassifier(sizes, config.settings.seed, policy)
    if encoder.weights:
        checkpoints.assign(model.bert, encoder.weights, config.encoder_dir)
    if model.classifier and encoder.labels == sizes.labels:
        model.classifier.set_weights(encoder.classifier)
    model.bert.trainable = not config.freezes_encoder
    return TrainedTriage(model, encoder.tokenizer, encoder.prompts, generator)


def _labels(config: TriageTraining, prepared: PreparedFolder) -> tuple[str, ...]:
    """Returns the classes of train; none for a variant without labels."""
    if not config.has_labels:
        return ()
    given = prepared.table(["label"], splits.TRAIN)["label"].to_pylist()
    names = labels.choose(given, config.labels)
    if len(names) < 2:
        raise ValueError(
            f"The train rows of {prepared.path} have {len(names)} labels to tell apart ({', '.join(names) or 'none'}); "
            "expected two or more. Check --label_column of data_pipeline.prepare, and --top_labels and --least_rows; "
            "to learn replies only, give --variant=decoder."
        )
    return names


def _encoder(config: TriageTraining, prepared: PreparedFolder, resumed_dir: str | None) -> Encoder:
    folder = config.encoder_dir
    if not folder:
        texts = prepared.table(["text"], splits.TRAIN)["text"].to_pylist()
        tokenizer = load_tokenizer(resumed_dir) if resumed_dir else train_wordpiece(texts, _VOCABULARY)
        sizes = {"vocab_size": tokenizer.vocab_size, "pad_id": tokenizer.pad_id}
        return Encoder(dataclasses.replace(config.random_bert, **sizes), None, tokenizer)
    if is_triage(folder):
        trained = TrainedTriage.load(folder)
        bert, classifier = trained.model.bert, trained.model.classifier
        own = (trained.labels, tuple(classifier.get_weights()) if classifier else ())
        return Encoder(bert.config, _values(bert), trained.tokenizer, trained.prompts, trained.config.pooling, *own)
    retriever, tokenizer = load_encoder(folder)
    pooling = retriever.config.pooling if retriever.config.pooling in POOLINGS else None
    return Encoder(retriever.bert.config, _values(retriever.bert), tokenizer, EncoderPrompts.read(folder), pooling)


def _values(bert: Bert) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in checkpoints.variables_by_name(bert).items()}


def is_triage(folder: str) -> bool:
    """Returns whether a folder holds a trained triage model."""
    stored = files.read_json(os.path.join(folder, CONFIG_FILE)) if os.path.isdir(folder) else None
    return bool(stored) and stored.get("kind") == KIND


def _generator(config: TriageTraining, encoder: Encoder, policy: str) -> TrainedGenerator:
    """Returns the decoder, which attends to the encoder's states."""
    width, seed, folder = encoder.bert.width, config.settings.seed, config.decoder_dir
    if folder and is_triage(folder):
        folder = os.path.join(folder, DECODER_FOLDER)
        if not os.path.isdir(folder):
            raise ValueError(
                f"{config.decoder_dir} was trained without replies. Expected a triage model of --variant=decoder or "
                "joint, or a GPT-2."
            )
    if folder:
        return with_cross_attention(TrainedGenerator.load(folder, policy, seed, config.dropout), width, seed, policy)
    if config.has_labels:
        logging.warning(
            "The decoder begins with random weights, which learn little at a rate that suits the encoder. For replies "
            "that read well, train it alone first (--variant=decoder), and give its folder as --decoder_dir."
        )
    tokenizer = EncoderVocabulary(encoder.tokenizer)
    return config.random_decoder.make(tokenizer, width, seed, policy, config.dropout)


def probe(triage: TrainedTriage, rows: TriageRows, weights: np.ndarray, seed: int) -> None:
    """Sets the classifier to the logistic regression that fits best on the untrained encoder's vectors.

    Fine-tuning from random classifiers distorts what the encoder knows before they have learned anything. Source:
    Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution". The strength
    of the regularization is chosen by cross-validated accuracy.

    Args:
      triage: the model.
      rows: train rows.
      weights: [L] float, the loss weight of each class.
      seed: of the folds.
    """
    chosen = np.flatnonzero(rows.classes >= 0)
    classes = rows.classes[chosen]
    # In float32 the solver stalls before its tolerance, at a place that differs from processor to processor.
    vectors = triage.vectors([rows.text_ids[row] for row in chosen.tolist()]).astype(np.float64)
    known = np.unique(classes)
    mean, deviation = vectors.mean(axis=0), vectors.std(axis=0)
    # Some encoders have components that hardly vary: divided by their deviation, they would drown all others.
    scale = np.maximum(deviation, _LEAST_DEVIATION * np.median(deviation) or 1.0)
    scaled = (vectors - mean) / scale
    regression = LogisticRegression(class_weight=dict(enumerate(weights.tolist())), tol=_TOLERANCE, max_iter=1000)
    if np.bincount(classes)[known].min() >= _LEAST_OF_CLASS:
        search = GridSearchCV(regression, {"C": _PENALTIES}, cv=_FOLDS).fit(scaled, classes)
        regression, strength = search.best_estimator_, search.best_params_["C"]
        logging.info("The first classifier: C = %g, cross-validated accuracy %.4f.", strength, search.best_score_)
    else:
        regression.fit(scaled, classes)
    coefficients, bias = regression.coef_, regression.intercept_
    if len(known) == 2:  # one row of coefficients, for the second class
        coefficients, bias = np.stack([-coefficients[0], coefficients[0]]) / 2, np.stack([-bias[0], bias[0]]) / 2
    kernel = (coefficients / scale).T  # [D, known]
    bias = bias - mean @ kernel
    all_kernels = np.zeros((vectors.shape[1], len(triage.labels)), np.float32)
    all_biases = np.full(len(triage.labels), bias.min(), np.float32)  # of classes without a row in train
    all_kernels[:, known], all_biases[known] = kernel, bias
    triage.model.classifier.set_weights([all_kernels, all_biases])
