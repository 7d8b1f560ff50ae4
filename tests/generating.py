"""Runs that generate questions with the stub of an endpoint, for tests."""

import json

from data_pipeline.generate_questions import Model, generate
from data_pipeline.generate_questions.asking import AskingSettings
from data_pipeline.generate_questions.budget import BudgetSettings
from data_pipeline.generate_questions.endpoint import Endpoint, EndpointSettings
from data_pipeline.generate_questions.passages import passage_id
from data_pipeline.prompts.question_prompts import QuestionSettings
from data_pipeline.rows import Passage
from tests import stub_endpoint

ASKING = AskingSettings(concurrency=3, max_retries=2, backoff_seconds=0.001)
SINGLE = QuestionSettings("single", num_questions=2)
PER_CALL = 180  # tokens that the stub names for every answer


def passages(count):
    rows = [Passage(stub_endpoint.passage(number), source="book.txt") for number in range(count)]
    return {passage_id(row): row for row in rows}


def run(stub, folder, count=6, questions=SINGLE, asking=ASKING, budget=BudgetSettings(), again=False, **endpoint):
    settings = EndpointSettings(base_url=stub.url, model="stub", **{"timeout_seconds": 20.0} | endpoint)
    model = Model({"model": "stub"}, lambda: Endpoint(settings, questions, "secret"))
    return generate(passages(count), str(folder), model, questions, (), budget, asking, again)


def lines(folder, name):
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
