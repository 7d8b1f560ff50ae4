"""Training speed of the bi-encoder in pairs per second, beside sentence-transformers.

    python -m benchmarks.train --prepared_dir=prepared --encoder_dir=ENCODER --peer_python=PYTHON

Both use the same start, pairs, batch size and maximum length (256 tokens), and one thread for each core. The peer uses
MultipleNegativesRankingLoss in float32 or bfloat16; a short round finds the faster precision, which is compared. All
processes are warm and work in turn. Ends with one line of JSON.
"""

import json
import sys
import tempfile
import time

import tensorflow as tf
from absl import app, flags

from benchmarks import measuring
from docproduct.systems.retriever.config import RetrieverTraining
from docproduct.systems.retriever.start import start, training_pairs
from docproduct.systems.retriever.task import RetrieverTask
from docproduct.training.devices import set_up
from docproduct.training.settings import TrainingSettings
from docproduct.training.step import make_optimizer, step_function


def ours(prepared_dir: str, encoder_dir: str, batch_size: int, chunk_size: int, dropout: float | None) -> None:
    """Trains in rounds; each line of standard input is a number of steps."""
    set_up()
    settings = TrainingSettings(batch_size=batch_size)
    strategy = tf.distribute.get_strategy()
    options = {"dropout": dropout, "chunk_size": chunk_size, "settings": settings}
    config = RetrieverTraining(prepared_dir, encoder_dir, **options)
    prepared = training_pairs(config)
    task = RetrieverTask(config, prepared, start(config, prepared), strategy, "")
    step = step_function(task, make_optimizer(task, settings, strategy), settings.clip_norm, strategy)
    batches = (batch for epoch in range(1_000_000) for batch in task.batches(epoch, 0))
    for line in sys.stdin:
        begin = time.perf_counter()
        for _ in range(int(line)):
            float(step(next(batches)))
        print(json.dumps({"seconds": time.perf_counter() - begin}), flush=True)


def main(argv: list[str]) -> None:
    """Measures, or runs as one of the contestants."""
    values = flags.FLAGS
    if values.contestant:
        ours(values.prepared_dir, values.encoder_dir, values.batch_size, values.chunk_size, values.dropout)
        return
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    folders = [f"--prepared_dir={values.prepared_dir}", f"--encoder_dir={values.encoder_dir}"]
    environment = measuring.all_cores()
    command = [sys.executable, "-m", "benchmarks.train", *folders, "--contestant", f"--batch_size={values.batch_size}"]
    command.append(f"--chunk_size={values.chunk_size}")
    command += [] if values.dropout is None else [f"--dropout={values.dropout}"]
    with tempfile.TemporaryDirectory() as folder:
        peers = {}
        if values.peer_python:
            precisions = measuring.PEER_PRECISIONS if values.peer_precision == "auto" else [values.peer_precision]
            peer = [values.peer_python, measuring.PEER_SCRIPT, "train_speed", *folders, f"--model_dir={folder}"]
            peer += [f"--batch_size={values.batch_size}"]
            peers = {f"sentence-transformers {name}": [*peer, *measuring.PEER_PRECISIONS[name]] for name in precisions}
        chosen = _fastest(peers, environment) if len(peers) > 1 else next(iter(peers), None)
        contestants = {"docproduct": measuring.Contestant(command, environment)}
        if chosen:
            contestants[chosen] = measuring.Contestant(peers[chosen], environment)
        try:
            _measure(contestants, values)
        finally:
            for contestant in contestants.values():
                contestant.stop()


def _fastest(peers: dict[str, list[str]], environment: dict[str, str]) -> str:
    """Returns the peer that does two steps in the least time; each is tried alone, to save memory."""
    seconds = {}
    for name, command in peers.items():
        contestant = measuring.Contestant(command, environment)
        contestant.round("1")
        seconds[name] = contestant.round("2")["seconds"]
        contestant.stop()
    print("two steps: " + ", ".join(f"{name} {elapsed:.1f} s" for name, elapsed in seconds.items()))
    return min(seconds, key=seconds.__getitem__)


def _measure(contestants: dict[str, measuring.Contestant], values: flags.FlagValues) -> None:
    rounds, steps = (1, 2) if values.quick else (values.rounds, values.steps)
    for name, contestant in contestants.items():
        contestant.round("1" if name != "docproduct" else "4" if values.quick else f"{values.warm_steps}")
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    peaks = dict.fromkeys(contestants, 0.0)
    for _ in range(rounds):
        for name, contestant in contestants.items():
            with measuring.PeakMemory(contestant.pid) as peak:
                speeds[name].append(values.batch_size * steps / contestant.round(f"{steps}")["seconds"])
            peaks[name] = max(peaks[name], peak.mib)
    measuring.show("Training", [(name, rates, "pairs/s") for name, rates in speeds.items()])
    measuring.show("Peak memory", [(name, [mib], "MiB") for name, mib in peaks.items()])
    peers = [name for name in contestants if name != "docproduct"]
    # Speed over all steps: the harmonic mean of the rounds.
    means = {name: len(rates) / sum(1 / rate for rate in rates) for name, rates in speeds.items()}
    metrics = [
        measuring.metric(
            name, unit, figures["docproduct"], {peer: figures[peer] for peer in peers}, next(iter(peers), None)
        )
        for name, unit, figures in (("pairs_per_s", "pairs/s", means), ("peak_mib", "MiB", peaks))
    ]
    measuring.finish("train", ["tensorflow", "keras"], metrics)


if __name__ == "__main__":
    flags.DEFINE_string("prepared_dir", None, "Folder that data_pipeline.prepare wrote.", required=True)
    flags.DEFINE_string("encoder_dir", None, "Encoder to start from.", required=True)
    flags.DEFINE_string("peer_python", None, "Interpreter that has sentence-transformers; default: no peer.")
    flags.DEFINE_enum(
        "peer_precision",
        "auto",
        ["auto", *measuring.PEER_PRECISIONS],
        "Precision of the peer; auto: the faster one here.",
    )
    flags.DEFINE_integer("batch_size", 64, "Pairs in a batch.")
    flags.DEFINE_integer("chunk_size", 0, "Ours: pairs per chunk of gradient caching; 0: no gradient caching.")
    flags.DEFINE_float("dropout", None, "Ours, inside the encoder; default: the same as the peer's.")
    flags.DEFINE_integer("rounds", 3, "Number of measured rounds.")
    flags.DEFINE_integer("steps", 10, "Number of steps per round.")
    flags.DEFINE_integer("warm_steps", 8, "Number of warm-up steps.")
    flags.DEFINE_bool("quick", False, "One short round.")
    flags.DEFINE_bool("contestant", False, "Used by this benchmark itself.")
    app.run(main)
