"""A trained triage model: its folder, the probabilities of texts, and draft replies.

config.json          exact config, training settings, seed, versions, git commit
weights.safetensors  metrics.json  learning_curve.png  confusion.png
vocab.txt or tokenizer.json, tokenizer_config.json, config_sentence_transformers.json
triage.json          temperature, and from which probability on the model is sure
decoder/             the GPT-2 that writes replies, if there is one

N texts, T tokens, D width, L labels
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from data_pipeline import batches
from data_pipeline.folders import files
from data_pipeline.prompts.encoder_prompts import EncoderPrompts
from data_pipeline.settings import from_json
from data_pipeline.tokenizers import CausalTokenizer, Tokenizer
from docproduct import model_folder
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import GenerationSession
from docproduct.layers import checkpoints
from docproduct.layers.precision import dtype_policy
from docproduct.model_folder import CONFIG_FILE, WEIGHTS_FILE
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.retriever.folder import check_vocabulary
from docproduct.systems.triage.calibration import Calibration, are_sure
from docproduct.systems.triage.model import TriageClassifier, TriageConfig

KIND = "docproduct triage model"
FORMAT = 1
CALIBRATION_FILE = "triage.json"
DECODER_FOLDER = "decoder"
_BATCH_TOKENS = 8_192  # read together, padding included
_WRITTEN_TOGETHER = 8
_ROW_MULTIPLE = 256  # texts are short: with more, a third of a batch would be padding
_WORTH_COMPILING = 256  # width of the encoder
_REMEDY = "Expected what train_gpt2.py --task=triage wrote."


class Read(NamedTuple):
    """What the encoder made of a batch of texts.

    Attributes:
      rows: [B] int, their places among the texts.
      ids: [B, T] int32.
      logits: [B, L] float32.
      states: [B, T, D].
      familiarity: [B] float32, see `TriageClassifier.familiarity`.
    """

    rows: np.ndarray
    ids: np.ndarray
    logits: np.ndarray
    states: np.ndarray
    familiarity: np.ndarray


class TrainedTriage:
    """A triage model with its tokenizers.

    Attributes:
      model: the encoder with its classifier.
      tokenizer: of the encoder.
      config: of the model.
      prompts: what the encoder expects before a text; texts are on the side of questions.
      generator: the GPT-2 that writes replies, with its tokenizer; None: there is none.
      calibration: of the probabilities.
    """

    def __init__(
        self,
        model: TriageClassifier,
        tokenizer: Tokenizer,
        prompts: EncoderPrompts = EncoderPrompts(),
        generator: TrainedGenerator | None = None,
        calibration: Calibration = Calibration(),
    ):
        """Joins the parts.

        Raises:
          ValueError: the tokenizer has more ids than the model has rows, or another padding; or the decoder does not
            attend to states of this encoder's width.
        """
        check_vocabulary(tokenizer, model.config.bert)
        if generator:
            _check_decoder(generator, model.config.bert.width)
        self.model, self.tokenizer, self.config = model, tokenizer, model.config
        self.prompts, self.generator, self.calibration = prompts, generator, calibration
        self._session: GenerationSession | None = None

        # One signature for all lengths: traced once.
        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)
        def read(ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            logits, states = self.model(ids)
            return logits, tf.cast(states, tf.float32), self.model.familiarity(self.model.pool(states, ids))

        self._read = read

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.config.labels

    @property
    def has_replies(self) -> bool:
        """Whether it can write replies."""
        return self.generator is not None

    def has_classifier(self) -> bool:
        """Returns whether the classifier tells labels apart; all zeros, as in the beginning, it does not."""
        return self.model.classifier is not None and bool(self.model.classifier.kernel.numpy().any())

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenizes texts with the encoder's prompt, cut at `config.max_tokens`."""
        if not texts:
            return []
        return self.tokenizer.encode_few(self.prompts.add(texts, "question"), self.config.max_tokens)

    def read(self, ids: Sequence[Sequence[int]]) -> Iterator[Read]:
        """Yields what the encoder makes of tokenized texts, in batches of similar length."""
        lengths = np.array([len(row) for row in ids])
        for rows in batches.length_order(lengths, _BATCH_TOKENS):
            padded = batches.pad_rows([ids[row] for row in rows.tolist()], self.tokenizer.pad_id)
            yield Read(rows, padded, *(part.numpy() for part in self._read(padded)))

    def logits(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns the logits of tokenized texts, [N, L] float32."""
        logits = np.empty((len(ids), len(self.labels)), np.float32)
        for part in self.read(ids):
            logits[part.rows] = part.logits
        return logits

    def vectors(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns the vectors of tokenized texts before the classifier, [N, D] float32."""
        vectors = np.empty((len(ids), self.config.bert.width), np.float32)
        for part in self.read(ids):
            vectors[part.rows] = self.model.pool(part.states, tf.constant(part.ids)).numpy()
        return vectors

    def familiarity(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Returns how near tokenized texts are to those of train, [N] float32."""
        familiarity = np.empty(len(ids), np.float32)
        for part in self.read(ids):
            familiarity[part.rows] = part.familiarity
        return familiarity

    def probs(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the calibrated probability of each label for clean texts, [N, L] float32.

        Raises:
          ValueError: the model has no labels.
        """
        return self.assess(texts)[0]

    def assess(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns what `probs` returns, and of which texts the model is sure, [N] bool.

        Raises:
          ValueError: the model has no labels.
        """
        if not self.labels:
            raise ValueError("This model was trained on replies only: it has no labels. Train one with labels.")
        probs = np.empty((len(texts), len(self.labels)), np.float32)
        familiarity = np.empty(len(texts), np.float32)
        for part in self.read(self.token_ids(texts)):
            probs[part.rows], familiarity[part.rows] = self.calibration.probs(part.logits), part.familiarity
        return probs, are_sure(self.calibration, probs, familiarity)

    def replies(self, texts: Sequence[str], sampling: GenerationSettings | None = None) -> list[str]:
        """Writes a draft reply to each of some clean texts.

        Args:
          texts: N clean texts.
          sampling: how replies are written, with one sample; they end after `config.max_reply_tokens` tokens at most.
            None: greedily, as long as that.

        Raises:
          ValueError: the model has no decoder.
        """
        if not self.generator:
            raise ValueError("This model has no decoder: it was trained on labels only. Train the variant joint.")
        self._session = self._session or GenerationSession.of(self.generator)
        sampling = reply_sampling(sampling, self.config.max_reply_tokens)
        replies = [""] * len(texts)
        for part in self.read(self.token_ids(texts)):
            for start in range(0, len(part.rows), _WRITTEN_TOGETHER):
                chosen = slice(start, start + _WRITTEN_TOGETHER)
                mask = (part.ids[chosen] != self.tokenizer.pad_id).astype(np.int32)
                prompts = [[begin_id(self.generator.tokenizer)]] * len(mask)
                written = self._session.write(prompts, sampling, encoder=(part.states[chosen], mask))
                for row, (generation,) in zip(part.rows[chosen].tolist(), written, strict=True):
                    replies[row] = generation.text.strip()
        return replies

    def compile_for_many(self) -> None:
        """Compiles element-wise operations with XLA, on a processor and if the encoder is wide enough."""
        if not tf.config.list_physical_devices("GPU") and self.config.bert.width >= _WORTH_COMPILING:
            self.model.bert.row_multiple = _ROW_MULTIPLE

    def fingerprint(self) -> str:
        """Returns a hash of weights, config and tokenizers."""
        decoder = self.generator.fingerprint() if self.generator else ""
        return checkpoints.fingerprint(self.model, repr(self.config), self.tokenizer.fingerprint, decoder)

    def save_config(self, folder: str, training: Mapping[str, Any]) -> None:
        """Writes everything but the weights; `training` describes the training."""
        described = {"triage": dataclasses.asdict(self.config), "tokenizer": self.tokenizer.fingerprint}
        config = {"kind": KIND, "format": FORMAT, **described, **training}
        files.write_json(os.path.join(folder, CONFIG_FILE), config | model_folder.provenance())
        self.tokenizer.save(folder)
        self.prompts.save(folder)
        if self.generator:
            decoder = os.path.join(folder, DECODER_FOLDER)
            os.makedirs(decoder, exist_ok=True)
            self.generator.save_config(decoder, {})

    def save_weights(self, folder: str) -> None:
        """Writes the weights of encoder, classifier and decoder, and the calibration."""
        checkpoints.save(self.model, os.path.join(folder, WEIGHTS_FILE))
        if self.generator:
            self.generator.save_weights(os.path.join(folder, DECODER_FOLDER))
        self.save_calibration(folder)

    def save_calibration(self, folder: str) -> None:
        """Writes the calibration."""
        files.write_json(os.path.join(folder, CALIBRATION_FILE), dataclasses.asdict(self.calibration))

    def load_weights(self, folder: str) -> None:
        """Sets weights and calibration to those that `save_weights` wrote."""
        path = os.path.join(folder, WEIGHTS_FILE)
        checkpoints.assign(self.model, checkpoints.read_safetensors(folder, WEIGHTS_FILE), path)
        if self.generator:
            self.generator.load_weights(os.path.join(folder, DECODER_FOLDER))
        path = os.path.join(folder, CALIBRATION_FILE)
        stored = files.read_json(path)
        if stored is None:
            raise ValueError(f"{folder} has no {CALIBRATION_FILE}, which holds the temperature. {_REMEDY}")
        self.calibration = from_json(Calibration, stored, path)

    @classmethod
    def load(cls, folder: str, precision: str = "float32", seed: int = 0) -> "TrainedTriage":
        """Loads a trained triage model.

        Args:
          folder: what `train_gpt2.py --task=triage` wrote.
          precision: of the encoder: float32, bfloat16 or auto.
          seed: random seed of dropout.

        Raises:
          ValueError: the folder holds something else, or its files are missing or do not fit together.
        """
        path = os.path.join(folder, CONFIG_FILE)
        stored = model_folder.read_config(folder, KIND, FORMAT, _REMEDY)
        tokenizer = model_folder.read_tokenizer(folder, stored["tokenizer"])
        config = from_json(TriageConfig, stored["triage"], path)
        decoder = os.path.join(folder, DECODER_FOLDER)
        generator = TrainedGenerator.load(decoder, seed=seed) if os.path.isdir(decoder) else None
        model = TriageClassifier(config, seed, dtype_policy(precision))
        result = cls(model, tokenizer, EncoderPrompts.read(folder), generator)
        result.load_weights(folder)
        return result


def reply_sampling(sampling: GenerationSettings | None, max_tokens: int) -> GenerationSettings:
    """Returns how replies of at most `max_tokens` tokens are written; None: greedily, as long as that."""
    if sampling is None:
        return GenerationSettings(max_tokens=max_tokens)
    return dataclasses.replace(sampling, max_tokens=min(sampling.max_tokens, max_tokens))


def begin_id(tokenizer: CausalTokenizer) -> int:
    """Returns the token that a reply begins after: the vocabulary's first mark, or GPT-2's end of text."""
    begin = getattr(tokenizer, "begin_id", None)
    return tokenizer.end_id if begin is None else begin


def _check_decoder(generator: TrainedGenerator, width: int) -> None:
    """Raises a ValueError unless a decoder attends to states of an encoder of this width."""
    config = generator.decoder.config
    attends = getattr(config, "cross_attention", False) and (config.encoder_width or config.width)
    if attends != width:
        raise ValueError(
            f"The decoder attends to {f'states of width {attends}' if attends else 'no encoder'}; the encoder's states "
            f"have width {width}. Give a decoder that was trained with this encoder."
        )
