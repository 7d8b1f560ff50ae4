"""Writing with GPT-2 124M: tokens a second and reading of the prompt, beside transformers, KerasHub and CTranslate2.

    python -m benchmarks.generate --vocab_dir=GPT2_VOCABULARY --work_dir=/tmp/generate --peer_python=PYTHON

Random weights, greedy, a thread for each core. All processes are warm and work in turn. Decoding is what remains of the
time without the reading of the prompt and its first token. Also: what reading eight tokens at once costs, in steps, as
prompt look-up does to verify a proposal; and, of a trained generator (--trained_dir, an export, with --tokens_dir, the
rows of docproduct.contexts), which such a run measures alone, how many tokens a pass writes with look-up on dev's
questions, `accepted_per_step`, and how many of its answers go round in circles. Ends with one line of JSON.
"""

import collections
import json
import os
import shutil
import statistics
import sys
import time

import numpy as np
from absl import app, flags

from benchmarks import measuring
from data_pipeline import splits
from data_pipeline.folders.token_folder import TokenFolder
from data_pipeline.tokenizers import BytePairs
from docproduct.exports import saved_models
from docproduct.generation.export import PRECISIONS, export
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import GenerationSession
from docproduct.layers import checkpoints
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.metrics import rouge_l
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.generator.dev import asked_of, read_rows
from docproduct.training.devices import set_up

_PEER_SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "generation_peer.py")
_PEERS = {
    "transformers float32": ["transformers", "--precision=float32"],
    "transformers bfloat16": ["transformers", "--precision=bfloat16"],
    "KerasHub float32": ["keras_hub", "--precision=float32"],
    "CTranslate2 float32": ["ctranslate2", "--precision=float32"],
    "CTranslate2 int8": ["ctranslate2", "--precision=int8"],
}
_WRITTEN = 11  # a token
_AGAINST = "transformers"
_OURS = {precision: f"docproduct {precision}" for precision in PRECISIONS}


def make_models(values: flags.FlagValues) -> None:
    """Writes the model in the layouts that the contestants read."""
    os.makedirs(values.work_dir, exist_ok=True)
    config = GPT2Config(num_layers=values.num_layers)
    generator = TrainedGenerator.make(config, BytePairs.load(values.vocab_dir))
    # A bias that makes one token the likeliest after every text: no text ends, and look-up always has a proposal.
    variables = checkpoints.variables_by_name(generator.gpt2)
    variables["final_norm/beta"].assign(10 * variables["token_embedding/embeddings"][_WRITTEN])
    generator.save_hugging_face(os.path.join(values.work_dir, "hugging_face"), overwrite=True)
    for precision in PRECISIONS:
        export_dir = os.path.join(values.work_dir, precision)
        for version in saved_models.versions(export_dir):
            shutil.rmtree(version)
        export(generator, export_dir, precision)


def ours(folder: str) -> None:
    """Writes what each line says: tokens of the prompt, new tokens, batch size, whether to look up."""
    set_up()
    writer = GenerationSession.load(folder)
    for line in sys.stdin:
        length, count, batch_size, lookup = map(int, line.split())
        prompts = np.random.default_rng(0).integers(0, 50_000, (batch_size, length))
        prompts[:, -4:] = _WRITTEN  # so that look-up finds something from the first pass on
        prompts = prompts.tolist()
        seconds = []
        for new in (1, count):
            start = time.perf_counter()
            found = writer.write(prompts, GenerationSettings(new, no_repeat_ngram_size=0), bool(lookup))
            seconds.append(time.perf_counter() - start)
        if short := sum(len(row[0].ids) < count for row in found):
            raise RuntimeError(f"{short} texts ended before {count} tokens: their speed would be wrong.")
        figures = {"prefill": seconds[0], "seconds": seconds[1], "passes": found[0][0].passes}
        print(json.dumps(figures), flush=True)


def main(argv: list[str]) -> None:
    """Measures, or is one of the contestants."""
    values = flags.FLAGS
    if values.contestant:
        ours(values.contestant)
        return
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    if values.trained_dir:
        measuring.finish("generate", ["tensorflow", "keras"], trained(values))
        return
    make_models(values)
    flags_given = [f"--vocab_dir={values.vocab_dir}", f"--work_dir={values.work_dir}"]
    commands = {
        name: [
            *(sys.executable, "-m", "benchmarks.generate", *flags_given),
            f"--contestant={os.path.join(values.work_dir, precision)}",
        ]
        for precision, name in _OURS.items()
    }
    if values.peer_python:
        folder = f"--model_dir={os.path.join(values.work_dir, 'hugging_face')}"
        for name, how in _PEERS.items():
            # KerasHub is one of this project's own packages.
            python = sys.executable if "keras_hub" in how else values.peer_python
            commands[name] = [python, _PEER_SCRIPT, *how, folder]
    contestants = {name: measuring.Contestant(command, measuring.all_cores()) for name, command in commands.items()}
    try:
        metrics = [entry for size in values.batch_sizes for entry in _measure(contestants, values, int(size))]
        metrics += _measure_verification({name: contestants[name] for name in _OURS.values()}, values)
    finally:
        for contestant in contestants.values():
            contestant.stop()
    measuring.finish("generate", ["tensorflow", "keras"], metrics)


