"""Generation speed of GPT-2 124M, beside transformers, KerasHub and CTranslate2.

    python -m benchmarks.generate --vocab_dir=GPT2_VOCABULARY --work_dir=/tmp/generate --peer_python=PYTHON

Uses random weights, greedy decoding and one thread for each core. All processes are warm and work in turn.
`decode_tokens_per_s` counts the time after the prompt was read and the first token written. `verify8_over_step` is the
time of a pass over eight tokens, with which prompt look-up verifies its proposal, divided by the time of a pass over
one token. With --trained_dir (an export) and --tokens_dir (rows of docproduct.contexts), only that generator is
measured, on questions of dev: tokens per pass with prompt look-up, ROUGE-L, and the share of answers that repeat
themselves. Ends with one line of JSON.
"""

import collections
import json
import os
import shutil
import statistics
import sys
import time
from typing import Any

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
from docproduct.layers import checkpoints, int8
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.metrics import rouge_l
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.generator.dev import asked_of, read_rows
from docproduct.training.devices import set_up

PEER_SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "generation_peer.py")
_PEERS = {
    "transformers float32": ["transformers", "--precision=float32"],
    "transformers bfloat16": ["transformers", "--precision=bfloat16"],
    "KerasHub float32": ["keras_hub", "--precision=float32"],
    "CTranslate2 float32": ["ctranslate2", "--precision=float32"],
    "CTranslate2 int8": ["ctranslate2", "--precision=int8"],
}
_AGAINST = "transformers"
_WRITTEN = 11  # the token that our models write after every text
_REPEATED_WORDS = (4, 3)  # an answer repeats itself if it holds the same 4 words more than 3 times
OURS = {precision: f"docproduct {precision}" for precision in PRECISIONS if precision != "int8" or int8.available()}

Request = dict[str, Any]
Figures = dict[str, list[float]]  # {contestant: one figure for each round}


def make_models(values: flags.FlagValues) -> None:
    """Writes the model in the layouts that the contestants read."""
    os.makedirs(values.work_dir, exist_ok=True)
    config = GPT2Config(num_layers=values.num_layers)
    generator = TrainedGenerator.make(config, BytePairs.load(values.vocab_dir))
    # A bias that makes one token the likeliest after every text: no text ends, and look-up always has a proposal.
    variables = checkpoints.variables_by_name(generator.decoder)
    variables["final_norm/beta"].assign(10 * variables["token_embedding/embeddings"][_WRITTEN])
    generator.save_hugging_face(os.path.join(values.work_dir, "hugging_face"), overwrite=True)
    export_anew(generator, values.work_dir)


def export_anew(generator: TrainedGenerator, work_dir: str) -> None:
    """Exports a model in each precision of `OURS`, into a folder of that name; earlier versions are removed."""
    for precision in OURS:
        export_dir = os.path.join(work_dir, precision)
        for version in saved_models.versions(export_dir):
            shutil.rmtree(version)
        export(generator, export_dir, precision)


def contestant(folder: str) -> None:
    """Generates for each line of standard input, a request; see generation_peer.py. It may ask for look-up."""
    session = GenerationSession.load(folder)
    for line in sys.stdin:
        request = json.loads(line)
        prompts, count, seconds = request["prompts"], request["count"], []
        for num_tokens in (1, count):
            settings = GenerationSettings(num_tokens, no_repeat_ngram_size=0)
            start = time.perf_counter()
            answers = session.write(prompts, settings, request.get("lookup", False))
            seconds.append(time.perf_counter() - start)
        if short := sum(len(answer.ids) < count for (answer,) in answers):
            raise RuntimeError(f"{short} texts ended before {count} tokens: their speed would be wrong.")
        figures = {"prefill": seconds[0], "seconds": seconds[1], "passes": answers[0][0].passes}
        print(json.dumps(figures), flush=True)


