"""Block shapes of the kernels: what was fastest on an H200 for Qwen3-4B's matrices, by the matrix's role."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """rows: of the weight a program takes. width: elements of a row at once. ahead: tiles read before the wait."""

    rows: int
    width: int
    ahead: int
    warps: int


ROW = {
    "qkv": Shape(2, 512, 5, 2),
    "o": Shape(1, 512, 2, 1),
    "swiglu": Shape(2, 1024, 3, 4),
    "down": Shape(4, 512, 2, 2),
    "head": Shape(16, 512, 5, 4),
    "route": Shape(8, 1024, 0, 4),
    "expert_swiglu": Shape(4, 1024, 0, 4),
    "expert_down": Shape(2, 512, 0, 2),
}
"""One row of activations: matrix times vector. Small programs, many of them."""

EXPERTS = {
    "swiglu": Shape(32, 128, 3, 4),
    "down": Shape(32, 128, 3, 4),
}
"""Experts of 2 to 32 rows: `ahead` is the depth of the pipeline."""
EXPERTS_EACH = 8
"""Experts whose results one program of the way down adds up."""

TILE = 128
"""Cache positions that a split of attention reads at once, for heads up to 128 wide."""
PROGRAMS = 256
"""Programs of the attention kernel that are enough: about two for each of an H200's 132 processors."""


def splits(capacity: int, tile: int, batch: int, kv_heads: int) -> int:
    """Into how many parts attention over the cache is divided: a power of two."""
    s = 1
    while s * batch * kv_heads < PROGRAMS and s * tile < capacity:
        s *= 2
    return s