def trained(values: flags.FlagValues) -> list[dict]:
    """Prints and returns how a trained generator writes its answers to questions of dev.

    Tokens a pass, and how much sooner it ends, with look-up; ROUGE-L with the right answers; and the share of answers
    that go round in circles: in which four words follow each other more than three times.
    """
    set_up()
    writer, folder = GenerationSession.load(values.trained_dir), TokenFolder(values.tokens_dir)
    if writer.prompt is None or writer.tokenizer.fingerprint != folder.tokenizer().fingerprint:
        sys.exit(f"error: {values.trained_dir} was not trained to answer, or not with the vocabulary of {folder.path}.")
    rows = asked_of(read_rows(folder, splits.DEV), values.num_questions)
    settings = GenerationSettings(writer.prompt.answer_tokens, no_repeat_ngram_size=values.no_repeat_ngram_size)
    seconds = {}
    for lookup in (False, True):
        writer.write([rows[0].prompt_ids], settings, lookup=lookup)  # warms up
        start = time.perf_counter()
        answers = [writer.write([row.prompt_ids], settings, lookup=lookup)[0][0] for row in rows]
        seconds[lookup] = time.perf_counter() - start
    texts = [answer.text for answer in answers]
    right = [writer.tokenizer.decode(row.target_ids) for row in rows]
    figures = [
        ("accepted_per_step", "tokens", sum(len(a.ids) for a in answers) / sum(a.passes for a in answers)),
        ("lookup_sooner", "times", seconds[False] / seconds[True]),
        ("rouge_l", "ROUGE-L", statistics.mean(map(rouge_l, right, texts))),
        ("circling", "share", statistics.mean(map(_circles, texts))),
    ]
    measuring.show(f"Answers to {len(rows)} questions", [(name, [figure], unit) for name, unit, figure in figures])
    return [measuring.metric(*figure) for figure in figures]


def _circles(text: str) -> bool:
    words = text.split()
    return max(collections.Counter(zip(*(words[i:] for i in range(4)), strict=False)).values(), default=0) > 3


def _measure(contestants: dict[str, measuring.Contestant], values: flags.FlagValues, batch_size: int) -> list[dict]:
    """Prints and returns the figures of a batch size."""
    line = f"{values.prompt_tokens} {values.new_tokens} {batch_size} 0"
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    reading: dict[str, list[float]] = {name: [] for name in contestants}
    for round_number in range(values.rounds + 1):
        for name, contestant in contestants.items():
            found = contestant.round(line)
            if round_number:  # the first warms up
                written = batch_size * (values.new_tokens - 1)
                speeds[name].append(written / (found["seconds"] - found["prefill"]))
                reading[name].append(found["prefill"])
    measuring.show(f"Decoding, batch {batch_size}", [(name, found, "tokens/s") for name, found in speeds.items()])
    measuring.show(f"Reading {values.prompt_tokens} tokens", [(name, found, "s") for name, found in reading.items()])
    metrics = []
    for title, unit, found in (("decode_tokens_per_s", "tokens/s", speeds), ("prefill_seconds", "s", reading)):
        medians = {name: statistics.median(figures) for name, figures in found.items()}
        peers = {name: figure for name, figure in medians.items() if name not in _OURS.values()}
        compared = {name: figure for name, figure in peers.items() if name.startswith(_AGAINST)}
        pick = min if unit == "s" else max
        against = pick(compared, key=compared.__getitem__) if compared else None
        for precision in PRECISIONS:
            name = f"{title}_{precision}" if batch_size == 1 else f"{title}_{precision}_batch_{batch_size}"
            metrics.append(measuring.metric(name, unit, medians[_OURS[precision]], peers, against))
    return metrics


def _measure_verification(contestants: dict[str, measuring.Contestant], values: flags.FlagValues) -> list[dict]:
    """Prints and returns what a pass over a proposal costs, in steps of one token."""
    ratios: dict[str, list[float]] = {name: [] for name in contestants}
    for round_number in range(values.rounds + 1):
        for name, contestant in contestants.items():
            seconds = []  # of a pass: of one token, of a proposal
            for lookup in (0, 1):
                found = contestant.round(f"{values.prompt_tokens} {values.new_tokens} 1 {lookup}")
                seconds.append((found["seconds"] - found["prefill"]) / (found["passes"] - 1))
            if round_number:
                ratios[name].append(seconds[1] / seconds[0])
    measuring.show("Reading eight tokens, in steps of one", [(name, found, "") for name, found in ratios.items()])
    medians = {precision: statistics.median(ratios[name]) for precision, name in _OURS.items()}
    return [measuring.metric(f"verify_8_{precision}", "steps", found) for precision, found in medians.items()]


if __name__ == "__main__":
    flags.DEFINE_string("vocab_dir", None, "Folder with GPT-2's encoder.json and vocab.bpe.")
    flags.DEFINE_string("work_dir", "build/generate", "Where the models are kept.")
    flags.DEFINE_string("trained_dir", None, "A trained generator's export, to measure its answers alone.")
    flags.DEFINE_string("tokens_dir", None, "With it: rows of docproduct.contexts.")
    flags.DEFINE_integer("num_questions", 50, "With it: questions of dev.")
    longest_run = "With it: no run of so many tokens twice; 0: any may."
    flags.DEFINE_integer("no_repeat_ngram_size", GenerationSettings.no_repeat_ngram_size, longest_run)
    flags.DEFINE_string("peer_python", None, "Interpreter that has the peers; default: no peer.")
    flags.DEFINE_integer("num_layers", 12, "Layers of the model.")
    flags.DEFINE_integer("prompt_tokens", 512, "Tokens of a prompt.")
    flags.DEFINE_integer("new_tokens", 100, "Tokens to write.")
    flags.DEFINE_list("batch_sizes", ["1", "8"], "Texts that are written at once; empty: look-up alone is measured.")
    flags.DEFINE_integer("rounds", 3, "Rounds that are measured.")
    flags.DEFINE_string("contestant", None, "Used by this benchmark itself.")
    app.run(main)
