"""serve.py as a process: a question, a terminal, a service and its signals."""

import contextlib
import dataclasses
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

from data_pipeline.settings import descriptions
from docproduct.answering import Answer, terminal
from docproduct.generation.sampling import GenerationSettings
from docproduct.index import Hit
from tests import commands
from tests.commands import TOP
from tests.serving import events
from tests.test_startup import run as run_alone

pytestmark = pytest.mark.slow


def arguments(folders):
    names = ("model_dir", "index_dir", "generator_dir", "threshold")
    return [f"--{name}={getattr(folders, name)}" for name in names]


@contextlib.contextmanager
def service(*given):
    """Starts the service; gives its process and a client."""
    command = [sys.executable, str(TOP / "serve.py"), "--port=0", *given]
    with subprocess.Popen(command, cwd=TOP, stderr=subprocess.PIPE, text=True) as process:
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if found := re.search(r"Ready: (http://\S+:\d+)/", line):
                    break
            else:
                pytest.fail("".join(said))
            reading = threading.Thread(target=lambda: said.extend(process.stderr))
            reading.start()
            process.said = said
            with httpx.Client(base_url=found[1], timeout=60) as client:
                end = time.monotonic() + 20
                while True:
                    with contextlib.suppress(httpx.TransportError):
                        if client.get("/readyz").status_code == 200:
                            break
                    assert time.monotonic() < end
                    time.sleep(0.05)
                yield process, client
        finally:
            process.terminate()
            process.wait(30)
            reading.join()


def test_a_service_and_its_signals(folders, tmp_path):
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    sizes = ("--max_question_chars=50", "--max_texts=2", "--max_text_chars=30000")
    given = (f"--token_file={token}", "--cors_origins=https://a.example,http://localhost:3000", *sizes)
    with service(*arguments(folders), *given) as (process, client):
        assert client.post("/v1/retrieve", json={"question": "a"}).status_code == 401
        client.headers["Authorization"] = "Bearer s3cret"
        info = client.get("/v1/info", headers={"Origin": "http://localhost:3000"})
        assert info.headers["access-control-allow-origin"] == "http://localhost:3000"
        sizes = [info.json()[f"max_{name}"] for name in ("question_chars", "texts", "text_chars", "body_bytes")]
        assert sizes == [50, 2, 30_000, 361_472]  # 12 bytes a character and a kibibyte, in whole kibibytes: 353
        # A second one on the same port ends at once, and says why.
        port = f"--port={client.base_url.port}"
        done = commands.run("serve.py", *arguments(folders), port)
        assert done.returncode == 1
        assert f"error: Cannot listen on 127.0.0.1:{client.base_url.port}" in done.stderr

        process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 60
        while 'docproduct_reloads_total{result="done"} 1.0' not in client.get("/metrics").text:
            assert time.monotonic() < end
            assert client.post("/v1/retrieve", json={"question": "what is a3?"}).status_code == 200

        # An answer that is being written when the service is to end is written to its end.
        with client.stream("POST", "/v1/answer", json={"question": "what is a3?", "stream": True}) as response:
            chunks = response.iter_text()
            text = next(chunks)
            process.send_signal(signal.SIGTERM)
            text += "".join(chunks)
        assert events(text)[-1][0] == "done"
        assert process.wait(30) in (0, -signal.SIGTERM)  # uvicorn ends as the signal says, after its work
    assert "Traceback" not in "".join(process.said)
    assert "a3" not in "".join(process.said)


@pytest.mark.long
def test_ctrl_c_ends_without_a_traceback(folders):
    with service(*arguments(folders)) as (process, client):
        assert client.post("/v1/retrieve", json={"question": "what is a3?"}).status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert "Traceback" not in "".join(process.said)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--question=a"], "--question answers one question, --port starts a service"),
        (["--k=3"], "--k belongs to a single question"),
        (["--rate_limit=often"], "rate is 'often'"),
        (["--model_dir=/nowhere"], "/nowhere"),
        (["--cors_origins=https://a.example/"], "error: cors_origins has 'https://a.example/'; expected scheme"),
        (["--max_text_chars=9300", "--max_body_kib=9"], "error: text_chars is 9300, and a body may have 9216 bytes"),
    ],
)
def test_wrong_flags(folders, given, said):
    done = commands.run("serve.py", *arguments(folders), "--port=0", *given)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def wait_for(terminal, text):
    """Reads what a terminal shows until a text stands there."""
    shown, end = b"", time.monotonic() + 60
    while text not in shown:
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 1)[0]:
            shown += os.read(terminal, 4_096)


def test_every_sampling_setting_has_a_flag():
    done = run_alone(str(TOP / "serve.py"), "--help")
    assert done.stderr == b""  # the start is silent, as in test_startup.py
    shown = done.stdout.decode()
    names = {field.name for field in dataclasses.fields(GenerationSettings)} - {"biased"}
    assert names == set(descriptions(GenerationSettings))
    assert {name for name in names if f"--{name}:" in shown} == names - {"num_samples"}


@pytest.mark.parametrize(
    ("num_contexts", "shortened", "words"),
    [
        (1, False, "from the sources marked with *:"),
        (0, False, "without sources:"),
        (0, True, "without sources; the question is too long for it, and lost its end:"),
    ],
)
def test_what_an_answer_was_written_from(capsys, num_contexts, shortened, words):
    hit = Hit(0.5, 1, "what is it?", "a cold", "s", "")
    found = Answer("q", "a cold", (hit,), True, "written", num_contexts, {}, shortened=shortened)
    for finished, end in ((True, "written\n"), (False, "written ... (cut at the limit of tokens)\n")):
        terminal.show([dataclasses.replace(found, finished=finished)])
        assert f"Written by the generator, {words}\n\n{end}" in capsys.readouterr().err


def test_a_terminal(folders, tmp_path):
    """In a real one: lines are edited, questions come back with the arrow key, answers grow."""
    parent, child = pty.openpty()
    command = [sys.executable, str(TOP / "serve.py"), *arguments(folders)]
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path), "TERM": "xterm"}
    with subprocess.Popen(
        command, cwd=TOP, stdin=child, stdout=child, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        os.close(child)
        said = []
        reading = threading.Thread(target=lambda: said.append(process.stderr.read()))
        reading.start()
        try:
            for line in ("what is a3?\n", "/sources\n", "\x1b[A\x1b[A\n", "\x04"):
                wait_for(parent, b"Question: ")
                os.write(parent, line.encode())
            assert process.wait(30) == 0
        finally:
            process.kill()
            reading.join()
            os.close(parent)
    said = said[0]
    assert said.count("Written by the generator") == 2
    assert said.count("not medical advice") == 3
    assert (tmp_path / "docproduct" / "history").read_text().split("\n")[0] == "what is a3?"
    assert oct((tmp_path / "docproduct" / "history").stat().st_mode)[-3:] == "600"
