"""Questions from an endpoint that misbehaves: retries, budget, journal, files."""

import asyncio
import collections
import dataclasses
import json
import sys

import pytest

from data_pipeline.corpora import Columns, Refusals, read_pairs
from data_pipeline.corpora.choices import read_choices
from data_pipeline.generate_questions.asking import Asker, AskingSettings
from data_pipeline.generate_questions.budget import BudgetSettings
from data_pipeline.generate_questions.endpoint import Endpoint, EndpointSettings, retry_after
from data_pipeline.prompts.question_prompts import QuestionSettings, json_schema
from data_pipeline.token_rows.packing import read_documents
from tests import stub_endpoint
from tests.generating import ASKING, PER_CALL, SINGLE, lines, passages, run

pytestmark = pytest.mark.usefixtures("no_settings_from_outside")


def test_questions_are_read_by_the_readers_of_choices(tmp_path):
    with stub_endpoint.running() as stub:
        report, stop = run(stub, tmp_path / "q")
    assert stop is None
    assert report["answers"] == {"passages": 6, "not_asked": 0, "refused": 0, "read": 6, "faulty": 0}
    assert report["questions"] == {"read": 12, "dropped": 0, "kept": 12}
    assert (report["calls"]["all"], report["input_tokens"], report["output_tokens"]) == (6, 6 * 120, 6 * 60)
    assert json.loads((tmp_path / "q/report.json").read_text()) == report
    assert "| questions kept | 12 |" in (tmp_path / "q/report.md").read_text()
    refusals = Refusals()
    rows = [row for _, row in read_choices(str(tmp_path / "q/questions.jsonl"), Columns(), refusals)]
    assert not refusals.counts
    for number, row in enumerate(rows[::2]):
        assert row.question == f"Against what is Remedy{number} given?"
        assert [row.choices[place] for place in row.correct] == [f"ailment{number}"]
        assert (len(row.choices), row.several, row.source) == (4, 0, "book.txt")
    assert [line["passage_id"] for line in lines(tmp_path / "q", "questions.jsonl")[::2]] == list(passages(6))
    documents = list(read_documents(str(tmp_path / "q/texts.txt")))
    assert documents[0] == "Question: Against what is Remedy0 given?\nAnswer: ailment0"
    assert len(documents) == 12


def test_other_kinds_are_read_by_their_readers(tmp_path):
    def several(number):
        question = {"question": f"What has {number}?", "right": ["a", "b"][: 2 - number], "wrong": ["c"]}
        return json.dumps({"questions": [question], "case": f"Case {number}."})

    def pair(number):
        return json.dumps({"questions": [{"question": f"What is {number}?", "answer": f"It is {number}."}]})

    with stub_endpoint.running(answer=several) as stub:
        run(stub, tmp_path / "several", 2, QuestionSettings("several"))
        run(stub, tmp_path / "series", 2, QuestionSettings("series"))
        stub.answer = pair
        run(stub, tmp_path / "open", 2, QuestionSettings("open"))
    path = str(tmp_path / "several/questions.jsonl")
    rows = [row for _, row in read_choices(path, Columns(), Refusals())]
    assert [(row.several, len(row.correct)) for row in rows] == [
        (1, 2),
        (1, 1),
    ]  # one right choice, where several may be right
    rows = [row for _, row in read_choices(str(tmp_path / "series/questions.jsonl"), Columns(), Refusals())]
    assert [(row.context, row.question, row.source) for row in rows] == [
        ("Case 0.", "What has 0?", "book.txt"),
        ("Case 1.", "What has 1?", "book.txt"),
    ]
    assert next(read_documents(str(tmp_path / "series/texts.txt"))).startswith("Case 0.\nQuestion: What has 0?")
    rows = [row for _, row in read_pairs(str(tmp_path / "open/questions.jsonl"), Columns(), Refusals())]
    assert [(row.question, row.answer) for row in rows] == [
        ("What is 0?", "It is 0."),
        ("What is 1?", "It is 1."),
    ]


def test_what_a_call_says(tmp_path):
    with stub_endpoint.running() as stub:
        run(stub, tmp_path / "a", 1, temperature=0.5, seed=3, answer_tokens=99, tokens_field="max_completion_tokens")
        run(stub, tmp_path / "b", 1, response_format="json_object")
        run(stub, tmp_path / "c", 1, several := QuestionSettings("several", 2, 5), response_format="json_schema")
    first, second, third = stub.requests
    assert (first["path"], first["key"], first["model"]) == ("/v1/chat/completions", "Bearer secret", "stub")
    assert (first["temperature"], first["seed"], first["max_completion_tokens"]) == (0.5, 3, 99)
    assert "max_tokens" not in first
    assert "response_format" not in first
    assert "temperature" not in second
    assert (second["max_tokens"], second["response_format"]) == (1_500, {"type": "json_object"})
    assert third["response_format"]["json_schema"]["schema"] == json_schema(several)
    assert "secret" not in "".join(path.read_text() for path in (tmp_path / "a").iterdir())


