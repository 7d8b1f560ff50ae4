"""Questions from an endpoint that misbehaves: retries, budget, journal, files."""

import asyncio
import collections
import dataclasses
import json
import sys

import pytest

from data_pipeline.corpora import Columns, Refusals, read_pairs
from data_pipeline.corpora.choices import read_choices
from data_pipeline.generate_questions import Model, generate, journal
from data_pipeline.generate_questions.asking import Asker, AskingSettings
from data_pipeline.generate_questions.budget import Budget, BudgetSettings, Usage
from data_pipeline.generate_questions.endpoint import Endpoint, EndpointSettings, retry_after
from data_pipeline.generate_questions.journal import JOURNAL_FILE
from data_pipeline.generate_questions.passages import passage_id
from data_pipeline.prompts.question_prompts import QuestionSettings
from data_pipeline.rows import Passage
from data_pipeline.token_rows.packing import read_documents
from tests import stub_endpoint

ASKING = AskingSettings(concurrency=3, max_retries=2, backoff_seconds=0.001)
SINGLE = QuestionSettings("single", num_questions=2)
PER_CALL = 180  # tokens that the stub names for every answer


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def passages(count):
    rows = [Passage(stub_endpoint.passage(number), source="book.txt") for number in range(count)]
    return {passage_id(row): row for row in rows}


def run(stub, folder, count=6, questions=SINGLE, asking=ASKING, budget=BudgetSettings(), again=False, **endpoint):
    settings = EndpointSettings(base_url=stub.url, model="stub", **{"timeout_seconds": 20.0} | endpoint)
    model = Model({"model": "stub"}, lambda: Endpoint(settings, questions.kind, "secret"))
    return generate(passages(count), str(folder), model, questions, (), budget, asking, again)


def lines(folder, name):
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


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
        question = {"question": f"What has {number}?", "right": [f"a{number}", "b"], "wrong": ["c"]}
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
    assert [(row.several, len(row.correct)) for row in rows] == [(1, 2), (1, 2)]
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
        run(stub, tmp_path / "c", 1, response_format="json_schema")
    first, second, third = stub.requests
    assert (first["path"], first["key"], first["model"]) == ("/v1/chat/completions", "Bearer secret", "stub")
    assert (first["temperature"], first["seed"], first["max_completion_tokens"]) == (0.5, 3, 99)
    assert "max_tokens" not in first
    assert "response_format" not in first
    assert "temperature" not in second
    assert (second["max_tokens"], second["response_format"]) == (1_500, {"type": "json_object"})
    assert third["response_format"]["json_schema"]["schema"]["required"] == ["questions"]
    assert "secret" not in "".join(path.read_text() for path in (tmp_path / "a").iterdir())


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


@pytest.mark.parametrize(
    "budget",
    [
        BudgetSettings(max_tokens_total=6_000),
        # 120 tokens for 2, 60 for 5, each by the million: 540 millionths a call.
        BudgetSettings(max_cost=0.0180, input_price=2.0, output_price=5.0),
    ],
)
def test_the_budget_is_never_exceeded_and_the_run_can_go_on(tmp_path, budget):
    with stub_endpoint.running() as stub:
        report, stop = run(stub, tmp_path / "q", 40, budget=budget, answer_tokens=1_000)
        assert not stop.is_error
        assert "The budget is used up. To go on, run the same command with a larger" in stop.message
        num_calls = len(stub.requests)
        assert report["input_tokens"] + report["output_tokens"] == num_calls * PER_CALL
        assert report["cost"] == pytest.approx(num_calls * 540e-6 if budget.max_cost else 0.0)
        # What one call may take at most: a token for each byte, about 1,100, and 1,000 of the answer.
        if budget.max_cost:
            assert budget.max_cost - 0.0073 < report["cost"] <= budget.max_cost
        else:
            assert 6_000 - 2_300 < num_calls * PER_CALL <= 6_000
        report, stop = run(stub, tmp_path / "q", 40, budget=budget, answer_tokens=1_000)
        assert len(stub.requests) == num_calls  # nothing is left
        run(stub, tmp_path / "q", 40)
    assert all(len(modes) == 1 for modes in stub.modes.values())
    assert len(stub.modes) == 40


