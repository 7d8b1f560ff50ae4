"""Published folders of tiny LLaMA-style models, with random weights and a small byte-level tokenizer."""

import csv
import json
import pathlib

import ml_dtypes
import numpy as np
import safetensors.numpy
from tokenizers import ByteLevelBPETokenizer

from docproduct import sample
from tests.golden.make_gpt2_logits import weights

MARKS = ("<|begin|>", "<|im_start|>", "<|im_end|>", "<|end|>")  # ids 0 to 3
VOCABULARY, ROWS = 320, 330  # ids of the tokenizer, and rows of the table
TEMPLATE = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
CONFIG = {
    "model_type": "mistral",
    "vocab_size": ROWS,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "intermediate_size": 20,
    "max_position_embeddings": 131_072,  # nothing of this size is ever made
    "sliding_window": 7,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1_000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 2,
}


def tensors_of(config):
    """Random weights under Hugging Face's names, written down from transformers' models."""
    width, inner, heads = (config[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads"))
    queries, values = (n * config["head_dim"] for n in (heads, config["num_key_value_heads"]))
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], width), "model.norm.weight": (width,)}
    for i in range(config["num_hidden_layers"]):
        layer = {
            **{"input_layernorm": (width,), "post_attention_layernorm": (width,)},
            **{"self_attn.q_proj": (queries, width), "self_attn.k_proj": (values, width)},
            **{"self_attn.v_proj": (values, width), "self_attn.o_proj": (width, queries)},
            **{"mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width), "mlp.down_proj": (width, inner)},
        }
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    return weights(shapes)


def write(folder, config=CONFIG, dtype=np.float32, num_files=1, template=TEMPLATE):
    """Writes a folder as it is published, and returns its tensors in float32."""
    folder = pathlib.Path(folder)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {name: value.astype(dtype) for name, value in tensors_of(config).items()}
    names = sorted(tensors)
    files = [f"model-{i}.safetensors" for i in range(num_files)] if num_files > 1 else ["model.safetensors"]
    weight_map = {name: files[i % num_files] for i, name in enumerate(names)}
    for file in files:
        safetensors.numpy.save_file({n: tensors[n] for n in names if weight_map[n] == file}, folder / file)
    if num_files > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    write_tokenizer(folder, template)
    return {name: value.astype(np.float32) for name, value in tensors.items()}


def write_tokenizer(folder, template):
    with open(sample.PAIRS_FILE, encoding="utf-8", newline="") as file:
        texts = [row["answer"] for row in csv.DictReader(file)]
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, VOCABULARY, 2, show_progress=False, special_tokens=list(MARKS))
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"bos_token": MARKS[0], "eos_token": MARKS[2], "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]}))


BFLOAT16 = ml_dtypes.bfloat16