def test_answers_before_an_unexpected_error_are_written(tmp_path, monkeypatch):
    write, replies = Endpoint.write, []

    async def write_twice(endpoint, messages):
        if len(replies) == 2:
            raise RuntimeError("a fault of the writer")
        replies.append(await write(endpoint, messages))
        return replies[-1]

    monkeypatch.setattr(Endpoint, "write", write_twice)
    with stub_endpoint.running() as stub:
        with pytest.raises(RuntimeError, match="a fault of the writer"):
            run(stub, tmp_path / "q", 4, asking=dataclasses.replace(ASKING, concurrency=1))
        assert len(lines(tmp_path / "q", "questions.jsonl")) == 2 * 2
        report = json.loads((tmp_path / "q/report.json").read_text())
        assert report["stopped"].startswith("An error ended the run: RuntimeError('a fault of the writer').")
        monkeypatch.undo()
        assert run(stub, tmp_path / "q", 4)[0]["questions"]["kept"] == 4 * 2
        assert len(stub.requests) == 4


MISBEHAVIOR = ("429", "500", "503", "html", "broken", "junk", "half", "good")


def test_an_endpoint_that_misbehaves_once(tmp_path):
    with stub_endpoint.running(lambda number, before: "good" if before else MISBEHAVIOR[number % 8]) as stub:
        report, stop = run(stub, tmp_path / "q", 24)
    assert stop is None
    # Junk and half an answer are answers; the others are asked again. Half an answer holds one whole question of two.
    assert {len(modes) for number, modes in stub.modes.items() if number % 8 < 5} == {2}
    assert {len(modes) for number, modes in stub.modes.items() if number % 8 >= 5} == {1}
    assert report["calls"]["without_answer"] == {
        "HTTP 429": 3,
        "HTTP 500": 3,
        "HTTP 503": 3,
        "the response is not that of a chat": 3,
        "the connection broke": 3,
    }
    assert report["answers"] == {"passages": 24, "not_asked": 0, "refused": 0, "read": 21, "faulty": 3}
    assert report["questions"]["kept"] == 18 * 2 + 3
    assert sorted(report["faulty"].values()) == [3, 3]
    faulty = lines(tmp_path / "q", "faulty.jsonl")
    assert collections.Counter(line["reason"] for line in faulty) == report["faulty"]
    junk = next(line for line in faulty if line["passage_id"] == list(passages(24))[5])
    assert junk["answer"].startswith("Sure! Here are")
    # Status codes cost nothing; of the six calls without a readable response nobody knows.
    assert report["input_tokens"] + report["output_tokens"] == 24 * PER_CALL + report["assumed_tokens"]
    assert report["assumed_tokens"] > 6 * 1_500
    assert stub.most_in_flight <= 3


def test_a_slow_answer_is_asked_for_again(tmp_path):
    modes = collections.defaultdict(lambda: "good", {0: "slow"})
    with stub_endpoint.running(lambda number, before: "good" if before else modes[number]) as stub:
        report, _ = run(stub, tmp_path / "q", 1, timeout_seconds=0.3)
    assert report["calls"]["without_answer"]["no answer in time"] >= 1
    assert report["questions"]["kept"] == 2


def test_waits_grow_and_obey_the_endpoint(monkeypatch):
    waits = []

    async def wait_for(awaitable, seconds):
        awaitable.close()
        waits.append(seconds)
        raise TimeoutError

    monkeypatch.setattr(asyncio, "wait_for", wait_for)

    async def all_waits():
        asker = Asker(None, None, BudgetSettings(), AskingSettings(backoff_seconds=2.0, max_wait_seconds=30.0), SINGLE)
        asker._stopped = asyncio.Event()
        for attempt, asked in ((0, None), (1, None), (3, None), (6, None), (0, 7.5), (0, 99.0), (3, 0.1)):
            await asker._wait(attempt, asked)

    asyncio.run(all_waits())
    # 2 s doubled with each attempt, less up to a half; Retry-After if that is longer; never more than 30 s.
    bounds = [(1, 2), (2, 4), (8, 16), (30, 30), (7.5, 7.5), (30, 30), (8, 16)]
    assert all(least <= seconds <= most for seconds, (least, most) in zip(waits, bounds, strict=True))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:02:00 GMT"}, 20.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-3"}, 0.0),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after(headers, now=100.0) == seconds


