"""Text generation with a causal language model.

causal_lm.py (what a model must offer), decoding.py (inside a graph), lookup.py (prompt look-up), sampling.py (choice of
the next token), session.py (answers to prompts), export.py (SavedModel). Knows no system and no retriever.
"""
