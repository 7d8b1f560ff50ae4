"""Makes rows of token ids for causal language models: from pairs, and from documents packed into windows."""
