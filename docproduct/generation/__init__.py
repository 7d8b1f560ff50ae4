"""Writing with a causal language model; knows no system and no retriever."""
