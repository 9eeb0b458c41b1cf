"""A policy's network: its inputs, in one order for training and running, and how it is evaluated. No torch.

The order of the inputs is budget, tier, words, pixels, hidden states.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.choices import ChoiceSpace
from laptime.control.policies.policy import Needs
from laptime.control.seen import Budget, Floats32, Seen
from laptime.control.tables.features import LANGUAGE, PIXELS, budget_features, budget_size
from laptime.control.tables.tensor_files import take_array
from laptime.errors import LaptimeError


class InputSizes(msgspec.Struct, frozen=True, kw_only=True):
    """The width of each part, in the order in which the parts are joined; 0 for a part that isn't looked at."""

    budget: int = 0
    tier: int = 0
    language: int = 0
    pixels: int = 0
    hidden: int = 0

    @property
    def total(self) -> int:
        return self.budget + self.tier + self.language + self.pixels + self.hidden


def early_sizes(space: ChoiceSpace, needs: Needs, *, budget: bool) -> InputSizes:
    """The inputs before the vision tower."""
    return InputSizes(
        budget=budget_size(space) if budget else 0,
        language=LANGUAGE if needs.language else 0,
        pixels=PIXELS if needs.pixels else 0,
    )


def late_sizes(space: ChoiceSpace, needs: Needs, hidden: int, *, budget: bool) -> InputSizes:
    """The inputs after the early block: with the chosen tier, and hidden states instead of pixels."""
    return InputSizes(
        budget=budget_size(space) if budget else 0,
        tier=space.first,
        language=LANGUAGE if needs.language else 0,
        hidden=hidden if needs.hidden else 0,
    )


def network_input(sizes: InputSizes, space: ChoiceSpace, seen: Seen, budget: Budget) -> Floats32:
    """One input, (total,) float32. Raises LaptimeError when a part that the policy looks at is missing."""
    parts: list[Any] = []
    if sizes.budget:
        parts.append(budget_features(budget.ms, budget.bound_ms, space))
    if sizes.tier:
        parts.append([float(tier == (seen.tier or 0)) for tier in range(sizes.tier)])
    for name in ("language", "pixels", "hidden"):
        size = getattr(sizes, name)
        if size:
            value = getattr(seen, name)
            if value is None or len(value) != size:
                given = "none" if value is None else len(value)
                raise LaptimeError(
                    f"this policy looks at {size} {name} features, given are {given}; it is another model's"
                )
            parts.append(value)
    return np.concatenate(parts, dtype=np.float32) if parts else np.zeros(0, dtype=np.float32)


class Network(msgspec.Struct, frozen=True):
    """centre (in,), weights, each (in, out), and biases, each (out,), all float32; tanh between layers."""

    centre: Floats32
    weights: tuple[Floats32, ...]
    biases: tuple[Floats32, ...]

    @property
    def sizes(self) -> list[int]:
        """Inputs, hidden layers, outputs."""
        return [len(self.centre), *(w.shape[1] for w in self.weights)]

    def forward(self, x: Floats32) -> Floats32:
        """(in,) -> (out,), or (n, in) -> (n, out)."""
        x = x - self.centre
        last = len(self.weights) - 1
        for place in range(last):
            x = x @ self.weights[place]
            x += self.biases[place]
            np.tanh(x, out=x)
        outputs: Floats32 = x @ self.weights[last]
        outputs += self.biases[last]
        return outputs

    def arrays(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """Its arrays by name, for a file."""
        named: dict[str, npt.NDArray[Any]] = {f"{prefix}.centre": self.centre}
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            named |= {f"{prefix}.{place}.weight": weight, f"{prefix}.{place}.bias": bias}
        return named


def read_network(arrays: Mapping[str, npt.NDArray[Any]], prefix: str, sizes: list[int], place: Path) -> Network:
    """A network of these sizes from a file's arrays. Raises LaptimeError when one is missing or of another shape."""
    layers = range(len(sizes) - 1)

    def one(name: str, *shape: int) -> Floats32:
        return np.ascontiguousarray(take_array(arrays, f"{prefix}.{name}", shape, place), dtype=np.float32)

    return Network(
        one("centre", sizes[0]),
        tuple(one(f"{i}.weight", sizes[i], sizes[i + 1]) for i in layers),
        tuple(one(f"{i}.bias", sizes[i + 1]) for i in layers),
    )
