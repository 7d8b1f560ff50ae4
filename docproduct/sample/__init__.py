"""The bundled sample: health questions and answers, written for this project."""

import os

PAIRS_FILE = os.path.join(os.path.dirname(__file__), "pairs.csv")
# One of them: the demo's toy generator knows no other.
EXAMPLE_QUESTION = "I keep waking up drenched and burning hot from menopause; how do I cool down naturally?"
