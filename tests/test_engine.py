"""Which engine a script's arguments choose, and what is said where engine, Keras and mesh do not fit together."""

import os

import pytest

from docproduct.training import engine, mesh


@pytest.mark.parametrize(
    ("arguments", "backend"),
    [
        (["--task=chat", "--engine=jax"], "jax"),
        (["-engine", "jax", "x"], "jax"),
        (["--engine=jax", "--engine=tensorflow"], None),
        (["--eng=jax"], None),
        ([], None),
    ],
)
def test_the_engine_is_chosen_by_the_arguments(monkeypatch, arguments, backend):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    engine.choose(arguments)
    assert os.environ.pop("KERAS_BACKEND", None) == backend


def test_errors_without_jax(monkeypatch):
    with pytest.raises(ValueError, match="--engine is tensorflow, but Keras uses jax. Unset KERAS_BACKEND"):
        engine.check("tensorflow", "jax")
    with pytest.raises(ValueError, match="--engine=jax is only seen among the arguments of the script itself"):
        mesh.set_up("jax", None, "default")  # in this process, Keras has TensorFlow
    with pytest.raises(ValueError, match="--mesh is for --engine=jax"):
        mesh.set_up("tensorflow", "data=2", "default")
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"JAX, which is not installed. Install it: pip install -e '\.\[jax\]'"):
        engine.choose(["--engine=jax"])
