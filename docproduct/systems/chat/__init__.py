"""Chat: a language model learns the replies of dialogues, first of general ones, then of its field (ChatDoctor).

A trained model is a generator's folder, or an adapter's. data_pipeline has what makes rows of dialogues:
corpora/dialogues.py, prompts/dialogue_prompts.py and token_rows/dialogue_rows.py.

config.py flags.py train.py task.py    the training
start.py     the model before its first step
rows.py      the dialogues of a prepared folder as rows, and their batches
dev.py       perplexity of the replies' tokens, and replies beside the right ones
report.py    model card
"""