@pytest.mark.parametrize(
    ("status", "remedy"), [("401", "OPENAI_API_KEY"), ("403", "may not use this model"), ("404", "--base_url")]
)
def test_a_wrong_key_or_address_ends_the_run(tmp_path, status, remedy):
    with stub_endpoint.running(lambda number, before: status) as stub:
        report, stop = run(stub, tmp_path / "q", 50)
        assert stop.is_error
        assert f"status {status}" in stop.message
        assert remedy in stop.message
        assert len(stub.requests) <= 3  # those in flight
        stub.mode_of = lambda number, before: "good"
        report, stop = run(stub, tmp_path / "q", 50)
    assert stop is None
    assert report["answers"]["read"] == 50
    assert report["input_tokens"] == 50 * 120


def test_an_endpoint_that_is_down_costs_nothing_and_ends_the_run(tmp_path):
    with stub_endpoint.running() as stub:
        pass
    asking = dataclasses.replace(ASKING, max_failures=4, concurrency=1)
    report, stop = run(stub, tmp_path / "q", 50, asking=asking)
    assert stop.is_error
    assert "4 passages in a row got no answer, the last because of: the endpoint cannot be reached" in stop.message
    assert report["calls"] == {"all": 12, "without_answer": {"the endpoint cannot be reached": 12}}  # 2 retries each
    assert report["input_tokens"] == report["assumed_tokens"] == 0
    assert report["answers"]["not_asked"] == 50


def test_only_failures_in_a_row_end_the_run(tmp_path):
    asking = dataclasses.replace(ASKING, max_failures=2, max_retries=0, concurrency=1)
    with stub_endpoint.running(lambda number, before: "500" if number % 2 else "good") as stub:
        report, stop = run(stub, tmp_path / "q", asking=asking)
    assert stop is None
    assert (report["answers"]["not_asked"], report["answers"]["read"]) == (3, 3)


def test_an_endpoint_that_refuses_everything_ends_the_run(tmp_path):
    asking = dataclasses.replace(ASKING, max_failures=3, concurrency=1)
    with stub_endpoint.running(lambda number, before: "400") as stub:
        report, stop = run(stub, tmp_path / "q", asking=asking)
        assert stop.is_error
        assert "3 passages in a row" in stop.message
        assert (len(stub.requests), report["answers"]["refused"], report["answers"]["not_asked"]) == (3, 3, 3)


def test_a_passage_without_luck_is_asked_again_by_the_next_run(tmp_path):
    with stub_endpoint.running(lambda number, before: "500" if number == 3 and before < 3 else "good") as stub:
        report, stop = run(stub, tmp_path / "q")
        assert stop is None
        assert (report["answers"]["not_asked"], report["answers"]["read"]) == (1, 5)
        report, _ = run(stub, tmp_path / "q")
    assert report["answers"]["read"] == 6
    assert {number: len(modes) for number, modes in stub.modes.items()} == {0: 1, 1: 1, 2: 1, 3: 4, 4: 1, 5: 1}


def test_refused_and_faulty_passages_are_asked_again_on_demand(tmp_path):
    modes = {1: "400", 2: "junk"}
    with stub_endpoint.running(lambda number, before: "good" if before else modes.get(number, "good")) as stub:
        for _ in range(2):
            report, _ = run(stub, tmp_path / "q", 4)
            assert report["answers"] == {"passages": 4, "not_asked": 0, "refused": 1, "read": 2, "faulty": 1}
            assert len(stub.requests) == 4
        refused = next(line for line in lines(tmp_path / "q", "faulty.jsonl") if "refused" in line["reason"])
        assert refused["answer"].startswith("HTTP 400: ")
        assert "status 400" in refused["answer"]
        report, _ = run(stub, tmp_path / "q", 4, again=True)
    assert report["answers"]["read"] == 4
    assert len(stub.requests) == 6


def test_half_characters_do_not_stop_the_run(tmp_path):
    with stub_endpoint.running(
        answer=lambda number: '{"questions": [{"question": "\\ud83d", "right": 1}]} \ud83d'
    ) as stub:
        report, _ = run(stub, tmp_path / "q", 1)
        assert run(stub, tmp_path / "q", 1) == (report, None)
    assert (report["calls"]["all"], report["answers"]["faulty"]) == (1, 1)


def test_what_is_missing_is_said(monkeypatch):
    with pytest.raises(ValueError, match="Give --model, or set OPENAI_MODEL"):
        EndpointSettings().completed()
    monkeypatch.setenv("OPENAI_MODEL", "m")
    settings = EndpointSettings().completed()
    assert settings.model == "m"
    with pytest.raises(ValueError, match="There is no key"):
        Endpoint(settings, QuestionSettings("single"))
    with pytest.raises(ValueError, match="max_cost is given without prices"):
        BudgetSettings(max_cost=1.0)
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ValueError, match="The package openai is not installed. Run: pip install"):
        Endpoint(settings, QuestionSettings("single"))
