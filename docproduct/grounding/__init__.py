"""The grounding adapter: it makes SmolLM2-135M-Instruct copy its answers from numbered sources.

adapter/README.md says how it was trained, on what, and under which licence.
"""

import os

ADAPTER_DIR = os.path.join(os.path.dirname(__file__), "adapter")
