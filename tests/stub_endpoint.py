"""An endpoint of a chat model for tests, which answers at once, and misbehaves as it is told."""

import collections
import contextlib
import http.server
import json
import re
import threading
import time

USAGE = {"prompt_tokens": 120, "completion_tokens": 60, "total_tokens": 180}
SLOW_SECONDS = 3.0
WRONG = ("a stone", "a cloud", "a song")


def passage(number):
    """Returns the text of a passage that the stub knows by its number."""
    return (
        f"Remedy{number} is a plant of the family Familia{number}. It grows in region{number}. Its leaves are given "
        f"against ailment{number} in a dose of {number} mg. Nobody takes it before sleep."
    )


def questions(number):
    """Returns what the stub answers about a passage: two questions with choices."""
    return {
        "questions": [
            {"question": f"Against what is Remedy{number} given?", "right": [f"ailment{number}"], "wrong": WRONG},
            {"question": f"Where does Remedy{number} grow?", "right": f"region{number}", "wrong": WRONG},
        ]
    }


class Stub(http.server.ThreadingHTTPServer):
    """The server.

    Attributes:
      mode_of: (number of the passage, calls about it before) -> what to do: "good", an HTTP status such as "429", or
        "junk", "half" (an answer that is cut off), "html", "slow", "broken".
      answer: number of the passage -> the content of a good answer.
      modes: {number of a passage: what was done}.
      requests: the bodies that came.
      in_flight: calls now, and most at once.
    """

    daemon_threads = True

    def __init__(self, mode_of=lambda number, before: "good", answer=lambda number: json.dumps(questions(number))):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mode_of, self.answer = mode_of, answer
        self.modes, self.requests = collections.defaultdict(list), []
        self.in_flight, self.most_in_flight, self.lock = 0, 0, threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        """Clients that are killed or wait no longer are no error."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        number = int(re.search(r"Remedy(\d+)", body["messages"][-1]["content"])[1])
        stub = self.server
        with stub.lock:
            stub.requests.append(body | {"path": self.path, "key": self.headers["authorization"]})
            mode = stub.mode_of(number, len(stub.modes[number]))
            stub.modes[number].append(mode)
            stub.in_flight += 1
            stub.most_in_flight = max(stub.most_in_flight, stub.in_flight)
        try:
            self._do(mode, stub.answer(number))
        finally:
            with stub.lock:
                stub.in_flight -= 1

    def _do(self, mode, content):
        finish = "stop"
        if mode == "slow":
            time.sleep(SLOW_SECONDS)
        elif mode == "junk":
            content = "Sure! Here are your questions: 1. What {is} it?"
        elif mode == "half":
            content, finish = content[: 2 * len(content) // 3], "length"
        elif mode == "html":
            return self._send(200, b"<html>Please log in.</html>", "text/html")
        elif mode.isdigit():
            error = {"error": {"message": f"status {mode}", "code": "some_code"}}
            return self._send(int(mode), json.dumps(error).encode(), retry_after="0.01")
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "finish_reason": finish, "message": message}
        completion = {"id": "1", "object": "chat.completion", "created": 1, "model": "stub", "choices": [choice]}
        response = json.dumps(completion | {"usage": USAGE}).encode()
        if mode == "broken":
            self.send_response(200)
            self.send_header("content-length", str(len(response)))
            self.end_headers()
            self.wfile.write(response[:40])
            self.close_connection = True
        else:
            self._send(200, response)

    def _send(self, status, body, kind="application/json", retry_after=None):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if retry_after:
            self.send_header("retry-after", retry_after)
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def running(*arguments, **options):
    """Serves a stub in a thread."""
    stub = Stub(*arguments, **options)
    thread = threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        stub.shutdown()
        thread.join()
        stub.server_close()
