"""A model that chooses in use: its export, its graph session, one question, the terminal."""

import json
import os
import types

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from data_pipeline import rows
from docproduct import choices
from docproduct import export as export_script
from docproduct.answering.choices import MOST_TOKENS, ChoiceAnswerer
from docproduct.exports import saved_models
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.multiple_choice import questions
from docproduct.systems.multiple_choice.export import export
from docproduct.systems.multiple_choice.folder import TrainedChooser
from docproduct.systems.multiple_choice.likelihood import Likelihood, normalized
from docproduct.systems.multiple_choice.open import open_model
from docproduct.systems.multiple_choice.questions import Asked
from docproduct.systems.multiple_choice.scoring import BATCH_INPUTS
from docproduct.systems.multiple_choice.session import ChooserSession
from tests.test_bert import randomize
from tests.test_int8 import NEEDS_INT8
from tests.test_scripts import run

SIZES = GPT2Config(vocab_size=290, width=32, num_layers=2, num_heads=2, max_positions=160, dropout=0.0)
THRESHOLD = 0.4
CASE = ("what helps against x?", ["z is y", "the cause", "y"], "the x is against y.")
QUESTIONS = [
    Asked(rows.Choices(CASE[0], tuple(CASE[1]), (), 0, CASE[2], "q")),
    Asked(rows.Choices("what is x?", ("y and z", "é"), (), 1, "", "q")),
    Asked(rows.Choices("what?", ("what", "the", "is", "of"), (), 0, "the z. " * 9, "q"), (("what is z?", "x"),)),
]


def save(chooser, folder):
    """Writes a chooser as a training that has ended does."""
    os.makedirs(folder)
    chooser.save_config(folder, {})
    chooser.save_weights(folder)
    with open(os.path.join(folder, "metrics.json"), "w", encoding="utf-8") as file:
        file.write("{}")
    return folder


def make(bpe):
    generator = TrainedGenerator.make(SIZES, bpe, seed=1)
    randomize(generator.decoder)
    result = TrainedChooser(generator, 100, THRESHOLD)
    result.head.score.kernel.assign(np.random.default_rng(0).normal(size=(32, 1)))
    result.head.score.bias.assign([-0.5])
    return result


@pytest.fixture(scope="module")
def chooser(bpe):
    return make(bpe)


@pytest.fixture(scope="module")
def exported(chooser, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("export") / "e")
    export(chooser, folder)
    return folder


@pytest.fixture(scope="module")
def model_dir(chooser, tmp_path_factory):
    return save(chooser, str(tmp_path_factory.mktemp("model") / "m"))


@pytest.fixture(scope="module")
def language_model(chooser, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("language") / "gpt2")
    chooser.generator.save(folder)
    return folder


def test_export_equals_the_model(chooser, exported):
    session = ChooserSession.load(exported)
    assert (session.max_tokens, session.threshold) == (100, THRESHOLD)
    expected = chooser.probabilities(QUESTIONS)
    assert np.ptp(expected[0]) > 0.05
    for values, ours in zip(session.probabilities(QUESTIONS), expected, strict=True):
        np.testing.assert_allclose(values, ours, atol=1e-5)


def test_any_program_can_run_the_default_signature(chooser, exported):
    encoded = chooser.encode(QUESTIONS)
    batch = questions.batch(encoded, np.arange(3))
    served = tf.saved_model.load(saved_models.newest(exported)).signatures["serving_default"]
    scores = served(**{name: tf.constant(getattr(batch, name)) for name in BATCH_INPUTS})["scores"].numpy()
    for values, ours in zip(scores, chooser.scores(encoded), strict=True):
        np.testing.assert_allclose(values[: len(ours)], ours, atol=1e-5)
        assert not values[len(ours) :].any()


