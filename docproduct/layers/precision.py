"""Which number formats are fast and exact on this machine: float32, bfloat16, int8."""

import contextlib
import platform

import tensorflow as tf

PRECISIONS = ("auto", "float32", "bfloat16")
_PROCESSOR_FILE = "/proc/cpuinfo"


def dtype_policy(precision: str) -> str:
    """Returns the Keras dtype policy for `auto`, `float32` or `bfloat16`.

    `auto` is mixed bfloat16 where it is faster than float32: on GPUs since Ampere (compute capability 8.0) and on
    processors with AMX. Where only avx512_bf16 is there, TensorFlow's bfloat16 product was slower than float32.
    """
    if precision == "auto":
        precision = "bfloat16" if _fast_bfloat16() else "float32"
    policies = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
    if precision not in policies:
        raise ValueError(f"precision is {precision!r}; expected {', '.join(PRECISIONS)}.")
    return policies[precision]


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


def _fast_bfloat16() -> bool:
    if gpus := tf.config.list_physical_devices("GPU"):
        details = map(tf.config.experimental.get_device_details, gpus)
        return all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    return "amx_bf16" in processor_flags()