def test_calls_in_flight_are_part_of_the_budget():
    most = Usage(60, 40)

    async def reserved():
        budget = Budget(BudgetSettings(max_tokens_total=250), Usage(10, 20))
        first = [await budget.reserve(most) for _ in range(2)]  # 30 + 100 + 100
        third = asyncio.create_task(budget.reserve(most))
        await asyncio.sleep(0)
        waits = not third.done()
        await budget.settle(most, Usage(5, 5))  # 40 spent, 100 in flight: there is room
        first.append(await third)
        await budget.settle(most, most)
        await budget.settle(most, Usage(0, 30))  # 170 spent, none in flight: there is none
        return first, waits, await budget.reserve(most), budget.spent

    assert asyncio.run(reserved()) == ([True, True, True], True, False, Usage(75, 95))


def test_a_call_that_was_in_flight_when_the_run_was_killed_counts_in_full(tmp_path):
    with stub_endpoint.running() as stub:
        run(stub, tmp_path / "q", 3)
        path = tmp_path / "q" / JOURNAL_FILE
        whole = path.read_bytes()
        first, *_ = whole.splitlines(keepends=True)
        open_call = json.loads(first) | {"call": 4, "passage_id": list(passages(4))[3]}
        path.write_bytes(whole + json.dumps(open_call).encode() + b'\n{"event": "answer", "call": 4, "passa')
        report, _ = run(stub, tmp_path / "q", 4)
        assert path.read_bytes().startswith(whole + json.dumps(open_call).encode() + b"\n")
    most = open_call["input_tokens"] + open_call["output_tokens"]
    assert report["assumed_tokens"] == most
    assert report["input_tokens"] + report["output_tokens"] == 4 * PER_CALL + most
    assert report["calls"] == {"all": 5, "without_answer": {journal.LOST: 1}}
    assert report["answers"]["read"] == 4


def test_an_answer_that_names_no_tokens_counts_in_full(tmp_path, monkeypatch):
    monkeypatch.setattr(stub_endpoint, "USAGE", None)
    with stub_endpoint.running() as stub:
        report, _ = run(stub, tmp_path / "q", 2, answer_tokens=700)
    assert report["output_tokens"] == 2 * 700
    assert report["assumed_tokens"] == report["input_tokens"] + report["output_tokens"]


@pytest.mark.parametrize("damage", [b"no JSON\n", b'{"event": "answer", "call": 99}\n', b"[]\n", b"\xff\n"])
def test_a_damaged_journal_is_named(tmp_path, damage):
    with stub_endpoint.running() as stub:
        run(stub, tmp_path / "q", 1)
        path = tmp_path / "q" / JOURNAL_FILE
        path.write_bytes(path.read_bytes() + damage)
        with pytest.raises(ValueError, match=f"{JOURNAL_FILE} line 3 is damaged"):
            run(stub, tmp_path / "q", 1)


def test_one_process_at_a_time(tmp_path):
    with stub_endpoint.running() as stub:
        run(stub, tmp_path / "q", 1)
        with journal.opened(str(tmp_path / "q")), pytest.raises(BlockingIOError, match="Another process is writing"):
            run(stub, tmp_path / "q", 1)


def test_a_folder_belongs_to_its_settings(tmp_path):
    with stub_endpoint.running() as stub:
        run(stub, tmp_path / "q", 1)
        with pytest.raises(ValueError, match="num_questions was 2, now 3"):
            run(stub, tmp_path / "q", 1, dataclasses.replace(SINGLE, num_questions=3))
        (tmp_path / "other").mkdir()
        (tmp_path / "other/mine.txt").write_text("of the user")
        with pytest.raises(FileExistsError, match="holds something else"):
            run(stub, tmp_path / "other", 1)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["mine.txt"]


def test_half_characters_do_not_stop_the_run(tmp_path):
    with stub_endpoint.running(
        answer=lambda number: '{"questions": [{"question": "\\ud83d", "right": 1}]} \ud83d'
    ) as stub:
        report, _ = run(stub, tmp_path / "q", 1)
        assert (report["answers"]["faulty"], stop_again := run(stub, tmp_path / "q", 1)[0]) == (1, report)
    assert stop_again["calls"]["all"] == 1


def test_what_is_missing_is_said(monkeypatch):
    with pytest.raises(ValueError, match="Give --model, or set OPENAI_MODEL"):
        EndpointSettings().completed()
    monkeypatch.setenv("OPENAI_MODEL", "m")
    settings = EndpointSettings().completed()
    assert settings.model == "m"
    with pytest.raises(ValueError, match="There is no key"):
        Endpoint(settings, "single")
    with pytest.raises(ValueError, match="max_cost is given without prices"):
        BudgetSettings(max_cost=1.0)
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ValueError, match="The package openai is not installed. Run: pip install"):
        Endpoint(settings, "single")
