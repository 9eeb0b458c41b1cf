"""An operator's inputs as the profiler recorded them: dimensions, types, strides, and some by value."""

from __future__ import annotations

import re
from math import prod
from typing import Any

import msgspec

TYPE_BYTES = {
    "double": 8,
    "float": 4,
    "c10::BFloat16": 2,
    "c10::Half": 2,
    "long int": 8,
    "long": 8,
    "int": 4,
    "short": 2,
    "bool": 1,
    "signed char": 1,
    "unsigned char": 1,
    "c10::Float8_e4m3fn": 1,
    "c10::Float8_e5m2": 1,
    "c10::Float8_e4m3fnuz": 1,
    "c10::complex<float>": 8,
}
"""Bytes of one element of each type, as the profiler names it."""


class Tensor(msgspec.Struct, frozen=True):
    """One input. `held` counts the elements that lie in memory: an expanded dimension repeats them."""

    dims: tuple[int, ...]
    type: str
    held: int

    @property
    def numel(self) -> int:
        """How many elements it has."""
        return prod(self.dims)

    @property
    def bytes(self) -> int | None:
        """What reading it moves; None for a type that isn't known."""
        size = TYPE_BYTES.get(self.type)
        return None if size is None else size * self.held


class RecordedCall(msgspec.Struct, frozen=True):
    """A call with its inputs as far as they were recorded."""

    name: str
    inputs: list[Tensor | None]  # None where an input is no tensor
    values: list[Any]

    def tensor(self, place: int) -> Tensor:
        """An input that must be a tensor. Raises ValueError otherwise."""
        found = self.inputs[place]
        if found is None:
            raise ValueError("no tensor")
        return found

    def numbers(self, place: int) -> list[int]:
        """A list of integers that was recorded by value. Raises ValueError without one."""
        text = self.values[place]
        if not isinstance(text, str):
            raise ValueError("no value")
        return [int(number) for number in re.findall(r"-?\d{1,9}", text)]


def recorded_call(name: str, shape: str) -> RecordedCall:
    """A call of an operator out of the text that the readers keep of it.

    Raises ValueError for a text that is none.
    """
    parts = msgspec.json.decode(shape)
    if not isinstance(parts, list) or len(parts) != 4 or not isinstance(parts[0], list):
        raise ValueError("no shapes")
    dims, types, values, strides = (part if isinstance(part, list) else [] for part in parts)
    inputs: list[Tensor | None] = []
    for i, own in enumerate(dims):
        kind = types[i] if i < len(types) else ""
        whole = isinstance(own, list) and all(isinstance(size, int) and 0 <= size < 2**40 for size in own)
        if not whole or not isinstance(kind, str) or kind in _NO_TENSOR:
            inputs.append(None)
            continue
        steps = strides[i] if i < len(strides) else None
        held = prod(own)
        if isinstance(steps, list) and len(steps) == len(own):
            held = prod(size for size, step in zip(own, steps, strict=True) if step != 0)
        inputs.append(Tensor(tuple(own), kind, held))
    return RecordedCall(name, inputs, values)


_NO_TENSOR = frozenset(("", "Scalar", "ScalarList", "GenericList", "TensorList", "Int", "Bool", "Double"))

_SHORT = {
    "double": "fp64",
    "float": "fp32",
    "c10::BFloat16": "bf16",
    "c10::Half": "fp16",
    "long int": "int64",
    "long": "int64",
    "int": "int32",
}
_TENSORS = 4


def shape_text(shape: str) -> str:
    """Shapes as a person reads them: `8944×1024, 1024×1024 (bf16)`; empty where there is no tensor."""
    try:
        call = recorded_call("", shape)
    except (ValueError, msgspec.DecodeError):
        return ""
    tensors = [tensor for tensor in call.inputs if tensor is not None]
    if not tensors:
        return ""
    dims = ["×".join(map(str, tensor.dims)) or "scalar" for tensor in tensors[:_TENSORS]]
    more = ", …" if len(tensors) > _TENSORS else ""
    types = dict.fromkeys(_SHORT.get(tensor.type, tensor.type.removeprefix("c10::")) for tensor in tensors[:_TENSORS])
    return f"{', '.join(dims)}{more} ({', '.join(types)})"
