"""The grounding adapter: teaches SmolLM2-135M-Instruct to copy from its sources, and to say when they do not answer.

adapter/README.md says how it was trained, on what, and under which licence.
"""

import os

ADAPTER_DIR = os.path.join(os.path.dirname(__file__), "adapter")
