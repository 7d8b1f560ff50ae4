"""Which number formats are fast and exact on this machine: float32, bfloat16, int8."""

import contextlib
import os
import platform

import tensorflow as tf

from docproduct.layers import precision_trial
from docproduct.layers.array_ops import USES_JAX
from docproduct.layers.precision_trial import POLICIES

PRECISIONS = ("auto", "float32", "bfloat16")
_PROCESSOR_FILE = "/proc/cpuinfo"
_BFLOAT16_INSTRUCTIONS = {"amx_bf16", "avx512_bf16"}
_WORTH = 1.1  # times as fast: bfloat16 is less exact, and like machines should choose alike


def dtype_policy(precision: str, training: bool = False) -> str:
    """Returns the Keras dtype policy for `auto`, `float32` or `bfloat16`.

    `auto` is mixed bfloat16 where it is faster than float32: on GPUs since Ampere (compute capability 8.0), and on
    processors with bfloat16 instructions if layers of a BERT were faster when both were timed, once, on this machine.
    With JAX, processors are not timed: they use float32.

    Args:
      precision: One of `PRECISIONS`.
      training: Whether gradients will be computed; these are timed apart.
    """
    if precision == "auto":
        precision = "bfloat16" if _fast_bfloat16(training) else "float32"
    if precision not in POLICIES:
        raise ValueError(f"precision is {precision!r}; expected {', '.join(PRECISIONS)}.")
    return POLICIES[precision]


def processor_flags() -> set[str]:
    """Returns the instruction sets of this machine's processor, as Linux names them; empty on other systems."""
    return set(_processor_line("flags").split())


def processor_name() -> str:
    """Returns the processor's model, or its architecture where the system does not say."""
    return _processor_line("model name") or platform.processor() or platform.machine()


def _processor_line(name: str) -> str:
    """Returns what Linux says of the first processor under a name; empty if it says nothing."""
    with contextlib.suppress(OSError), open(_PROCESSOR_FILE, encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return ""


def _fast_bfloat16(training: bool) -> bool:
    if USES_JAX:
        import jax  # here, as it need not be installed

        return all(float(getattr(device, "compute_capability", 0)) >= 8 for device in jax.devices())
    if gpus := tf.config.list_physical_devices("GPU"):
        details = map(tf.config.experimental.get_device_details, gpus)
        return all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    instructions = sorted(_BFLOAT16_INSTRUCTIONS & processor_flags())
    if not instructions:
        return False  # TensorFlow computes in float32 there, and converts
    machine = f"{processor_name()}, {' '.join(instructions)}, {os.cpu_count()} cores, TensorFlow {tf.__version__}"
    times = precision_trial.seconds(training, machine)
    return times["float32"] >= _WORTH * times["bfloat16"]
