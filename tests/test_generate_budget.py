"""The budget and the journal of runs that generate questions."""

import asyncio
import dataclasses
import json

import pytest

from data_pipeline.generate_questions import journal
from data_pipeline.generate_questions.budget import Budget, BudgetSettings, Usage
from data_pipeline.generate_questions.journal import JOURNAL_FILE
from tests import stub_endpoint
from tests.generating import PER_CALL, SINGLE, passages, run

pytestmark = pytest.mark.usefixtures("no_settings_from_outside")


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
