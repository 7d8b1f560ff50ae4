"""What in the sources speaks for a sentence and what against it, by words, numbers, negations and names.

lexicon.py (the words that are known), wording.py (a text as keys and numbers), gaps.py (where two sentences differ),
sources.py (a sentence beside the sources).
"""
