"""Load test of the service with one client, with 32, and with ten times as many, beside a minimal peer.

    python -m benchmarks.serve_load --encoder_dir=ENCODER --work_dir=serve --peer_python=PYTHON

Retrieval (POST /v1/retrieve) over synthetic pairs with the lengths of MedQuAD. Their vectors are random, because exact
search takes the same time for any vectors, and encoding 100,000 answers would take an hour. Clients and service share
the machine. Clients keep their connections, and send the next request as soon as they have an answer. With
--reranker_dir, a second service reranks its hits. Ends with one line of JSON.
"""

import asyncio
import collections
import dataclasses
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
from absl import app, flags

from benchmarks import measuring, synthetic_corpus
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from docproduct import index
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.folder import Embeddings
from docproduct.training.devices import set_up

_PEER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "serve_peer.py")
_K = 5


@dataclasses.dataclass
class Load:
    """Measured requests of all clients.

    Attributes:
      seconds: Seconds of each request that was answered with 200.
      statuses: Number of requests by status; 0: no answer.
      total_seconds: Seconds from the first request to the last answer.
    """

    seconds: list[float]
    statuses: collections.Counter[int]
    total_seconds: float

    @property
    def requests_per_s(self) -> float:
        """Requests per second that were answered with 200."""
        return len(self.seconds) / self.total_seconds

    def percentile_ms(self, share: float) -> float:
        """Returns a percentile of the time to an answer, in milliseconds."""
        return 1_000 * float(np.percentile(self.seconds, share))


async def put_load(port: int, questions: Sequence[str], clients: int, duration: float) -> Load:
    """Lets `clients` clients send requests for `duration` seconds."""
    load = Load([], collections.Counter(), 0.0)
    start = time.perf_counter()

    async def client(number: int) -> None:
        reader = writer = None
        position = number
        while time.perf_counter() - start < duration:
            body = json.dumps({"question": questions[position % len(questions)], "k": _K}).encode()
            position += clients
            sent = time.perf_counter()
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                head = f"POST /v1/retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
                writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
                answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
                await reader.readexactly(int(re.search(rb"content-length: *(\d+)", answer, re.IGNORECASE)[1]))
                status = int(answer[9:12])
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                status, writer = 0, None
            load.statuses[status] += 1
            if status == 200:
                load.seconds.append(time.perf_counter() - sent)
            else:
                await asyncio.sleep(0.05)  # a refused client waits a little; ten times as many are load enough
        if writer:
            writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    load.total_seconds = time.perf_counter() - start
    return load


