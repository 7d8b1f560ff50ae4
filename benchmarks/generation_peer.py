"""Generation by transformers, CTranslate2, KerasHub and llama.cpp, as their documentation advises.

    PYTHON benchmarks/generation_peer.py transformers --model=HUGGING_FACE_FOLDER --precision=bfloat16

Runs in an interpreter that has the peer, and imports nothing of this project. Every line on standard input is a
request in JSON, which is answered with a line of JSON:

    {"prompts": [[...]], "count": 100}         generates greedily: seconds for all new tokens, and for one token alone,
                                               which are those of reading the prompts
    {"prompts": [[...]], "logits_file": PATH}  for the peer "logits", transformers: writes the logits after each token
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Write = Callable[[list[list[int]], int], object]  # prompts, number of new tokens


def with_transformers(path: str, precision: str, cache: str) -> Write:
    """Returns `generate` of transformers."""
    import torch

    model = _transformers_model(path, precision)
    options: dict[str, Any] = {"do_sample": False, "pad_token_id": 0}
    if cache != "dynamic":
        options["cache_implementation"] = "static"
    if cache == "compiled":
        model.forward = torch.compile(model.forward, fullgraph=True)

    def write(prompts: list[list[int]], count: int) -> object:
        ids = torch.tensor(prompts)
        lengths = {"min_new_tokens": count, "max_new_tokens": count}
        with torch.inference_mode():
            return model.generate(ids, attention_mask=torch.ones_like(ids), **lengths, **options)

    return write


def _transformers_model(path: str, precision: str) -> Any:
    import torch
    import transformers

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, precision)).eval()


def with_ctranslate2(path: str, precision: str, _: str) -> Write:
    """Returns `generate_batch` of CTranslate2, for the converted model."""
    import ctranslate2

    with tempfile.TemporaryDirectory() as folder:
        converted = os.path.join(folder, "model")
        ctranslate2.converters.TransformersConverter(path).convert(converted, quantization=precision)
        threads = len(os.sched_getaffinity(0))
        model = ctranslate2.Generator(converted, device="cpu", compute_type=precision, intra_threads=threads)
        with open(os.path.join(converted, "vocabulary.json"), encoding="utf-8") as file:
            vocabulary = json.load(file)

    def write(prompts: list[list[int]], count: int) -> object:
        tokens = [[vocabulary[i] for i in prompt] for prompt in prompts]
        lengths = {"min_length": count, "max_length": count}
        return model.generate_batch(tokens, **lengths, beam_size=1, include_prompt_in_result=False)

    return write


def with_keras_hub(path: str, precision: str, _: str) -> Write:
    """Returns `generate` of KerasHub, on TensorFlow."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras_hub

    model = keras_hub.models.GPT2CausalLM.from_preset(path, dtype=precision, preprocessor=None)
    model.compile(sampler="greedy")

    def write(prompts: list[list[int]], count: int) -> object:
        ids = np.pad(np.array(prompts), ((0, 0), (0, count)))
        mask = np.arange(ids.shape[1]) < len(prompts[0])
        inputs = {"token_ids": ids, "padding_mask": np.broadcast_to(mask, ids.shape)}
        return model.generate(inputs, stop_token_ids=None)

    return write


def with_llama_cpp(path: str, _: str, __: str) -> Write:
    """Returns the completions of llama.cpp's server, called in this process, for a GGUF file with its own weights."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_ctx, parameters.n_parallel = 2_048, 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = len(os.sched_getaffinity(0))
    server = xllamacpp.Server(parameters)

    def write(prompts: list[list[int]], count: int) -> object:
        options = {"max_tokens": count, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        result = server.handle_completions({"prompt": prompts[0], **options})
        if result["usage"]["completion_tokens"] != count:
            raise RuntimeError(f"Expected {count} tokens, received {result}.")
        return result

    return write


PEERS = {
    "transformers": with_transformers,
    "ctranslate2": with_ctranslate2,
    "keras_hub": with_keras_hub,
    "llama_cpp": with_llama_cpp,
}


def write_logits(path: str, precision: str) -> None:
    """Writes the logits that each line of standard input asks for."""
    import torch

    model = _transformers_model(path, precision)
    for line in sys.stdin:
        request = json.loads(line)
        with torch.inference_mode():
            logits = model(torch.tensor(request["prompts"])).logits[0]
        np.save(request["logits_file"], logits.float().numpy())
        print(json.dumps({"shape": logits.shape}), flush=True)


def main() -> None:
    """Generates, or writes logits, for each line of standard input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=[*PEERS, "logits"])
    parser.add_argument("--model", required=True, help="Folder in Hugging Face's layout; for llama.cpp a GGUF file.")
    parser.add_argument("--precision", default="float32", help="Of the weights; llama.cpp takes the file's.")
    caches = ["dynamic", "static", "compiled"]
    parser.add_argument("--cache", choices=caches, default="dynamic", help="transformers only: kind of cache.")
    values = parser.parse_args()
    if values.peer == "logits":
        write_logits(values.model, values.precision)
        return
    write = PEERS[values.peer](values.model, values.precision, values.cache)
    for line in sys.stdin:
        request = json.loads(line)
        seconds = []
        for count in (1, request["count"]):
            start = time.perf_counter()
            write(request["prompts"], count)
            seconds.append(time.perf_counter() - start)
        print(json.dumps({"prefill": seconds[0], "seconds": seconds[1]}), flush=True)


if __name__ == "__main__":
    main()
