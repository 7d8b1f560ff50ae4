"""Multiple choice: a causal language model ranks the propositions of exam questions, alone or in a series.

questions.py    rows of a prepared folder as prompts and choices; token ids
likelihood.py   how likely a language model finds each choice, without training
metrics.py      accuracy, exact match, Hamming score, with standard errors
evaluation.py   results by kind and subject, intervals, calibration, series behind own answers, order bias
baselines.py    chance, the most frequent answer, the longest choice, shared words
config.py flags.py model.py losses.py task.py train.py folder.py report.py    a head that learns to rank the choices
"""