class Service:
    """A service in a process of its own.

    Attributes:
      ready_seconds: Seconds from its start to its first answer to /readyz.
    """

    def __init__(self, command: Sequence[str], port: int):
        self.port, start = port, time.perf_counter()
        self.process = subprocess.Popen(command, env=measuring.all_cores() | {"TF_CPP_MIN_LOG_LEVEL": "3"})
        while not self._is_ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"{command[1]} has ended; see its message above.")
            time.sleep(0.05)
        self.ready_seconds = time.perf_counter() - start

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return b" 200 " in connection.recv(100)
        except OSError:
            return False

    def load(self, questions: Sequence[str], clients: int, duration: float) -> Load:
        """Sends requests of several clients to the service; see `put_load`."""
        return asyncio.run(put_load(self.port, questions, clients, duration))

    def memory_mib(self) -> float:
        """Returns the private memory of the process, in MiB."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024

    def stop(self) -> None:
        """Ends the process."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def build(work_dir: str, encoder_dir: str, num_pairs: int, factory: str) -> tuple[str, str, str]:
    """Makes index, vectors and texts, unless they exist; returns their paths."""
    vocab = os.path.join(encoder_dir, "vocab.txt")
    folder = os.path.join(work_dir, f"{num_pairs}-{factory}")
    prepared_dir, index_dir, vectors, texts = (
        os.path.join(folder, name) for name in ("prepared", "index", "vectors.npy", "texts.json")
    )
    if os.path.exists(texts):
        return index_dir, vectors, texts
    corpus = synthetic_corpus.cached(
        work_dir, num_pairs * 102 // 100, vocab
    )  # 2 % more, because repeated pairs count once
    if not os.path.isdir(prepared_dir):
        prepare(PrepareSettings((corpus,), encoder_dir, dev_share=0.01), prepared_dir)
    prepared = PreparedFolder(prepared_dir)
    retriever = TrainedRetriever.load(encoder_dir)
    random = np.random.default_rng(0)
    rows = len(prepared.table(["pair_id"]))

    def embed_prepared(*_: object, **__: object) -> Embeddings:
        vectors = random.standard_normal((rows, retriever.config.width), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(vectors, vectors)

    retriever.embed_prepared = embed_prepared
    settings = index.IndexSettings(factory)
    index.build(retriever, prepared, index_dir, settings, encoder_name=encoder_dir, overwrite=True)
    np.save(vectors, embed_prepared().head)
    with open(texts, "w", encoding="utf-8") as file:
        json.dump(prepared.table(["question", "answer"]).to_pylist(), file)
    return index_dir, vectors, texts


def main(argv: list[str]) -> None:
    """Measures both services in turn."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    values = flags.FLAGS
    set_up()
    duration, rounds = (2.0, 1) if values.quick else (values.duration, values.rounds)
    num_pairs = 2_000 if values.quick else values.num_pairs
    index_dir, vectors, texts = build(values.work_dir, values.encoder_dir, num_pairs, values.factory)
    with open(texts, encoding="utf-8") as file:
        questions = [pair["question"] for pair in json.load(file)[:5_000]]
    command = [sys.executable, "serve.py", f"--model_dir={values.encoder_dir}", f"--index_dir={index_dir}"]
    ours = Service([*command, "--port=8081"], 8081)
    services = {"docproduct": ours}
    try:
        if values.reranker_dir:
            reranks = [f"--reranker_dir={values.reranker_dir}", f"--rerank_depth={values.rerank_depth}"]
            reranks += [f"--rerank_ms={values.rerank_ms}"] if values.rerank_ms else []
            services["reranked"] = Service([*command, *reranks, "--port=8083"], 8083)
        if values.peer_python:
            command = [values.peer_python, _PEER, f"--encoder_dir={values.encoder_dir}", "--port=8082"]
            services["peer"] = Service(
                [*command, f"--vectors={vectors}", f"--texts={texts}", f"--factory={values.factory}"], 8082
            )
        measured: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
        for service in services.values():
            service.load(questions, 4, 1.0)
        for _ in range(rounds):
            for name, service in services.items():
                alone = service.load(questions, 1, duration)
                many = service.load(questions, values.clients, duration)
                for load in (alone, many):
                    if set(load.statuses) != {200}:
                        raise RuntimeError(f"{name} answered with {dict(load.statuses)}; expected 200 only.")
                measured["alone, p50", name].append(alone.percentile_ms(50))
                measured["requests a second", name].append(many.requests_per_s)
                measured["p50", name].append(many.percentile_ms(50))
                measured["p99", name].append(many.percentile_ms(99))
        before = ours.memory_mib()
        overload = ours.load(questions, 10 * values.clients, duration)
        growth = ours.memory_mib() - before
        start = time.perf_counter()
        recovered = ours.load(questions, 1, 1.0)
        first = recovered.seconds[0]
    finally:
        for service in services.values():
            service.stop()
    for name in services:
        rows = [
            (title, measured[title, name], "/s" if "second" in title else "ms") for title, n in measured if n == name
        ]
        measuring.show(f"{name}, {values.clients} clients, {num_pairs:,} answers, {values.factory}", rows)
    print(f"\nready after {', '.join(f'{name} {s.ready_seconds:.1f} s' for name, s in services.items())}")
    print(
        f"{10 * values.clients} clients: {dict(overload.statuses)}, memory {growth:+.0f} MiB of {before:.0f}, "
        f"{overload.requests_per_s:.0f} answered a second; first answer afterwards after {1_000 * first:.0f} ms "
        f"({time.perf_counter() - start:.1f} s watched)"
    )
    medians = {key: statistics.median(numbers) for key, numbers in measured.items()}
    against = "peer" if "peer" in services else None

    def metric(name: str, unit: str, title: str) -> dict[str, object]:
        others = {other: medians[title, other] for other in services if other != "docproduct"}
        return measuring.metric(name, unit, medians[title, "docproduct"], others or None, against)

    metrics = [
        metric("requests_per_s", "/s", "requests a second"),
        metric("p50_ms", "ms", "alone, p50"),
        metric("p99_ms", "ms", "p99"),
        measuring.metric("ready_seconds", "s", ours.ready_seconds),
        measuring.metric("overload_memory", "MiB", growth),
        measuring.metric("recovery", "s", first),
    ]
    measuring.finish("serve_load", ["tensorflow", "faiss-cpu", "fastapi", "uvicorn"], metrics)


if __name__ == "__main__":
    flags.DEFINE_string("encoder_dir", None, "all-MiniLM-L6-v2, or another encoder.", required=True)
    flags.DEFINE_string("work_dir", "build/serve", "Folder for index and texts.")
    flags.DEFINE_string(
        "peer_python", None, "Interpreter with sentence-transformers, faiss and fastapi; default: no peer."
    )
    flags.DEFINE_string("reranker_dir", None, "Reranker of a second service, with a weight above 0; default: none.")
    flags.DEFINE_integer("rerank_depth", 30, "Number of hits that it reranks.")
    flags.DEFINE_float("rerank_ms", None, "Maximum milliseconds to rerank the questions of a batch; default: no limit.")
    flags.DEFINE_string("factory", "Flat", "FAISS index of all services: Flat (exact), HNSW32, ...")
    flags.DEFINE_integer("num_pairs", 100_000, "Number of stored pairs.")
    flags.DEFINE_integer("clients", 32, "Number of clients at the same time.")
    flags.DEFINE_integer("rounds", 3, "Number of rounds over all services.")
    flags.DEFINE_float("duration", 10.0, "Seconds of each load.")
    flags.DEFINE_bool("quick", False, "2,000 pairs, one short round.")
    app.run(main)
