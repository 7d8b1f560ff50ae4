"""The command that generates questions: a run that is killed twice, and what it says to users."""

import collections
import json
import os
import signal
import subprocess
import sys

import pytest

from data_pipeline.generate_questions.passages import passage_id
from data_pipeline.rows import Passage
from tests import stub_endpoint
from tests.serving import wait_until
from tests.test_scripts import TOP

COUNT = 2_000
BUDGET = 1_000_000
CONCURRENCY = 8
# Of 40 passages, these misbehave when they are asked for the first time; junk and half an answer are not asked again.
MISBEHAVIOR = dict(enumerate(("429", "500", "junk", "half", "html", "broken")))


def environment():
    names = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL")
    return {name: value for name, value in os.environ.items() if name not in names} | {"NO_PROXY": "127.0.0.1"}


def command(*arguments):
    return [sys.executable, "-m", "data_pipeline.generate_questions", *arguments]


def result(*arguments):
    done = subprocess.run(command(*arguments), cwd=TOP, env=environment(), capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def kill_when(condition, *arguments):
    """Starts the command, and kills it when the condition holds."""
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command(*arguments), cwd=TOP, env=environment(), **streams) as process:
        wait_until(lambda: condition() or process.poll() is not None, seconds=120)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)


def write_passages(path, count):
    rows = (json.dumps({"text": stub_endpoint.passage(number)}) for number in range(count))
    path.write_text("\n".join(rows), encoding="utf-8")


def mode_of(number, before):
    if before:
        return "good"
    return "slow" if number == 777 else MISBEHAVIOR.get(number % 40, "good")


@pytest.mark.long
def test_a_run_that_is_killed_twice_loses_nothing(tmp_path):
    write_passages(tmp_path / "book.jsonl", COUNT)
    with stub_endpoint.running(mode_of) as stub:
        arguments = (
            f"--input={tmp_path}/book.jsonl",
            f"--output_dir={tmp_path}/q",
            f"--base_url={stub.url}",
            "--model=stub",
            f"--concurrency={CONCURRENCY}",
            "--backoff_seconds=0.01",
            "--timeout_seconds=2",
            "--answer_tokens=200",
            f"--max_tokens_total={BUDGET}",
        )
        for until in (600, 1_300):
            kill_when(lambda until=until: len(stub.requests) >= until, *arguments)
        at_last_kill = len(stub.requests)
        status, stdout, stderr = result(*arguments)
        assert status == 0, stderr
        asked_last = len(stub.requests) - at_last_kill
        # Finished: nothing is left to ask, and the files are the same.
        content = (tmp_path / "q/questions.jsonl").read_bytes()
        assert result(*arguments)[0] == 0
        assert len(stub.requests) - at_last_kill == asked_last
        assert (tmp_path / "q/questions.jsonl").read_bytes() == content

    # No passage is lost, none is there twice. Two questions each; junk gives none, half an answer one.
    expected = {
        passage_id(Passage(stub_endpoint.passage(number))): {"junk": 0, "half": 1}.get(mode_of(number, 0), 2)
        for number in range(COUNT)
    }
    rows = [json.loads(line) for line in content.splitlines()]
    assert len({row["question"] for row in rows}) == len(rows)
    assert collections.Counter(row["passage_id"] for row in rows) == collections.Counter(expected)
    report = json.loads(stdout)
    assert report["answers"] == {"passages": COUNT, "not_asked": 0, "refused": 0, "read": 1_950, "faulty": 50}
    # Only calls in flight at a kill, and slow ones, are made a second time.
    is_answered = {number: mode_of(number, 0) in ("good", "junk", "half") for number in range(COUNT)}
    surplus = sum(len(modes) - (1 if is_answered[number] else 2) for number, modes in stub.modes.items())
    assert surplus <= 2 * CONCURRENCY + report["calls"]["without_answer"].get("no answer in time", 0)
    # The budget holds for what the endpoint gave, whatever became of it, and the report counts at least as much.
    given = sum(mode in ("good", "junk", "half", "slow", "broken") for modes in stub.modes.values() for mode in modes)
    counted = report["input_tokens"] + report["output_tokens"]
    assert given * stub_endpoint.USAGE["total_tokens"] <= counted <= BUDGET
    calls = [json.loads(line) for line in (tmp_path / "q/journal.jsonl").read_text().splitlines()]
    ended = {entry["call"] for entry in calls if entry["event"] != "call"}
    lost = [entry for entry in calls if entry["event"] == "call" and entry["call"] not in ended]
    assert report["calls"]["without_answer"].get("the run was killed during the call", 0) == len(lost)
    assert len(lost) <= 2 * CONCURRENCY
    assert counted == sum(
        entry["input_tokens"] + entry["output_tokens"] for entry in calls if entry["event"] != "call" or entry in lost
    )


@pytest.mark.slow
def test_the_command_stops_at_its_budget_and_goes_on(tmp_path):
    write_passages(tmp_path / "book.jsonl", 12)
    with stub_endpoint.running() as stub:
        arguments = (
            f"--input={tmp_path}/book.jsonl",
            f"--output_dir={tmp_path}/q",
            f"--base_url={stub.url}",
            "--model=m",
        )
        status, stdout, stderr = result(*arguments, "--max_tokens_total=4000")
        assert status == 0
        report = json.loads(stdout)
        assert report["stopped"].startswith("The budget is used up.")
        assert report["answers"]["not_asked"] > 0
        assert "The budget is used up." in stderr
        assert "| passages | 12 |" in stderr
        assert "HTTP Request" not in stderr
        assert json.loads(result(*arguments)[1])["answers"]["read"] == 12
        assert len(stub.requests) == 12
        status, stdout, stderr = result(*arguments, "--kind=open")
        assert (status, stdout) == (1, "")
        assert "kind was 'single', now 'open'" in stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "There is no text. Expected --input"),
        (("--input={0}/none.txt",), "No file at"),
        (("--input={0}/book.jsonl",), "There is no model. Give --model"),
        (("--input={0}/book.jsonl", "--model=m"), "There is no key. Set OPENAI_API_KEY"),
    ],
)
def test_what_is_missing_is_said_in_one_line(tmp_path, arguments, message):
    write_passages(tmp_path / "book.jsonl", 1)
    status, stdout, stderr = result(f"--output_dir={tmp_path}/q", *(part.format(tmp_path) for part in arguments))
    assert (status, stdout) == (1, "")
    (line,) = stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