def main(argv: list[str]) -> None:
    """Measures, or runs as one of the contestants."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    values = flags.FLAGS
    set_up()
    if values.contestant:
        contestant(values.contestant)
        return
    if values.trained_dir:
        measuring.finish("generate", ["tensorflow", "keras"], trained(values))
        return
    if values.quick:
        values.rounds, values.num_layers, values.prompt_tokens, values.new_tokens = 1, 2, 64, 20
    make_models(values)
    commands = _commands(values)
    contestants = {name: measuring.Contestant(command, measuring.all_cores()) for name, command in commands.items()}
    try:
        metrics = [metric for size in values.batch_sizes for metric in _measure(contestants, values, int(size))]
        metrics += _measure_verification({name: contestants[name] for name in OURS.values()}, values)
    finally:
        for process in contestants.values():
            process.stop()
    measuring.finish("generate", ["tensorflow", "keras"], metrics)


def _commands(values: flags.FlagValues) -> dict[str, list[str]]:
    """Returns the command of each contestant."""
    commands = own_commands(values.work_dir)
    if values.peer_python:
        folder = f"--model={os.path.join(values.work_dir, 'hugging_face')}"
        for name, arguments in _PEERS.items():
            # This project depends on KerasHub, which therefore runs in our interpreter.
            python = sys.executable if "keras_hub" in arguments else values.peer_python
            commands[name] = [python, PEER_SCRIPT, *arguments, folder]
    return commands


def own_commands(work_dir: str) -> dict[str, list[str]]:
    """Returns the command of each of our contestants, which runs what `export_anew` wrote."""
    ours = [sys.executable, "-m", "benchmarks.generate", "--contestant"]
    return {name: [*ours, os.path.join(work_dir, precision)] for precision, name in OURS.items()}


def trained(values: flags.FlagValues) -> list[dict]:
    """Prints and returns the metrics of a trained generator on questions of dev."""
    session, folder = GenerationSession.load(values.trained_dir), TokenFolder(values.tokens_dir)
    if session.prompt is None or session.tokenizer.fingerprint != folder.tokenizer().fingerprint:
        sys.exit(f"error: {values.trained_dir} was not trained to answer, or not with the vocabulary of {folder.path}.")
    rows = asked_of(read_rows(folder, splits.DEV), values.num_questions)
    settings = GenerationSettings(session.prompt.answer_tokens, no_repeat_ngram_size=values.no_repeat_ngram_size)
    seconds = {}
    for lookup in (False, True):
        session.write([rows[0].prompt_ids], settings, lookup)  # warms up
        start = time.perf_counter()
        answers = [session.write([row.prompt_ids], settings, lookup)[0][0] for row in rows]
        seconds[lookup] = time.perf_counter() - start
    references = [session.tokenizer.decode(row.target_ids) for row in rows]
    texts = [answer.text for answer in answers]
    figures = [
        ("accepted_per_step", "tokens", sum(len(a.ids) for a in answers) / sum(a.passes for a in answers)),
        ("lookup_sooner", "times", seconds[False] / seconds[True]),
        ("rouge_l", "ROUGE-L", statistics.mean(map(rouge_l, references, texts))),
        ("circling", "share", statistics.mean(map(_repeats_itself, texts))),
    ]
    measuring.show(f"Answers to {len(rows)} questions", [(name, [figure], unit) for name, unit, figure in figures])
    return [measuring.metric(*figure) for figure in figures]


def _repeats_itself(text: str) -> bool:
    """Returns whether the text repeats the same words again and again."""
    words, (size, most) = text.split(), _REPEATED_WORDS
    runs = collections.Counter(zip(*(words[i:] for i in range(size)), strict=False))
    return max(runs.values(), default=0) > most


def _measure(contestants: dict[str, measuring.Contestant], values: flags.FlagValues, batch_size: int) -> list[dict]:
    """Prints and returns speed of decoding and prefill for a batch size."""
    ending = "" if batch_size == 1 else f"_batch_{batch_size}"
    return speed(contestants, _request(values, batch_size), values.rounds, OURS, ending)


def _request(values: flags.FlagValues, batch_size: int) -> Request:
    prompts = np.random.default_rng(0).integers(0, 50_000, (batch_size, values.prompt_tokens))
    prompts[:, -4:] = _WRITTEN  # so that look-up has a proposal in the first pass
    return {"prompts": prompts.tolist(), "count": values.new_tokens}


def speed(
    contestants: dict[str, measuring.Contestant], request: Request, rounds: int, ours: dict[str, str], ending: str = ""
) -> list[dict]:
    """Prints and returns speed of decoding and prefill.

    Args:
      contestants: by their names, whose rounds take turns.
      request: prompts of one length, and the number of tokens to write; see generation_peer.py.
      rounds: number of measured rounds, after one that warms up.
      ours: {precision: name of our contestant}.
      ending: of the metrics' names.
    """
    (batch_size, length), count = np.shape(request["prompts"]), request["count"]
    speeds: Figures = {name: [] for name in contestants}
    prefills: Figures = {name: [] for name in contestants}
    for round_number in range(rounds + 1):
        for name, process in contestants.items():
            figures = process.round(json.dumps(request))
            if round_number:
                speeds[name].append(batch_size * (count - 1) / (figures["seconds"] - figures["prefill"]))
                prefills[name].append(figures["prefill"])
    measuring.show(f"Decoding, batch {batch_size}", [(name, row, "tokens/s") for name, row in speeds.items()])
    measuring.show(f"Reading {length} tokens", [(name, row, "s") for name, row in prefills.items()])
    return [
        *_metrics("decode_tokens_per_s", ending, "tokens/s", speeds, ours),
        *_metrics("prefill_seconds", ending, "s", prefills, ours),
    ]


def _metrics(name: str, ending: str, unit: str, figures: Figures, ours: dict[str, str]) -> list[dict]:
    """Returns a metric for each of our precisions, beside the peers."""
    medians = {label: statistics.median(values) for label, values in figures.items()}
    peers = {label: median for label, median in medians.items() if label not in ours.values()}
    compared = [label for label in peers if label.startswith(_AGAINST)]
    pick = min if unit == "s" else max
    against = pick(compared, key=peers.__getitem__) if compared else None
    return [
        measuring.metric(f"{name}_{precision}{ending}", unit, medians[label], peers, against)
        for precision, label in ours.items()
    ]


def _measure_verification(contestants: dict[str, measuring.Contestant], values: flags.FlagValues) -> list[dict]:
    """Prints and returns the time of a pass over eight tokens, divided by that of a pass over one."""
    ratios: Figures = {name: [] for name in contestants}
    for round_number in range(values.rounds + 1):
        for name, process in contestants.items():
            seconds = []  # of a pass over one token, and over a proposal
            for lookup in (False, True):
                figures = process.round(json.dumps(_request(values, 1) | {"lookup": lookup}))
                seconds.append((figures["seconds"] - figures["prefill"]) / (figures["passes"] - 1))
            if round_number:
                ratios[name].append(seconds[1] / seconds[0])
    measuring.show("A pass over eight tokens", [(name, ratio, "steps") for name, ratio in ratios.items()])
    medians = {precision: statistics.median(ratios[name]) for precision, name in OURS.items()}
    return [measuring.metric(f"verify8_over_step_{precision}", "steps", ratio) for precision, ratio in medians.items()]


if __name__ == "__main__":
    flags.DEFINE_string("vocab_dir", None, "Folder with GPT-2's encoder.json and vocab.bpe.")
    flags.DEFINE_string("work_dir", "build/generate", "Folder for the models.")
    flags.DEFINE_string("trained_dir", None, "Export of a trained generator; only its answers are measured.")
    flags.DEFINE_string("tokens_dir", None, "With --trained_dir: rows of docproduct.contexts.")
    flags.DEFINE_integer("num_questions", 50, "With --trained_dir: number of dev questions.")
    ngram_help = "With --trained_dir: forbids to repeat n-grams of this many tokens; 0: allows them."
    flags.DEFINE_integer("no_repeat_ngram_size", GenerationSettings.no_repeat_ngram_size, ngram_help)
    flags.DEFINE_string("peer_python", None, "Interpreter that has the peers; default: no peer.")
    flags.DEFINE_integer("num_layers", 12, "Number of layers of the model.")
    flags.DEFINE_integer("prompt_tokens", 512, "Tokens of a prompt.")
    flags.DEFINE_integer("new_tokens", 100, "Tokens to write.")
    flags.DEFINE_list("batch_sizes", ["1", "8"], "Numbers of texts to write at once; empty: only look-up.")
    flags.DEFINE_integer("rounds", 3, "Number of measured rounds.")
    flags.DEFINE_bool("quick", False, "One short round with two layers.")
    flags.DEFINE_string("contestant", None, "Used by this benchmark itself.")
    app.run(main)
