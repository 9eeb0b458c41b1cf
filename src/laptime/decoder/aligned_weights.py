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
    the activation of 0 is 0. Weights that are changed in place are copied again (`refresh`), to where graphs read them.
    """

    @torch.inference_mode(False)
    @torch.no_grad()
    def __init__(self, core: Any) -> None:
        self._swaps = [
            (module, name, wide)
            for mlp in core.modules()
            if all(isinstance(getattr(mlp, name, None), torch.nn.Linear) for name in GATED) and _odd(mlp)
            for module, name, wide in _widened(mlp)
        ]
        self._own = [getattr(module, name) for module, name, _ in self._swaps]
        self._filled = [_part_of(wide.data, own) for own, (_, _, wide) in zip(self._own, self._swaps, strict=True)]
        self._versions = list(map(_version, self._own))
        self._looked_at = [[_one_row(one) for one in some] for some in ([own.data for own in self._own], self._filled)]

    def refresh(self) -> bool:
        """Copy the weights again if they were changed in place, and say whether they were.

        A change that torch counts is seen. Of one that it doesn't count (by `.data`) a row of each weight tells.
        """
        if not self._swaps:
            return False
        versions = list(map(_version, self._own))
        if versions == self._versions and torch.equal(*(torch.cat(rows) for rows in self._looked_at)):
            return False
        for own, filled in zip(self._own, self._filled, strict=True):
            filled.copy_(own.data)
        self._versions = versions
        return True

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


def _version(weight: torch.Tensor) -> int:
    """How often torch saw the weight being changed; 0 for one made in inference mode, where it doesn't count."""
    return 0 if weight.is_inference() else weight._version


def _part_of(wide: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """The part of the copy that holds the weight."""
    return wide[: own.shape[0]] if own.ndim == 1 else wide[: own.shape[0], : own.shape[1]]


def _one_row(weight: torch.Tensor) -> torch.Tensor:
    """The row in the middle of a matrix; a bias as it is."""
    return weight if weight.ndim == 1 else weight[weight.shape[0] // 2]


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
