"""The bundled sample: health questions and answers, written for this project, and the terms of medical emergencies."""

import os

PAIRS_FILE = os.path.join(os.path.dirname(__file__), "pairs.csv")
EMERGENCY_LIST = os.path.join(os.path.dirname(__file__), "emergency.txt")
EXAMPLE_QUESTION = "I keep waking up drenched and burning hot from menopause; how do I cool down naturally?"
