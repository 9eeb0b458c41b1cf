"""Coverage masks of the six kinds of shapes, at any size."""

from __future__ import annotations

from functools import cache

import numpy as np

from .font import Mask

KINDS = ("disc", "ring", "square", "cross", "star", "wedge")
_FINE = 4
"""Sub-pixels along each side of a pixel."""


@cache
def shape(kind: str, size: int) -> Mask:
    """How much of each pixel the shape covers, `size` pixels wide and high."""
    at = (np.arange(size * _FINE) + 0.5) / (size * _FINE) * 2 - 1
    x, y = at[None, :], at[:, None]
    radius = np.hypot(x, y)
    if kind == "disc":
        inside = radius < 1
    elif kind == "ring":
        inside = (radius < 1) & (radius > 0.55)
    elif kind == "square":
        inside = (np.abs(x) < 0.88) & (np.abs(y) < 0.88)
    elif kind == "cross":
        inside = (np.minimum(np.abs(x), np.abs(y)) < 0.3) & (np.maximum(np.abs(x), np.abs(y)) < 0.97)
    elif kind == "star":
        fold = 2 * np.pi / 5
        angle = np.abs((np.arctan2(x, -y) + fold / 2) % fold - fold / 2)  # from the nearest tip
        along, beside = radius * np.cos(angle), radius * np.sin(angle)
        inner = 0.42 * np.exp(1j * fold / 2) - 1  # the edge from the tip at (1, 0) to the inner corner
        inside = inner.real * beside - inner.imag * (along - 1) > 0
    else:
        inside = (np.abs(x) < (y + 1) / 2) & (y < 0.9)
    covered = inside.reshape(size, _FINE, size, _FINE).mean((1, 3))
    return np.round(covered * 255).astype(np.uint16)[:, :, None]
