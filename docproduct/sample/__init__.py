"""The bundled sample: health questions and answers, written for this project."""

import os

PAIRS_FILE = os.path.join(os.path.dirname(__file__), "pairs.csv")
EXAMPLE_QUESTION = "My nose runs every spring when I mow the lawn. What is it?"
