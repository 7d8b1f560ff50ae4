"""A LLaMA-style decoder from a GGUF file: its speed beside transformers and llama.cpp, its logits beside transformers'.

    python -m benchmarks.llama --model_file=MODEL.gguf --work_dir=/tmp/llama --peer_python=PYTHON
    python -m benchmarks.llama --model_file=MODEL.gguf --work_dir=/tmp/llama --peer_python=PYTHON --mode=logits \
      --input=PAIRS

Speed: greedy, a single text, one thread for each core, all processes warm and in turn. transformers and ours have the
same float32 weights, dequantized from the file, ours in int8, too; llama.cpp has the file's own. `prefill_seconds` is
the time to the first token, `decode_tokens_per_s` counts the time after it.

Logits: `logits_max_difference` is the largest absolute difference from transformers' logits, over the whole vocabulary
after every token of the texts. The last tokens of each text are read one by one with a cache, as in decoding.

The texts are questions and answers in the files of --input, by default the bundled sample. Ends with one line of JSON.
"""

import itertools
import json
import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from absl import app, flags

from benchmarks import generate, measuring
from data_pipeline.corpora import Columns, Refusals, read_pairs
from data_pipeline.tokenizers import CausalTokenizer
from docproduct import command, sample
from docproduct.systems.generator import TrainedGenerator

_CACHED = 8  # tokens at the end of a text that are read one by one
_PEERS = {
    "transformers float32": ["transformers"],
    "transformers float32, static cache": ["transformers", "--cache=static"],
    "transformers float32, compiled": ["transformers", "--cache=compiled"],
    "llama.cpp, the file's weights": ["llama_cpp"],
}


def main(argv: list[str]) -> None:
    """Measures what --mode says."""
    values = command.begin(argv)
    if values.quick:
        values.rounds, values.prompt_tokens, values.new_tokens, values.num_texts = 1, 64, 20, 3
    generator = TrainedGenerator.load(values.model_file)
    os.makedirs(values.work_dir, exist_ok=True)
    folder = os.path.join(values.work_dir, "hugging_face")
    generator.save_hugging_face(folder, overwrite=True)
    measure = {"speed": speed, "logits": logits}[values.mode]
    measuring.finish("llama", ["tensorflow", "keras"], measure(values, generator, folder))


def texts(files: list[str], tokenizer: CausalTokenizer, lengths: list[int]) -> list[list[int]]:
    """Returns the ids of texts with the given numbers of tokens, which begin at pairs that are spaced evenly."""
    pairs = [pair for path in files for _, pair in read_pairs(path, Columns(), Refusals())]
    starts = np.linspace(0, len(pairs), len(lengths), endpoint=False).astype(int)
    result = []
    for start, length in zip(starts, lengths, strict=True):
        ids: list[int] = []
        for pair in itertools.islice(itertools.cycle(pairs), start, None):
            ids += tokenizer.encode([f"{pair.question}\n{pair.answer}\n"])[0]
            if len(ids) >= length:
                break
        result.append(ids[:length])
    return result


def speed(values: flags.FlagValues, generator: TrainedGenerator, folder: str) -> list[dict]:
    """Prints and returns time to the first token, and tokens per second after it."""
    generate.export_anew(generator, values.work_dir)
    commands = generate.own_commands(values.work_dir)
    for name in values.peers if values.peer_python else ():
        model = values.model_file if "llama_cpp" in _PEERS[name] else folder
        commands[name] = [values.peer_python, generate.PEER_SCRIPT, *_PEERS[name], f"--model={model}"]
    prompts = texts(values.input, generator.tokenizer, [values.prompt_tokens])
    request = {"prompts": prompts, "count": values.new_tokens}
    contestants = {name: measuring.Contestant(line, measuring.all_cores()) for name, line in commands.items()}
    try:
        return generate.speed(contestants, request, values.rounds, generate.OURS)
    finally:
        for process in contestants.values():
            process.stop()


def logits(values: flags.FlagValues, generator: TrainedGenerator, folder: str) -> list[dict]:
    """Prints and returns how far our logits are from those of transformers."""
    lengths = np.linspace(values.max_tokens / values.num_texts, values.max_tokens, values.num_texts).astype(int)
    path = os.path.join(values.work_dir, "logits.npy")
    line = [values.peer_python, generate.PEER_SCRIPT, "logits", f"--model={folder}"]
    peer, rows, same, count = measuring.Contestant(line, measuring.all_cores()), [], 0, 0
    try:
        for ids in texts(values.input, generator.tokenizer, lengths.tolist()):
            peer.round(json.dumps({"prompts": [ids], "logits_file": path}))
            theirs, largest = np.load(path), 0.0
            for first, ours in own_logits(generator, ids):
                part = theirs[first : first + len(ours)]
                largest = max(largest, float(np.abs(ours - part).max()))
                same += int((ours.argmax(axis=-1) == part.argmax(axis=-1)).sum())
            count += len(ids)
            rows.append((f"{len(ids)} tokens", [largest], "largest difference"))
    finally:
        peer.stop()
    measuring.show(f"Logits of {len(rows)} texts", rows)
    return [
        measuring.metric("logits_max_difference", "logits", max(row[1][0] for row in rows)),
        measuring.metric("same_likeliest_token", "share of tokens", same / count),
    ]


def own_logits(generator: TrainedGenerator, ids: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the number of a token and the logits, [Q, V], after it and its successors, for all tokens of a text."""
    num_read = max(len(ids) - _CACHED, 1)
    prompt = tf.constant([ids[:num_read]])
    states, cache = generator.prefill(prompt, tf.ones_like(prompt, tf.bool), tf.constant(len(ids)))
    yield 0, generator.logits(states).numpy()[0]
    for i in range(num_read, len(ids)):
        token, no_padding = tf.constant([ids[i : i + 1]]), tf.zeros([1], tf.int32)
        states, cache = generator.decode_step(token, no_padding, cache, tf.constant(i))
        yield i, generator.logits(states).numpy()[0]


if __name__ == "__main__":
    flags.DEFINE_string("model_file", None, "Model, as a GGUF file.", required=True)
    flags.DEFINE_string("work_dir", "build/llama", "Folder for the models.")
    flags.DEFINE_string("peer_python", None, "Interpreter that has the peers; default: no peer. Logits need it.")
    flags.DEFINE_enum("mode", "speed", ["speed", "logits"], "What to measure.")
    flags.DEFINE_list("input", [sample.PAIRS_FILE], "Files with questions and answers.")
    flags.DEFINE_multi_enum("peers", list(_PEERS), list(_PEERS), "Peers of the speed.")
    flags.DEFINE_integer("prompt_tokens", 512, "Tokens of the prompt whose reading is timed.")
    flags.DEFINE_integer("new_tokens", 100, "Tokens to write.")
    flags.DEFINE_integer("rounds", 5, "Number of measured rounds.")
    flags.DEFINE_integer("num_texts", 20, "Number of texts whose logits are compared.")
    flags.DEFINE_integer("max_tokens", 1_000, "Tokens of the longest of them.")
    flags.DEFINE_bool("quick", False, "One short round, three short texts.")
    app.run(main)
