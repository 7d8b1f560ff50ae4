"""A small service for tests: folders of tiny models, and a server in a thread."""

import concurrent.futures
import contextlib
import json
import threading
import time

import httpx
import uvicorn

from data_pipeline.prompts.answer_prompts import PromptSettings, with_markers
from data_pipeline.tokenizers import train_byte_pairs
from docproduct import index, sample
from docproduct.answering import Folders, Query
from docproduct.generation.export import export as export_generator
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems.generator import TrainedGenerator

QUESTION = {"question": "what is a3?"}
PROMPT = PromptSettings(2, 120, 40)
SIZES = GPT2Config(width=16, num_layers=1, num_heads=2, max_positions=120)


def write_folders(retriever, prepared, folder, threshold=-1.0, **settings):
    """Writes model, index, generator and a language model that chooses into a folder and returns their paths."""
    folder.mkdir(exist_ok=True)
    model = folder / "model"
    model.mkdir()
    retriever.save_config(str(model), {})
    retriever.save_weights(str(model))
    index.build(retriever, prepared, str(folder / "index"), index.IndexSettings(**settings))
    bpe = with_markers(train_byte_pairs(["what is the cause? the x z helps against y."], 280))
    sizes = GPT2Config(**{**SIZES.__dict__, "vocab_size": bpe.vocab_size})
    generator = TrainedGenerator.make(sizes, bpe, 3, "float32", PROMPT)
    export_generator(generator, str(folder / "generator"))
    generator.save(str(folder / "chooser"))
    names = (str(folder / name) for name in ("model", "index", "generator"))
    more = {"emergency_list": sample.EMERGENCY_LIST, "choices_dir": str(folder / "chooser")}
    return Folders(*names, threshold=threshold, **more)


@contextlib.contextmanager
def in_thread(app, **options):
    """Serves an app in a thread; yields the server, with its address as `url`."""
    config = uvicorn.Config(app, port=0, http="h11", log_level="critical", access_log=False, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        server.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
        yield server
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def running(app, **options):
    """Serves an app in a thread; yields a client for it."""
    with in_thread(app, **options) as server, httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def events(text):
    """Returns (name, data) of the server-sent events in a text."""
    parsed = []
    for block in text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        parsed.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return parsed


def message(response, status, kind):
    """Checks the status and type of an error response, and returns its message."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert error["type"] == kind
    return error["message"]


class Slow:
    """A source whose answerer waits for an event before it retrieves."""

    def __init__(self, answerer):
        self.answerer, self.go_on, self.asked = self, threading.Event(), 0
        self.index, self.generator, self.examples, self._answerer = answerer.index, None, [], answerer
        self.check = answerer.check

    def retrieve(self, queries):
        self.asked += len(queries)
        assert self.go_on.wait(20)
        return self._answerer.retrieve(queries)


def post_all(client, count):
    """Sends a question `count` times at once; returns the threads and their futures."""
    threads = concurrent.futures.ThreadPoolExecutor(count)
    return threads, [threads.submit(client.post, "/v1/retrieve", json=QUESTION) for _ in range(count)]


def wait_until(condition, seconds=20):
    """Waits until the condition holds, at most so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def answer_directly(answerer, question="what is a3?", k=5, search_by="answer"):
    """Returns what the answerer itself retrieves, as the service would return it, with no times."""
    (answer,) = answerer.retrieve([Query(question, k, search_by)])
    return answer.as_json() | {"seconds": {}}


def without_seconds(response):
    """Returns the JSON of a response with no times."""
    assert response.status_code == 200, response.text
    return response.json() | {"seconds": {}}
