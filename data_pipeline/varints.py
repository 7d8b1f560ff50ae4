"""Varints, protobuf's integers: 7 bits a byte, the lowest first; the top bit says that another byte follows."""

import numpy as np


def varints(values: np.ndarray) -> np.ndarray:
    """Encodes numbers one after the other.

    Args:
      values: [N] of any integer type; negative ones take ten bytes, as in protobuf.

    Returns:
      [number of bytes] uint8.
    """
    unsigned = values.astype(np.int64).view(np.uint64)[:, None]  # [N, 1]
    width = max(1, -(-int(unsigned.max(initial=0)).bit_length() // 7))
    sevens = unsigned >> (7 * np.arange(width, dtype=np.uint64))  # [N, width]
    needed = sevens > 0
    needed[:, 0] = True
    followed = np.zeros_like(needed)
    followed[:, :-1] = needed[:, 1:]
    return ((sevens & 0x7F) | followed * np.uint64(0x80)).astype(np.uint8)[needed]


def split_varints(packed: np.ndarray) -> list[bytes]:
    """Returns the bytes of each number: [number of bytes] uint8 -> N pieces."""
    ends = (np.flatnonzero(packed < 0x80) + 1).tolist()
    content = packed.tobytes()
    return [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]
