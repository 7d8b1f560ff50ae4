"""Which engine trains: TensorFlow, or JAX.

Imports no Keras, which takes its backend from the environment when it is imported.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence

ENGINES = TENSORFLOW, JAX = ("tensorflow", "jax")
_BACKEND = "KERAS_BACKEND"


def choose(arguments: Sequence[str]) -> None:
    """Makes JAX Keras' backend if a script's arguments ask for it; call it before anything imports Keras.

    Ends the script if JAX is not installed.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--engine", "-engine", nargs="?")
    if parser.parse_known_args(arguments)[0].engine != JAX:
        return
    if not importlib.util.find_spec("jax"):
        sys.exit("error: --engine=jax needs JAX, which is not installed. Install it: pip install -e '.[jax]'")
    os.environ[_BACKEND] = JAX


def check(engine: str, backend: str) -> None:
    """Raises a ValueError if Keras has another backend than the engine; `backend` is Keras' own name of it."""
    if engine == backend:
        return
    if engine == JAX:
        raise ValueError("--engine=jax is only seen among the arguments of the script itself. Give it there.")
    raise ValueError(f"--engine is {engine}, but Keras uses {backend}. Unset {_BACKEND}, or set it to {engine}.")
