"""float32 or bfloat16: which Keras dtype policy a model gets."""

import contextlib

import tensorflow as tf

PRECISIONS = ("auto", "float32", "bfloat16")


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


def _fast_bfloat16() -> bool:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return all(
            tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) >= (8, 0) for gpu in gpus
        )
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        return any(line.startswith("flags") and "amx_bf16" in line.split() for line in file)
    return False
