"""Fuzzes the service: requests that its OpenAPI page allows, requests that it forbids, and random bodies.

    python -m tests.fuzz_service --count=10000

Every request must get an answer, and none the status 500. Ends with one line of JSON: the number of answers by status.
"""

import collections
import json
import pathlib
import random
import string
import tempfile

import hypothesis
import schemathesis
from absl import app, flags

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.tokenizers import load_tokenizer
from docproduct.systems.retriever import Retriever, RetrieverConfig, TrainedRetriever
from docproduct.web.reloading import Reloadable
from docproduct.web.server import create_app
from tests import conftest, serving

ROUTES = ("/v1/answer", "/v1/retrieve", "/v1/embeddings", "/v1/triage", "/v1/choices")
ROUTES += ("/v1/chat/completions", "/v1/completions")
_FIELDS = ("question", "k", "search_by", "generate", "max_tokens", "temperature", "top_k", "top_p", "seed", "stream")
_FIELDS += ("messages", "prompt", "echo", "logprobs", "stop", "grounded", "n", "stream_options")
_FIELDS += (
    "repetition_penalty",
    "no_repeat_ngram_size",
    "input",
    "side",
    "encoding_format",
    "dimensions",
    "model",
    "text",
    "reply",
    "choices",
    "context",
    "several",
)
_ALLOWED = {200, 400, 404, 405, 408, 413, 422}


def send_described_requests(client, count, seed=0):
    """Sends valid and invalid requests made from the OpenAPI page; returns {status: count}."""
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    statuses = collections.Counter()
    for route in ROUTES:
        for mode in schemathesis.GenerationMode:
            cases = schema[route]["POST"].as_strategy(generation_mode=mode)

            @hypothesis.seed(seed)
            @hypothesis.settings(
                max_examples=max(1, count // (2 * len(ROUTES))),
                deadline=None,
                database=None,
                phases=[hypothesis.Phase.generate],
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            @hypothesis.given(case=cases)
            def send(case):
                response = case.call(base_url=str(client.base_url), timeout=30)
                statuses[response.status_code] += 1
                assert response.status_code in _ALLOWED, (response.status_code, case.as_curl_command())

            send()
    return statuses


def value(draw, depth=0):
    """Returns a random JSON value."""
    kinds = ["text", "number", "word"] if depth > 3 else ["text", "number", "word", "list", "object", "deep"]
    match draw.choice(kinds):
        case "text":
            return "".join(
                chr(draw.choice([draw.randrange(32, 127), draw.randrange(0x11_0000)]))
                for _ in range(draw.randrange(50))
            )
        case "number":
            return draw.choice([0, 1, -1, 3, 2**31, 2**63, 10**30, 0.5, -1e308, 1e-320, float("nan"), float("inf")])
        case "word":
            return draw.choice([None, True, False, "answer", "question", "base64", ""])
        case "list":
            return [value(draw, depth + 1) for _ in range(draw.randrange(4))]
        case "object":
            return {draw.choice(_FIELDS): value(draw, depth + 1) for _ in range(draw.randrange(5))}
    nested = []
    for _ in range(draw.randrange(200)):
        nested = [nested]
    return nested


def body(draw):
    """Returns the bytes of a random body."""
    kind = draw.randrange(4)
    if kind == 0:
        return draw.randbytes(draw.randrange(2_000))
    if kind == 1:
        return "".join(draw.choices(string.printable + '{}[]",:', k=draw.randrange(300))).encode()
    content = json.dumps(
        {draw.choice(_FIELDS): value(draw) for _ in range(draw.randrange(6))} | {"question": value(draw)}
    )
    if kind == 2:
        return content.encode("utf-8", "surrogatepass")
    place = draw.randrange(len(content) + 1)
    return (content[:place] + draw.choice(["", "{", "[" * 3_000, '"', "\x00"]) + content[place:]).encode(
        "utf-8", "replace"
    )


def send_random_bodies(client, count, seed=0):
    """Sends random bodies to all routes; returns {status: count}."""
    draw, statuses = random.Random(seed), collections.Counter()
    types = ["application/json"] * 5 + ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded", ""]
    for _ in range(count):
        method, route, content = draw.choice(["POST"] * 9 + ["PUT", "GET"]), draw.choice(ROUTES), body(draw)
        response = client.request(method, route, content=content, headers={"content-type": draw.choice(types)})
        statuses[response.status_code] += 1
        assert response.status_code in _ALLOWED, (response.status_code, route, content)
    return statuses


def main(argv):
    """Starts a service with tiny models and fuzzes it."""
    del argv
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "vocab.txt").write_text("\n".join(conftest.VOCAB) + "\n", encoding="utf-8")
        pairs = conftest.write_csv(
            folder / "pairs.csv", [(f"what is {c}{i}?", f"the {c} {i}.") for c in "abc" for i in range(9)]
        )
        prepare(PrepareSettings((pairs,), str(folder / "vocab.txt"), dev_share=0.2), str(folder / "prepared"))
        config = RetrieverConfig(conftest.TINY_BERT, max_tokens=20)
        retriever = TrainedRetriever(Retriever(config, seed=3), load_tokenizer(str(folder / "vocab.txt")))
        folders = serving.write_folders(retriever, PreparedFolder(str(folder / "prepared")), folder / "s")
        with serving.running(create_app(Reloadable(folders))) as client:
            half = flags.FLAGS.count // 2
            statuses = send_described_requests(client, half) + send_random_bodies(client, flags.FLAGS.count - half)
            assert client.get("/healthz").status_code == 200
    print(json.dumps({"statuses": dict(sorted(statuses.items()))}))


if __name__ == "__main__":
    flags.DEFINE_integer("count", 10_000, "Number of requests.")
    app.run(main)
