"""A small network of fully connected layers, run by numpy in microseconds. No torch.

    y = W2' tanh(W1' (x - centre) + b1) + b2        any number of hidden layers

What training did to its inputs (scaling, projecting onto few components) is linear and folded into the first layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.seen import Floats
from laptime.control.tables.tensor_files import take_array


class Network(msgspec.Struct, frozen=True):
    """centre (in,); weights, each (in, out); biases, each (out,); all float32."""

    centre: Floats
    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]

    @property
    def sizes(self) -> list[int]:
        """Inputs, hidden layers, outputs."""
        return [len(self.centre), *(w.shape[1] for w in self.weights)]

    def forward(self, x: Floats) -> Floats:
        """(in,) -> (out,), or (n, in) -> (n, out)."""
        x = x - self.centre
        last = len(self.weights) - 1
        for place in range(last):
            x = x @ self.weights[place]
            x += self.biases[place]
            np.tanh(x, out=x)
        found: Floats = x @ self.weights[last]
        found += self.biases[last]
        return found

    def arrays(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """Its arrays by name, for a file."""
        named: dict[str, npt.NDArray[Any]] = {f"{prefix}.centre": self.centre}
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            named |= {f"{prefix}.{place}.weight": weight, f"{prefix}.{place}.bias": bias}
        return named


def read_network(arrays: Mapping[str, npt.NDArray[Any]], prefix: str, sizes: list[int], place: Path) -> Network:
    """A network of these sizes from a file's arrays. Raises LaptimeError when one is missing or of another shape."""
    layers = range(len(sizes) - 1)

    def one(name: str, *shape: int) -> Floats:
        return np.ascontiguousarray(take_array(arrays, f"{prefix}.{name}", shape, place), dtype=np.float32)

    return Network(
        one("centre", sizes[0]),
        tuple(one(f"{i}.weight", sizes[i], sizes[i + 1]) for i in layers),
        tuple(one(f"{i}.bias", sizes[i + 1]) for i in layers),
    )
