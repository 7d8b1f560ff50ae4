"""Makes llama_logits.json: logits of transformers' LLaMA-style models with weights that `weights` below draws.

    pip install torch==2.13.0 transformers==5.24.0 numpy
    python -m tests.golden.make_llama_logits

Run it in an environment of its own, from the top of the project.
"""

import importlib.metadata
import json
import pathlib

from tests.golden.make_gpt2_logits import weights

SIZES = {"vocab_size": 31, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 20}
SIZES |= {"num_key_value_heads": 2, "head_dim": 4, "max_position_embeddings": 64}
_STRETCHED = {"factor": 4.0, "original_max_position_embeddings": 16}
_LLAMA3 = {"rope_type": "llama3", "rope_theta": 100.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0} | _STRETCHED
_YARN = {"rope_type": "yarn", "rope_theta": 100.0} | _STRETCHED
# model type, and what differs from its defaults.
VARIANTS = {
    "llama2": ("llama", {"num_key_value_heads": 6, "head_dim": 2}),
    "llama3": ("llama", {"rope_parameters": _LLAMA3, "head_dim": 8}),
    "tied_with_biases": ("llama", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    "linear": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 3.0}}),
    "yarn": ("llama", {"rope_parameters": _YARN, "head_dim": 8}),
    "yarn_by_hand": (
        "llama",
        {"rope_parameters": _YARN | {"beta_fast": 3.0, "beta_slow": 0.5, "truncate": False, "attention_factor": 1.3}},
    ),
    "yarn_of_deepseek": ("llama", {"rope_parameters": _YARN | {"mscale": 2.0, "mscale_all_dim": 0.5}, "head_dim": 8}),
    "mistral": ("mistral", {"sliding_window": 4}),
    "qwen2": ("qwen2", {"rms_norm_eps": 1e-3}),
    "qwen2_sliding": ("qwen2", {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}),
    "qwen3": ("qwen3", {"head_dim": 10, "tie_word_embeddings": True}),
}
LENGTH = 19  # longer than every sliding window, and than the window before stretching


def main() -> None:
    """Writes the file."""
    import numpy as np
    import torch  # not installed where the tests run
    import transformers

    ids = np.random.default_rng(1).integers(0, SIZES["vocab_size"], (2, LENGTH))
    found = {}
    for name, (kind, options) in VARIANTS.items():
        config = transformers.AutoConfig.for_model(kind, **SIZES | options)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        parameters = dict(model.named_parameters())
        shapes = {key: tuple(value.shape) for key, value in parameters.items()}
        with torch.no_grad():
            for key, value in weights(shapes).items():
                parameters[key].copy_(torch.from_numpy(value))
            logits = model(input_ids=torch.tensor(ids)).logits.numpy().astype(float).round(5).tolist()
        found[name] = {"config": config.to_diff_dict(), "shapes": shapes, "logits": logits}
    content = {"transformers": importlib.metadata.version("transformers"), "ids": ids.tolist(), "variants": found}
    path = pathlib.Path(__file__).parent / "llama_logits.json"
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
