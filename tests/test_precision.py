"""Which precision `auto` chooses, and the cache of what was timed; nothing is timed here."""

import json

import pytest
import tensorflow as tf

from data_pipeline.folders import files
from docproduct.layers import precision, precision_trial

real_seconds = precision_trial.seconds  # conftest.py replaces it
SLOW = {"float32": 1.0, "bfloat16": 2.0}
FAST = {"float32": 2.0, "bfloat16": 1.0}


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """Returns a function that sets the instructions of this machine's processor."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    monkeypatch.setattr(precision, "_PROCESSOR_FILE", str(tmp_path / "cpuinfo"))

    def write(flags):
        text = f"processor\t: 0\nmodel name\t: amx_bf16 9\nflags\t\t: {flags}\n\nprocessor\t: 1\nmodel name\t: other\n"
        (tmp_path / "cpuinfo").write_text(text)

    return write


@pytest.fixture
def timed(tmp_path, monkeypatch):
    """Sets a measurement that takes no time, and a cache of the test's own; returns what was measured, in order."""
    calls = []
    monkeypatch.setattr(files, "user_cache", lambda name: str(tmp_path / "cache/docproduct" / name))
    monkeypatch.setattr(precision_trial, "seconds", real_seconds)
    monkeypatch.setattr(precision_trial, "measure", lambda training: calls.append(training) or dict(FAST))
    return calls


@pytest.mark.parametrize(
    ("times", "expected"),
    [(FAST, "mixed_bfloat16"), (SLOW, "float32"), ({"float32": 1.05, "bfloat16": 1.0}, "float32")],
)
@pytest.mark.parametrize("flags", ["fpu amx_bf16 sse2", "fpu avx512_bf16 sse2"])
def test_auto_takes_what_was_faster(processor, monkeypatch, times, flags, expected):
    processor(flags)
    monkeypatch.setattr(precision_trial, "seconds", lambda training, machine: times)
    assert precision.dtype_policy("auto") == expected
    assert precision.dtype_policy("float32") == "float32"


def test_training_and_encoding_are_timed_apart(processor, monkeypatch):
    processor("avx512_bf16")
    monkeypatch.setattr(precision_trial, "seconds", lambda training, machine: SLOW if training else FAST)
    assert precision.dtype_policy("auto") == "mixed_bfloat16"
    assert precision.dtype_policy("auto", training=True) == "float32"


@pytest.mark.parametrize("flags", ["fpu avx2 avx512f", None])
def test_nothing_is_timed_without_bfloat16_instructions(processor, timed, flags):
    if flags:  # None: no such file, as on other systems
        processor(flags)
    assert precision.dtype_policy("auto") == "float32"
    assert timed == []


def test_a_machine_is_timed_once(processor, timed, tmp_path):
    processor("avx512_bf16")
    for _ in range(2):
        assert precision.dtype_policy("auto") == "mixed_bfloat16"
        assert precision.dtype_policy("auto", training=True) == "mixed_bfloat16"
    assert timed == [False, True]
    ((machine, times),) = json.loads((tmp_path / "cache/docproduct/precision.json").read_text()).items()
    assert machine.startswith("amx_bf16 9, avx512_bf16, ")
    assert machine.endswith(f"TensorFlow {tf.__version__}")
    assert times == {"encoding": FAST, "training": FAST}
    processor("avx512_bf16 amx_bf16")  # another machine with the same home
    assert precision.dtype_policy("auto") == "mixed_bfloat16"
    assert timed == [False, True, False]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"m": 3}', '{"m": {"encoding": {"float32": 1.0}}}', '{"m": {"encoding": {"float32": 0, "x": 1}}}'],
)
def test_a_damaged_cache_is_replaced(timed, tmp_path, content):
    path = tmp_path / "cache/docproduct/precision.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    for _ in range(2):
        assert precision_trial.seconds(False, "m") == FAST
    assert timed == [False]
    assert json.loads(path.read_text())["m"]["encoding"] == FAST


def test_a_cache_that_cannot_be_written_is_no_error(timed, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    for _ in range(2):
        assert precision_trial.seconds(True, "m") == FAST
    assert timed == [True, True]


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_a_pass_runs_in_both_precisions(monkeypatch, training):
    """The passes that are timed exist and are different; how long they take is not looked at."""
    monkeypatch.setattr(precision_trial, "_ROUNDS", 1)
    monkeypatch.setattr(precision_trial, "_TEXTS", 2)
    assert precision_trial._is_complete(precision_trial.measure(training))
