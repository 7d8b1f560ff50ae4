"""Tiny chat models for tests of conversations."""

import dataclasses

from docproduct.layers.llama_config import LlamaConfig
from docproduct.systems.generator import TrainedGenerator
from tests.toy_chat import chat_tokenizer

TEXTS = ["what is the cause? the x z helps against y.", "And in children? No stored answer is close enough."]
SIZES = LlamaConfig(
    width=16,
    num_layers=1,
    num_heads=2,
    num_key_value_heads=1,
    head_width=6,
    inner_width=20,
    max_positions=900,
    initializer_range=0.3,
)


def chat_model(**sizes) -> TrainedGenerator:
    """Returns a chat model with random weights and SmolLM2's template."""
    tokenizer = chat_tokenizer(TEXTS)
    return TrainedGenerator.make(dataclasses.replace(SIZES, vocab_size=tokenizer.vocab_size, **sizes), tokenizer, 3)
