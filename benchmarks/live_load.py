"""Retrieval while pairs are added to the service, beside the same retrieval in quiet.

    python -m benchmarks.live_load --encoder_dir=ENCODER --work_dir=serve

Clients ask one question after another (POST /v1/retrieve), first in quiet, then while another client adds pairs with
texts of the usual length (POST /v1/pairs) at a steady rate, in turn, over the synthetic pairs of
benchmarks/serve_load.py. After the rounds the folder is written anew while the clients ask. Clients and service share
the machine. Ends with one line of JSON.
"""

import asyncio
import collections
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Sequence

from absl import app, flags

from benchmarks import measuring
from benchmarks.serve_load import Load, Service, build, put_load
from docproduct.training.devices import set_up

_PORT = 8084
_TOKEN = "benchmark"  # noqa: S105


async def send(port: int, method: str, path: str, body: object = None) -> tuple[int, dict]:
    """Sends a request with the token for changes, and returns status and body of the response."""
    content = json.dumps(body).encode() if body is not None else b""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {_TOKEN}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    answer = await reader.read()
    writer.close()
    return int(answer[9:12]), json.loads(answer.partition(b"\r\n\r\n")[2])


async def put_pairs(port: int, pairs: Sequence[dict], rate: float, duration: float, load: Load) -> None:
    """Adds pairs at a rate, without waiting for the one before, for `duration` seconds."""
    start, tasks = time.perf_counter(), []

    async def put(pair: dict) -> None:
        sent = time.perf_counter()
        status, _ = await send(port, "POST", "/v1/pairs", pair)
        load.statuses[status] += 1
        load.seconds.append(time.perf_counter() - sent)

    for number in range(int(rate * duration)):
        await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(put(pairs[number % len(pairs)])))
    await asyncio.gather(*tasks)
    load.total_seconds = time.perf_counter() - start


async def measure(
    questions: Sequence[str], clients: int, pairs: Sequence[dict], rate: float, duration: float
) -> tuple[Load, Load]:
    """Returns the load of retrieval, and that of the changes beside it."""
    changes = Load([], collections.Counter(), 0.0)
    asked, _ = await asyncio.gather(
        put_load(_PORT, questions, clients, duration), put_pairs(_PORT, pairs, rate, duration, changes)
    )
    for load in (asked, changes):
        if set(load.statuses) - {200}:
            raise RuntimeError(f"The service answered with {dict(load.statuses)}; expected 200 only.")
    return asked, changes


def main(argv: list[str]) -> None:
    """Measures quiet and busy retrieval in turn."""
    del argv
    values = flags.FLAGS
    set_up()
    duration, rounds, num_pairs = (
        (3.0, 1, 2_000) if values.quick else (values.duration, values.rounds, values.num_pairs)
    )
    index_dir, _, texts = build(values.work_dir, values.encoder_dir, num_pairs, values.factory)
    live_dir = f"{os.path.realpath(index_dir)}.measured"
    for path in (live_dir, f"{live_dir}.live"):
        shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(index_dir, live_dir)
    with open(texts, encoding="utf-8") as file:
        stored = json.load(file)
    questions = [pair["question"] for pair in stored[:5_000]]
    per_round = int(values.rate * duration)
    command = [sys.executable, "serve.py", f"--model_dir={values.encoder_dir}", f"--index_dir={live_dir}", "--live"]
    os.environ["DOCPRODUCT_WRITE_TOKEN"] = _TOKEN
    changed = per_round * rounds
    service = Service([*command, f"--port={_PORT}", f"--compact_changes={changed}"], _PORT)
    measured: dict[str, list[float]] = collections.defaultdict(list)
    try:
        service.load(questions, values.clients, 2.0)
        for number in range(rounds):
            # New pairs: the answers of others under new questions.
            part = stored[number * per_round :][:per_round]
            pairs = [
                {"question": f"{number} {pair['question']}", "answer": f"{pair['answer']} {number}."} for pair in part
            ]
            quiet, _ = asyncio.run(measure(questions, values.clients, [], 0.0, duration))
            busy, changes = asyncio.run(measure(questions, values.clients, pairs, values.rate, duration))
            for name, load in (("quiet", quiet), ("busy", busy), ("change", changes)):
                measured[f"{name}, p50"].append(load.percentile_ms(50))
                measured[f"{name}, p99"].append(load.percentile_ms(99))
        compacting = compaction_load(service, questions, values.clients)
    finally:
        service.stop()
    rows = [(title, numbers, "ms") for title, numbers in measured.items()]
    measuring.show(
        f"{values.clients} clients, {values.rate:g} changes/s, {num_pairs:,} answers, {values.factory}", rows
    )
    if compacting:
        p99 = compacting.percentile_ms(99)
        print(f"while the folder is written anew ({compacting.total_seconds:.0f} s): p99 {p99:.1f} ms")
    medians = {title: statistics.median(numbers) for title, numbers in measured.items()}
    metrics = [
        measuring.metric("p99_ms_while_changed", "ms", medians["busy, p99"], {"quiet": medians["quiet, p99"]}, "quiet"),
        measuring.metric("p50_ms_while_changed", "ms", medians["busy, p50"], {"quiet": medians["quiet, p50"]}, "quiet"),
        measuring.metric("change_p99_ms", "ms", medians["change, p99"]),
    ]
    measuring.finish("live_load", ["tensorflow", "faiss-cpu", "fastapi", "uvicorn"], metrics)


def compaction_load(service: Service, questions: Sequence[str], clients: int) -> Load | None:
    """Returns the load of retrieval while the folder is written anew; None if that has ended."""
    total = Load([], collections.Counter(), 0.0)
    while asyncio.run(send(_PORT, "GET", "/v1/info"))[1]["live"]["compacting"]:
        part = service.load(questions, clients, 1.0)
        total.seconds += part.seconds
        total.total_seconds += part.total_seconds
    return total if total.seconds else None


if __name__ == "__main__":
    flags.DEFINE_string("encoder_dir", None, "all-MiniLM-L6-v2, or another encoder.", required=True)
    flags.DEFINE_string("work_dir", "build/serve", "Folder for index and texts.")
    flags.DEFINE_string("factory", "Flat", "FAISS index: Flat (exact), HNSW32, ...")
    flags.DEFINE_integer("num_pairs", 100_000, "Number of stored pairs.")
    flags.DEFINE_integer("clients", 1, "Number of clients that ask at the same time.")
    flags.DEFINE_float("rate", 10.0, "Changes a second.")
    flags.DEFINE_integer("rounds", 3, "Number of rounds.")
    flags.DEFINE_float("duration", 10.0, "Seconds of each load.")
    flags.DEFINE_bool("quick", False, "2,000 pairs, one short round.")
    app.run(main)