@NEEDS_INT8
def test_int8_is_near(chooser, model_dir, tmp_path):
    folder = str(tmp_path / "e")
    version = export_script.export(model_dir, folder, False, None, "int8")
    assert json.loads((tmp_path / "e" / "1" / "assets.extra" / "config.json").read_text())["precision"] == "int8"
    assert version == os.path.join(folder, "1")
    values, expected = ChooserSession.load(folder).probabilities(QUESTIONS), chooser.probabilities(QUESTIONS)
    differences = np.abs(np.concatenate(values) - np.concatenate(expected))
    assert 0 < differences.max() < 0.05


def test_by_default_what_is_chosen_stays_the_same(model_dir, tmp_path):
    export_script.export(model_dir, str(tmp_path / "e"), False, None, "auto")
    config = json.loads((tmp_path / "e" / "1" / "assets.extra" / "config.json").read_text())
    assert (config["precision"], config["signatures"]) == ("float32", ["score", "serving_default"])


def test_each_form_is_opened_as_what_it_is(model_dir, exported, language_model, tmp_path):
    forms = {model_dir: TrainedChooser, exported: ChooserSession, f"{exported}/1": ChooserSession}
    for path, kind in (forms | {language_model: Likelihood}).items():
        assert isinstance(open_model(path, max_tokens=50), kind)
        assert open_model(path, max_tokens=50).max_tokens == 50
        with pytest.raises(ValueError, match="A row may have 161 tokens; expected at most 160"):
            open_model(path, max_tokens=161)
        with pytest.raises(ValueError, match="holds a whole model, and --base_dir"):
            open_model(path, model_dir)
    with pytest.raises(ValueError, match="nowhere"):
        open_model(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="no exported multiple-choice model of format 1: its config.json says None"):
        ChooserSession.load(str(tmp_path))


@pytest.mark.parametrize("form", ["model_dir", "exported"])
def test_ask(request, chooser, form):
    answerer = ChoiceAnswerer.load(request.getfixturevalue(form))
    answer = answerer.ask(" what  helps against x? ", *CASE[1:])
    assert (answer.question, answer.trained, answer.emergency) == (CASE[0], True, None)
    assert [choice.choice for choice in answer.choices] == CASE[1]
    (expected,) = chooser.probabilities(QUESTIONS[:1])
    np.testing.assert_allclose([choice.probability for choice in answer.choices], expected, atol=1e-5)
    assert answer.chosen == [CASE[1][int(expected.argmax())]]
    shown = answer.as_json()
    assert shown["choices"][0] == {
        "choice": CASE[1][0],
        "probability": answer.choices[0].probability,
        "chosen": answer.choices[0].chosen,
    }
    assert shown["chosen"] == answer.chosen
    assert "not medical advice" in shown["disclaimer"]
    several = answerer.ask(*CASE, several=True)
    scores = chooser.scores(chooser.encode(QUESTIONS[:1]))[0]
    probs = scipy.special.expit(scores)
    np.testing.assert_allclose([choice.probability for choice in several.choices], probs, atol=1e-5)
    above = [text for text, prob in zip(CASE[1], probs, strict=True) if prob >= THRESHOLD or prob == probs.max()]
    assert several.chosen == above


def test_permuted_choices_have_permuted_probabilities(exported):
    answerer = ChoiceAnswerer.load(exported)
    for several in (False, True):
        straight, permuted = (
            {choice.choice: choice for choice in answerer.ask(CASE[0], texts, CASE[2], several).choices}
            for texts in (CASE[1], [CASE[1][place] for place in (2, 0, 1)])
        )
        assert list(permuted) == ["y", "z is y", "the cause"]
        for text, choice in straight.items():
            assert permuted[text].probability == pytest.approx(choice.probability, abs=1e-6)
            assert permuted[text].chosen == choice.chosen


def test_ask_a_language_model(language_model):
    answerer = ChoiceAnswerer.load(language_model)
    answer = answerer.ask(*CASE)
    likelihood = open_model(language_model)
    (values,) = normalized(likelihood.sums(QUESTIONS[:1]), QUESTIONS[:1], "acc_norm")
    expected = scipy.special.softmax(values)
    np.testing.assert_allclose([choice.probability for choice in answer.choices], expected, rtol=1e-5)
    assert (answer.trained, answer.chosen) == (False, [CASE[1][int(expected.argmax())]])
    with pytest.raises(ValueError, match="several needs a model that was trained"):
        answerer.ask(*CASE, several=True)
    assert answerer.model.max_tokens == 160 < MOST_TOKENS


