"""Tiny GGUF files, written with llama.cpp's own package from Hugging Face's names, as its converter does."""

import json
import pathlib

import gguf
import numpy as np

GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden/decoder_ids.json").read_text(encoding="utf-8"))
WIDTH, INNER, HEADS, KEY_HEADS, LAYERS, CONTEXT = 64, 96, 4, 2, 3, 80
_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def tensors(architecture, vocab_size, head_width=WIDTH // HEADS, tied=True, num_layers=LAYERS):
    """Random weights under Hugging Face's names. Kernels are multiples of 0.5 from -4 to 3.5, with -4 in each row."""
    dice = np.random.default_rng(7)

    def kernel(num_out, num_in):
        values = dice.integers(-8, 8, (num_out, num_in)) / 2
        values[:, ::32] = -4.0
        values[:, 1::32] = 3.5
        return values.astype(np.float32)

    def vector(size):
        return dice.normal(1, 0.3, size).astype(np.float32)

    made = {"model.embed_tokens.weight": kernel(vocab_size, WIDTH), "model.norm.weight": vector(WIDTH)}
    if not tied:
        made["lm_head.weight"] = kernel(vocab_size, WIDTH)
    for i in range(num_layers):
        layer = f"model.layers.{i}"
        made |= {f"{layer}.{n}.weight": vector(WIDTH) for n in ("input_layernorm", "post_attention_layernorm")}
        for name, heads in (("q", HEADS), ("k", KEY_HEADS), ("v", KEY_HEADS)):
            made[f"{layer}.self_attn.{name}_proj.weight"] = kernel(heads * head_width, WIDTH)
            if architecture == "qwen2":
                made[f"{layer}.self_attn.{name}_proj.bias"] = vector(heads * head_width)
            if architecture == "qwen3" and name != "v":
                made[f"{layer}.self_attn.{name}_norm.weight"] = vector(head_width)
        made[f"{layer}.self_attn.o_proj.weight"] = kernel(WIDTH, HEADS * head_width)
        made |= {f"{layer}.mlp.{name}_proj.weight": kernel(INNER, WIDTH) for name in ("gate", "up")}
        made[f"{layer}.mlp.down_proj.weight"] = kernel(WIDTH, INNER)
    return made


def gguf_name(name):
    """llama.cpp's name of a tensor."""
    stem, _, part = name.rpartition(".")
    if stem.startswith("model.layers."):
        _, _, number, inner = stem.split(".", 3)
        return f"blk.{number}.{_NAMES[inner]}.{part}"
    return f"{_NAMES[stem]}.{part}"


def permuted(values, heads):
    """`permute` of llama.cpp's convert_hf_to_gguf.py."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def write(path, architecture="llama", weights=None, quantization="F32", tokenizer="llama3", change=None, **options):
    """Writes a model, and returns its weights under Hugging Face's names.

    change: a function that gets the writer, to add what the file should have beside; or without what, in `skip`.
    options: `head_width`, `tied`, `num_layers`, `skip` (metadata keys to leave out), `pre` (the pre-tokenizer's name).
    """
    skip, head_width = options.pop("skip", ()), options.pop("head_width", WIDTH // HEADS)
    entry = GOLDEN["tokenizers"][tokenizer]
    vocab_size = 1 + max([*entry["content"]["model"]["vocab"].values(), *(t["id"] for t in added(entry))])
    tied, num_layers = options.pop("tied", True), options.pop("num_layers", LAYERS)
    weights = weights or tensors(architecture, vocab_size, head_width, tied, num_layers)
    writer = gguf.GGUFWriter(str(path), architecture)
    metadata = {
        "context_length": CONTEXT, "block_count": num_layers, "embedding_length": WIDTH, "feed_forward_length": INNER,
        "attention.head_count": HEADS, "attention.head_count_kv": KEY_HEADS, "rope.dimension_count": head_width,
        "attention.key_length": head_width, "attention.value_length": head_width,
    }  # fmt: skip
    for key, value in metadata.items():
        if key not in skip:
            writer.add_uint32(f"{architecture}.{key}", value)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_float32(f"{architecture}.rope.freq_base", 50_000.0)
    write_tokenizer(writer, entry, options.pop("pre", "llama-bpe"), skip)
    kind = gguf.GGMLQuantizationType[quantization]
    for name, values in weights.items():
        if architecture == "llama" and (".q_proj." in name or ".k_proj." in name):
            values = permuted(values, HEADS if ".q_proj." in name else KEY_HEADS)
        if values.ndim == 1 or kind == gguf.GGMLQuantizationType.F32:  # as in llama.cpp
            writer.add_tensor(gguf_name(name), values)
        else:
            writer.add_tensor(gguf_name(name), gguf.quantize(values, kind), raw_dtype=kind)
    if change:
        change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def added(entry):
    return entry["content"]["added_tokens"]


def write_tokenizer(writer, entry, pre="llama-bpe", skip=()):
    """Writes the metadata of a tokenizer of `GOLDEN`."""
    model, config = entry["content"]["model"], entry["config"]
    ids = model["vocab"] | {token["content"]: token["id"] for token in added(entry)}
    tokens = sorted(ids, key=ids.get)
    special = {token["content"]: token["special"] for token in added(entry)}
    kinds = [4 - special[token] if token in special else 1 for token in tokens]
    if model["byte_fallback"]:
        kinds = [
            6 if token.startswith("<0x") else 2 if token == "<unk>" else k
            for token, k in zip(tokens, kinds, strict=True)
        ]
        ranks = {"".join(pair): rank for rank, pair in enumerate(model["merges"])}
        # SentencePiece numbers its pieces downwards; characters come last.
        scores = [-float(ranks.get(token, len(ranks) + i)) for i, token in enumerate(tokens)]
        writer.add_token_scores(
            [0.0 if kind in (2, 3, 6) else score for score, kind in zip(scores, kinds, strict=True)]
        )
        writer.add_tokenizer_model("llama")
    else:
        writer.add_tokenizer_model("gpt2")
        if "merges" not in skip:
            writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
        if "pre" not in skip:
            writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    for key, name in (("bos", "bos_token"), ("eos", "eos_token")):
        if name in config and f"{key}_token_id" not in skip:
            writer.add_uint32(f"tokenizer.ggml.{key}_token_id", ids[config[name]])
    writer.add_chat_template(config["chat_template"])
