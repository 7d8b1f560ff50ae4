"""How often a generator refuses, fitted on a table."""

import json
import shutil

import numpy as np
import pytest

from data_pipeline.prompts.chat_prompts import REFUSAL
from docproduct import export as export_script
from docproduct import fit_refusal, index
from docproduct.generation.sampling import GenerationSettings
from docproduct.index import Index
from docproduct.systems.generator import load_model, open_session, refusal
from docproduct.systems.generator.refusal import RefusalSettings
from tests import llama_folders

PROMPTS = [[5, 6, 7, 300, 9], [8, 9]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("chat") / "llama"
    llama_folders.write(path, llama_folders.CONFIG | {"num_hidden_layers": 1})
    return str(path)


@pytest.fixture
def model(folder):
    return load_model(folder)


def test_the_bias_refuses_the_share_that_is_asked_for():
    absent, present = np.arange(10.0), np.arange(-10.0, 0.0)
    fitted = refusal.fit(present, absent, RefusalSettings(refused_share=0.7, most_wrong=0.1))
    # Of 0 ... 9 all above 2.7 are refused.
    assert fitted == refusal.Refusal(pytest.approx(-2.7, abs=2e-3), 0.7, 0.0, 10)
    # To refuse 70 % would take 2.3 here, which refuses two of the others; up to 2, it is one in ten.
    fitted = refusal.fit(present, absent - 5, RefusalSettings(refused_share=0.7, most_wrong=0.1))
    assert fitted == refusal.Refusal(pytest.approx(2.0, abs=2e-3), 0.6, 0.1, 10)


@pytest.mark.parametrize("num_questions", [1, 3, 10, 19, 20, 50])
@pytest.mark.parametrize("most_wrong", [0.0, 0.05, 0.3])
def test_no_more_than_the_limit_are_refused_wrongly(num_questions, most_wrong):
    random = np.random.default_rng(num_questions)
    for _ in range(50):
        present, absent = random.normal(0, 1, [2, num_questions])
        fitted = refusal.fit(present, absent, RefusalSettings(refused_share=0.9, most_wrong=most_wrong))
        assert fitted.present_refused <= most_wrong


def test_margins_are_those_of_the_logits(model):
    found = refusal.margins(model, PROMPTS)
    for prompt, value in zip(PROMPTS, found, strict=True):
        logits = np.asarray(model.decoder.logits(model.decoder(np.array([prompt]))))[0, -1]
        (first, *_), *_ = model.tokenizer.encode([REFUSAL])
        assert value == pytest.approx(logits[first] - np.delete(logits, first).max(), abs=1e-5)


def test_a_folder_keeps_its_bias_and_exports_it(folder, model, tmp_path):
    folder = shutil.copytree(folder, str(tmp_path / "copy"))
    (value,) = refusal.margins(model, PROMPTS[:1])
    settings = GenerationSettings(max_tokens=1)
    first = model.refusal_id

    def refuses(session):
        ((answer,),) = session.write(PROMPTS[:1], settings)
        return answer.ids[:1] == (first,)

    refusal.save(refusal.Refusal(float(-0.01 - value), 0.7, 0.0, 10), folder)
    assert not refuses(open_session(folder))
    refusal.save(refusal.Refusal(float(0.01 - value), 0.7, 0.0, 10), folder)
    assert load_model(folder).refusal_bias == float(0.01 - value)
    assert refuses(open_session(folder))
    export_script.export(folder, str(tmp_path / "e"), False, None, "float32")
    assert refuses(open_session(str(tmp_path / "e")))
    for damaged in ('{"bias": "1"}', '{"bias": NaN}', "[]"):
        (tmp_path / refusal.FILE).write_text(damaged)
        with pytest.raises(ValueError, match="expected a finite number"):
            refusal.load(str(tmp_path))
    (tmp_path / refusal.FILE).write_text(json.dumps({"bias": 1}))
    with pytest.raises(ValueError, match="refusal.json lacks absent_refused, present_refused, num_questions"):
        refusal.load(str(tmp_path))


def test_it_is_fitted_on_questions_with_and_without_their_pair(model, retriever, prepared, tmp_path, monkeypatch):
    index.build(retriever, prepared, str(tmp_path / "index"))
    opened = Index(str(tmp_path / "index"), retriever)
    pairs = prepared.table(["pair_id", "question", "answer"], "dev").to_pylist()
    for question in fit_refusal.questions_with_sources(opened, retriever, pairs, 2):
        own = question.pair["question"], question.pair["answer"]
        assert own in question.present
        assert len(question.present) == len(question.absent) == 2
        assert own[1] not in {answer for _, answer in question.absent}
    with monkeypatch.context() as patch:
        patch.setattr(refusal, "LEAST_QUESTIONS", 61)  # of 60 that are drawn
        with pytest.raises(ValueError, match="has 60 questions in dev and train; expected 61 or more"):
            fit_refusal.fit(model, retriever, opened, prepared)
    columns = prepared.table(["question", "answer"]).to_pydict()
    answer_of = dict(zip(columns["question"], columns["answer"], strict=True))

    def margins(model, prompts):
        texts = [model.tokenizer.decode(ids) for ids in prompts]
        asked = [text.rsplit("Question: ", 1)[1].split("\n")[0] for text in texts]
        sure = [answer_of[question] in text for question, text in zip(asked, texts, strict=True)]
        return np.where(sure, -1.0, 1.0) + np.linspace(0.0, 0.1, len(sure))

    monkeypatch.setattr(refusal, "margins", margins)
    fitted = fit_refusal.fit(model, retriever, opened, prepared)
    assert (fitted.absent_refused, fitted.present_refused) == (pytest.approx(0.7, abs=0.02), 0.0)
    assert fitted.num_questions == 60
    assert fitted.prepared == prepared.fingerprint()
    model.tokenizer.chat_template = None
    with pytest.raises(ValueError, match="Only a chat model that was trained to refuse"):
        fit_refusal.fit(model, retriever, opened, prepared)
