"""A triage model in use: its export, its graph sessions, and the path of a patient's text."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.prompts.encoder_prompts import EncoderPrompts
from data_pipeline.tokenizers import EncoderVocabulary
from docproduct.answering.emergency import Emergency
from docproduct.answering.triage import NOT_SURE, Triager
from docproduct.exports import saved_models
from docproduct.generation.sampling import GenerationSettings
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.model_folder import METRICS_FILE
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.triage import TrainedTriage, TriageClassifier, TriageConfig
from docproduct.systems.triage.calibration import Calibration, are_sure
from docproduct.systems.triage.export import export
from docproduct.systems.triage.session import TriageSession
from tests.conftest import TINY_BERT
from tests.test_bert import randomize

TEXTS = ["what is a3?", "the help against b is what", "a"]
LABELS = ("heart", "skin", "lung", "eye")


def make(tokenizer, labels=LABELS, replies=True):
    model = TriageClassifier(TriageConfig(TINY_BERT, labels, max_tokens=20, max_reply_tokens=6, num_known=7), seed=2)
    randomize(model)
    generator = None
    if replies:
        sizes = GPT2Config(tokenizer.vocab_size, 8, 1, 2, max_positions=24, cross_attention=True, encoder_width=10)
        generator = TrainedGenerator.make(sizes, EncoderVocabulary(tokenizer), seed=3)
        randomize(generator.decoder)
    return TrainedTriage(model, tokenizer, EncoderPrompts(question="is: "), generator, Calibration(1.7, 0.4, 0.2))


@pytest.fixture(scope="module")
def triage(tokenizer):
    return make(tokenizer)


@pytest.fixture(scope="module")
def exported(triage, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("export") / "e")
    export(triage, folder)
    return folder


def test_probabilities_are_scaled_by_the_temperature(triage):
    logits = triage.logits(triage.token_ids(TEXTS))
    powers = np.exp(logits / 1.7)
    assert triage.probs(TEXTS) == pytest.approx(powers / powers.sum(axis=1, keepdims=True), abs=1e-5)


def test_saved_is_loaded(triage, tmp_path):
    folder = str(tmp_path / "m")
    os.makedirs(folder)
    triage.save_config(folder, {})
    triage.save_weights(folder)
    loaded = TrainedTriage.load(folder)
    assert loaded.fingerprint() == triage.fingerprint()
    assert loaded.calibration == triage.calibration
    assert loaded.probs(TEXTS) == pytest.approx(triage.probs(TEXTS), abs=1e-6)
    assert loaded.generator.fingerprint() == triage.generator.fingerprint()
    shutil.rmtree(os.path.join(folder, "decoder"))
    assert not TrainedTriage.load(folder).has_replies
    os.remove(os.path.join(folder, "triage.json"))
    with pytest.raises(ValueError, match=r"has no triage\.json"):
        TrainedTriage.load(folder)
    with pytest.raises(ValueError, match=r"holds no triage model: it has no config\.json"):
        TrainedTriage.load(str(tmp_path))


def test_familiarity_by_numpy(triage):
    ids = triage.token_ids(TEXTS)
    vectors = triage.vectors(ids)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = np.sort(unit @ triage.model.known.numpy().T, axis=1)  # [N, 7]
    assert triage.familiarity(ids) == pytest.approx(cosines[:, -5:].mean(axis=1), abs=1e-5)


def test_sure_of_likely_labels_of_known_texts():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]], np.float32)
    sure = are_sure(Calibration(1.0, 0.8, 0.5), probs, np.array([0.5, 0.49, 0.9]))
    assert sure.tolist() == [True, False, False]


def test_the_decoder_must_fit_the_encoder(triage, tokenizer):
    sizes = dataclasses.replace(triage.generator.decoder.config, encoder_width=12)
    other = TrainedGenerator.make(sizes, EncoderVocabulary(tokenizer))
    with pytest.raises(ValueError, match="attends to states of width 12; the encoder's states have width 10"):
        TrainedTriage(triage.model, tokenizer, generator=other)


def test_export_equals_the_model(triage, exported):
    session = TriageSession.load(exported)
    assert session.labels == LABELS
    assert session.probs(TEXTS) == pytest.approx(triage.probs(TEXTS), abs=1e-5)
    assert session.assess(TEXTS)[1].tolist() == triage.assess(TEXTS)[1].tolist()
    assert session.replies(TEXTS) == triage.replies(TEXTS)
    sampling = GenerationSettings(temperature=1.0, seed=4, max_tokens=5)
    assert session.replies(TEXTS[:1], sampling) == triage.replies(TEXTS[:1], sampling)


def test_served_texts_equal_ids(triage, exported):
    served = tf.saved_model.load(saved_models.newest(exported))
    by_text = served.signatures["serving_default"](texts=tf.constant(TEXTS))
    assert by_text["probs"].numpy() == pytest.approx(triage.probs(TEXTS), abs=1e-5)
    assert by_text["encoder_mask"].numpy().sum(axis=1).tolist() == [len(ids) for ids in triage.token_ids(TEXTS)]


def test_wrong_exports(triage, tmp_path):
    with pytest.raises(ValueError, match="There is no folder"):
        TriageSession.load(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="holds no exported triage model of format 1"):
        TriageSession.load(str(tmp_path))


class Told:
    """A model that says what it is told to."""

    labels, has_replies = ("heart", "skin", "lung", "eye"), True

    def __init__(self, probs):
        self._probs = probs

    def assess(self, texts):
        probs = np.array([self._probs] * len(texts), np.float32)
        return probs, are_sure(Calibration(1.0, 0.6), probs, np.zeros(len(texts)))

    def replies(self, texts, sampling=None):
        return [f"about {text}" for text in texts]


def test_the_first_three_and_when_to_ask_a_person():
    triager = Triager(Told([0.1, 0.62, 0.2, 0.08]), Emergency(["chest pain"]))
    answer = triager.triage("  an   itch ")
    assert [department.label for department in answer.departments] == ["skin", "lung", "heart"]
    assert (answer.text, answer.sure, answer.reply, answer.advice) == ("an itch", True, None, None)
    unsure = Triager(Told([0.3, 0.5, 0.1, 0.1]), Emergency(["chest pain"])).triage("chest pain", reply=True)
    assert not unsure.sure
    shown = unsure.as_json()
    assert shown["note"] == NOT_SURE
    assert "112" in shown["advice"]
    assert shown["reply"] == "about chest pain"
    assert "not medical advice" in shown["disclaimer"]
    with pytest.raises(ValueError, match="The text is empty"):
        triager.triage(" \n ")


def test_a_folder_or_an_export(triage, exported, tmp_path):
    folder = str(tmp_path / "m")
    os.makedirs(folder)
    triage.save_config(folder, {})
    triage.save_weights(folder)
    with open(os.path.join(folder, METRICS_FILE), "w", encoding="utf-8") as file:
        file.write("{}")
    answers = [Triager.load(path).triage(TEXTS[1], reply=True) for path in (folder, exported)]
    assert [d.label for d in answers[0].departments] == [d.label for d in answers[1].departments]
    assert answers[0].reply == answers[1].reply
