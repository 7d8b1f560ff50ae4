"""The bundled sample: health questions and answers, written for this project."""

import os

PAIRS_FILE = os.path.join(os.path.dirname(__file__), "pairs.csv")
EXAMPLE_QUESTION = "Every spring I sneeze and my eyes itch. What could it be?"