def test_a_large_window_is_not_used_whole(monkeypatch):
    model = Likelihood.__new__(Likelihood)
    model.max_tokens = 8_192
    monkeypatch.setattr("docproduct.answering.choices.open_model", lambda *_: model)
    assert ChoiceAnswerer.load("any").model.max_tokens == MOST_TOKENS
    model.max_tokens = 8_192
    assert ChoiceAnswerer.load("any", max_tokens=8_192).model.max_tokens == 8_192


def test_what_was_not_read_is_told(exported):
    answerer = ChoiceAnswerer.load(exported)
    for question, context, expected in (
        ("what is x?", "the x.", (False, False)),
        ("what is x?", "the x. " * 40, (True, False)),
        ("what is x? " * 20, "the x.", (True, True)),
        ("what is x? " * 20, "", (False, True)),
    ):
        answer = answerer.ask(question, ["x", "y"], context)
        assert (answer.context_shortened, answer.question_shortened) == expected


def test_an_emergency_in_question_or_context(exported):
    answerer = ChoiceAnswerer.load(exported)
    for question, context in (("chest pain and no breath?", ""), ("and now?", "chest pain and no breath")):
        assert "112" in answerer.ask(question, ["x", "y"], context).emergency


@pytest.mark.parametrize(
    ("question", "texts", "message"),
    [
        (" \u200b", ["a", "b"], "question is empty"),
        ("q", ["a"], "'a'; expected two"),
        ("q", [], "missing; expected two"),
        ("q", ["a", " a"], "expected two or more different"),
        ("q", ["a", " \n"], "expected two or more different"),
        ("q", ["x y " * 30, "y"], "choices of a question have .* tokens; expected fewer than 100"),
    ],
)
def test_wrong_questions(exported, question, texts, message):
    with pytest.raises(ValueError, match=message):
        ChoiceAnswerer.load(exported).ask(question, texts)


def test_what_the_terminal_shows(capsys):
    probabilities = [0.2, 0.5, 0.3]
    model = types.SimpleNamespace(
        threshold=None,
        encode=lambda asked: [questions.Encoded([1], [[2], [3], [4]], True)],
        probabilities_of=lambda encoded, asked: [np.array(probabilities)],
    )
    emergency = types.SimpleNamespace(advice=lambda text: "Call 112." if "pain" in text else None)
    choices.show_answer(ChoiceAnswerer(model, emergency).ask("pain?", ["a", "b", "c"], "long"))
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert lines[0] == "!! Call 112."
    assert "not trained to choose" in lines[1]
    assert lines[2] == "The context is too long for the model: its end was not read."
    assert lines[3:6] == ["*  50.0%  b", "   30.0%  c", "   20.0%  a"]
    assert "not medical advice" in lines[6]


@pytest.mark.long
def test_the_command(exported, language_model):
    asked = ("--question=what helps?", "--choice=x", "--choice=é and z")
    for folder, trained in ((exported, True), (language_model, False)):
        done = run("docproduct.choices", f"--model_dir={folder}", *asked, check=True)
        answer = json.loads(done.stdout)
        assert [choice["choice"] for choice in answer["choices"]] == ["x", "é and z"]
        assert answer["trained"] == trained
        assert answer["chosen"][0] in done.stderr
        assert "not medical advice" in done.stderr
    for arguments, message in (
        (["--split=dev"], "Expected either --question with --choice, or --prepared_dir"),
        ([*asked, "--several"], "several needs a model that was trained"),
        (["--question=a"], "The choices are missing"),
    ):
        done = run("docproduct.choices", f"--model_dir={language_model}", *arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert f"error: {message}" in done.stderr
