"""A vision tower's MLP weights in a width that the tensor cores take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import pad

GATED = ("gate_proj", "up_proj", "down_proj")
MULTIPLE = 8


class Aligned:
    """Copies of a tower's MLP weights, filled up with zeros to a width that the tensor cores take.

    A width that is no multiple of 8 (Qwen2.5-VL: 3,420) goes to kernels of half the speed. The zeros change no result:
    the activation of 0 is 0.
    """

    def __init__(self, core: Any) -> None:
        self._swaps = [
            (module, name, wide)
            for mlp in core.modules()
            if all(isinstance(getattr(mlp, name, None), torch.nn.Linear) for name in GATED) and _odd(mlp)
            for module, name, wide in _widened(mlp)
        ]

    @property
    def nbytes(self) -> int:
        """Bytes of the copies."""
        return sum(wide.nbytes for _, _, wide in self._swaps)

    @contextmanager
    def put_in(self) -> Iterator[None]:
        """Inside, the tower computes with the copies."""
        before = [(module, name, getattr(module, name)) for module, name, _ in self._swaps]
        for module, name, wide in self._swaps:
            setattr(module, name, wide)
        try:
            yield
        finally:
            for module, name, own in before:
                setattr(module, name, own)


def _odd(mlp: Any) -> bool:
    width = mlp.down_proj.in_features
    return width % MULTIPLE != 0 and width == mlp.gate_proj.out_features == mlp.up_proj.out_features


def _widened(mlp: Any) -> Iterator[tuple[Any, str, Any]]:
    more = -mlp.down_proj.in_features % MULTIPLE
    for name in GATED:
        linear = getattr(mlp, name)
        columns, rows = (more, 0) if name == "down_proj" else (0, more)
        yield linear, "weight", torch.nn.Parameter(pad(linear.weight.data, (0, columns, 0, rows)), requires_grad=False)
        if linear.bias is not None and rows:
            yield linear, "bias", torch.nn.Parameter(pad(linear.bias.data, (0, rows)), requires_grad=False)
