"""The peers of the generation benchmark: GPT-2 of transformers, CTranslate2, KerasHub, as their documentation advises.

    PYTHON benchmarks/generation_peer.py transformers --model_dir=HUGGING_FACE_FOLDER --precision=bfloat16

Runs in an interpreter that has the peer, and imports nothing of this project. For every line on standard input,
"PROMPT_TOKENS NEW_TOKENS BATCH_SIZE 0", it generates greedily and prints a line of JSON: the seconds for all new
tokens, and the seconds for one token, which are those of reading the prompt.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

Write = Callable[[list[list[int]], int], object]  # prompts, number of new tokens


def with_transformers(model_dir: str, precision: str) -> Write:
    """Returns `generate` of transformers."""
    import torch
    import transformers

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = transformers.GPT2LMHeadModel.from_pretrained(model_dir, dtype=getattr(torch, precision)).eval()

    def write(prompts: list[list[int]], count: int) -> object:
        ids = torch.tensor(prompts)
        options = {"min_new_tokens": count, "max_new_tokens": count, "do_sample": False, "pad_token_id": 0}
        with torch.inference_mode():
            return model.generate(ids, attention_mask=torch.ones_like(ids), **options)

    return write


def with_ctranslate2(model_dir: str, precision: str) -> Write:
    """Returns `generate_batch` of CTranslate2, for the converted model."""
    import ctranslate2

    with tempfile.TemporaryDirectory() as folder:
        converted = os.path.join(folder, "model")
        ctranslate2.converters.TransformersConverter(model_dir).convert(converted, quantization=precision)
        threads = len(os.sched_getaffinity(0))
        model = ctranslate2.Generator(converted, device="cpu", compute_type=precision, intra_threads=threads)
        with open(os.path.join(converted, "vocabulary.json"), encoding="utf-8") as file:
            vocabulary = json.load(file)

    def write(prompts: list[list[int]], count: int) -> object:
        tokens = [[vocabulary[i] for i in prompt] for prompt in prompts]
        lengths = {"min_length": count, "max_length": count}
        return model.generate_batch(tokens, **lengths, beam_size=1, include_prompt_in_result=False)

    return write


def with_keras_hub(model_dir: str, precision: str) -> Write:
    """Returns `generate` of KerasHub, on TensorFlow."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras_hub

    model = keras_hub.models.GPT2CausalLM.from_preset(model_dir, dtype=precision, preprocessor=None)
    model.compile(sampler="greedy")

    def write(prompts: list[list[int]], count: int) -> object:
        ids = np.pad(np.array(prompts), ((0, 0), (0, count)))
        mask = np.arange(ids.shape[1]) < len(prompts[0])
        inputs = {"token_ids": ids, "padding_mask": np.broadcast_to(mask, ids.shape)}
        return model.generate(inputs, stop_token_ids=None)

    return write


PEERS = {"transformers": with_transformers, "ctranslate2": with_ctranslate2, "keras_hub": with_keras_hub}


def main() -> None:
    """Generates for each line of standard input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=list(PEERS))
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--precision", required=True)
    values = parser.parse_args()
    write = PEERS[values.peer](values.model_dir, values.precision)
    for line in sys.stdin:
        length, count, batch_size, _ = map(int, line.split())
        prompts = np.random.default_rng(0).integers(0, 50_000, (batch_size, length)).tolist()
        seconds = []
        for num_new in (1, count):
            start = time.perf_counter()
            write(prompts, num_new)
            seconds.append(time.perf_counter() - start)
        print(json.dumps({"prefill": seconds[0], "seconds": seconds[1]}), flush=True)


if __name__ == "__main__":
    main()
