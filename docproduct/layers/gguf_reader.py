"""Reads the GGUF files of llama.cpp: metadata, and tensors as float32 whatever they are quantized to.

Source: ggml's docs/gguf.md, versions 2 and 3, little-endian. The package `gguf` knows the quantizations. It could read
the file, too, but makes an array of every token and merge: 6.6 s for SmolLM2's 98,000, which take 0.2 s here.
"""

import importlib.metadata
import math
import mmap
import struct
from typing import Any, NamedTuple

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

from data_pipeline.folders import files

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_ALIGNMENT = 32  # bytes, where the file says nothing
_MAX_DIMENSIONS = 4
# The struct formats of the kinds of numbers.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


class StoredTensor(NamedTuple):
    """Where a tensor stands in the file.

    Attributes:
      shape: as NumPy has it: the last dimension is contiguous.
      kind: its number format or quantization.
      start: its first byte.
      num_bytes: its size.
    """

    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    start: int
    num_bytes: int


class GGUFFile:
    """An open GGUF file.

    Attributes:
      path: the file.
      metadata: {key: value}: numbers, texts, and lists of them.
      tensors: {name: where it stands}.
    """

    def __init__(self, path: str):
        """Reads everything but the tensors' values.

        Raises:
          FileNotFoundError: the file is missing.
          ValueError: it is no GGUF file, damaged, or of a version or quantization that is not built in.
        """
        self.path = path
        if files.size(path) < 24:
            raise ValueError(f"{path} is no GGUF file: it has {files.size(path)} bytes. Fetch it again.")
        with open(path, "rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._at = 0
        num_tensors, num_values = self._header()
        self.metadata = self._metadata(num_values)
        self.tensors = self._tensors(num_tensors)

    def values(self, name: str) -> np.ndarray:
        """Returns the values of a tensor as float32, in memory of their own.

        Raises:
          ValueError: the quantization is not built in, or values are not finite.
        """
        tensor = self.tensors[name]
        data = np.frombuffer(self._data, np.uint8, tensor.num_bytes, tensor.start)
        rows = data.reshape(math.prod(tensor.shape[:-1]), -1)
        try:
            # NaN and infinity in a damaged scale warn on their way.
            with np.errstate(all="ignore"):
                values = np.array(dequantize(rows, tensor.kind), np.float32).reshape(tensor.shape)
        except NotImplementedError:
            raise ValueError(
                f"{self.path} has {name} as {tensor.kind.name}, which the package gguf does not dequantize. Take a "
                "file with F32, F16, BF16, Q8_0, or another quantization of llama.cpp."
            ) from None
        if not np.isfinite(values).all():
            raise ValueError(f"{self.path} is damaged: values of {name} are not finite. Fetch it again.")
        return values

    def _header(self) -> tuple[int, int]:
        """Returns the numbers of tensors and of metadata."""
        magic = self._take(4)
        if magic != _MAGIC:
            raise ValueError(
                f"{self.path} is no GGUF file: it begins with {magic!r}, expected {_MAGIC!r}. Fetch it again."
            )
        version = self._number(4)
        if version & 0xFFFF == 0:
            raise ValueError(f"{self.path} is big-endian. Expected little-endian: take the file for usual processors.")
        if version not in _VERSIONS:
            raise ValueError(
                f"{self.path} has version {version} of GGUF; expected {' or '.join(map(str, _VERSIONS))}. Take a newer "
                "file, or a newer docproduct."
            )
        return self._number(10), self._number(10)

    def _metadata(self, num_values: int) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        for _ in range(num_values):
            key = self._text()
            if key in metadata:
                raise self._damaged(f"the key {key} stands there twice")
            metadata[key] = self._value(self._number(4))
        return metadata

    def _tensors(self, num_tensors: int) -> dict[str, StoredTensor]:
        stored = []
        for _ in range(num_tensors):
            name, num_dimensions = self._text(), self._number(4)
            if not 1 <= num_dimensions <= _MAX_DIMENSIONS:
                raise self._damaged(f"the tensor {name} has {num_dimensions} dimensions")
            shape = tuple(self._number(10) for _ in range(num_dimensions))[::-1]
            stored.append((name, shape, self._number(4), self._number(10)))
        alignment = self.metadata.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self._damaged(f"general.alignment is {alignment!r}, which is no power of two")
        first = -(-self._at // alignment) * alignment
        tensors = {name: self._stored(name, shape, kind, first + offset) for name, shape, kind, offset in stored}
        if len(tensors) < len(stored):
            raise self._damaged("a tensor stands there twice")
        return tensors

    def _stored(self, name: str, shape: tuple[int, ...], kind: int, start: int) -> StoredTensor:
        try:
            kind = GGMLQuantizationType(kind)
        except ValueError:
            version = importlib.metadata.version("gguf")
            raise ValueError(
                f"{self.path} has {name} in the quantization number {kind}, which gguf {version} does not know. Take a "
                "file of another quantization, such as Q8_0, or upgrade gguf."
            ) from None
        per_block, block_bytes = GGML_QUANT_SIZES[kind]
        if shape[-1] % per_block or 0 in shape:
            raise self._damaged(f"{name} has the shape {list(shape)}, which is not in blocks of {per_block}")
        num_bytes = math.prod(shape) // per_block * block_bytes
        if start + num_bytes > len(self._data):
            raise self._damaged(f"{name} ends at byte {start + num_bytes}, and the file has {len(self._data)}")
        return StoredTensor(shape, kind, start, num_bytes)

    def _value(self, kind: int) -> Any:
        if kind in _NUMBERS:
            return self._number(kind)
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            raise self._damaged(f"a value is of kind {kind}")
        kind, length = self._number(4), self._number(10)
        if kind == _STRING:
            self._check_room(8 * length)
            return [self._text() for _ in range(length)]
        if kind not in _NUMBERS:
            raise self._damaged(f"a list holds values of kind {kind}")
        self._check_room(length)  # before the format, which would ask for memory
        return list(self._numbers(f"<{length}{_NUMBERS[kind]}"))

    def _number(self, kind: int) -> Any:
        return self._numbers(f"<{_NUMBERS[kind]}")[0]

    def _numbers(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self._take(struct.calcsize(form)))

    def _text(self) -> str:
        data = self._take(self._number(10))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._damaged(f"a text is not UTF-8 ({error})") from None

    def _take(self, num_bytes: int) -> bytes:
        self._check_room(num_bytes)
        self._at += num_bytes
        return self._data[self._at - num_bytes : self._at]

    def _check_room(self, num_bytes: int) -> None:
        if self._at + num_bytes > len(self._data):
            raise self._damaged(f"it needs {num_bytes} bytes at {self._at}, and has {len(self._data)} in all")

    def _damaged(self, what: str) -> ValueError:
        return ValueError(f"{self.path} is damaged or cut off: {what}. Fetch it again.")
