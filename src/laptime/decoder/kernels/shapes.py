"""Block shapes of the kernels, by the role of the matrix.

They are the fastest measured for Qwen3-4B: for one row on an H200; for several rows on an H100, at 8 and 32 rows
together, where each was faster than cuBLAS (`benchmarks/remedy.py shapes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Shape(NamedTuple):
    """rows: of the weight, for one program. width: elements of a row at once. ahead: tiles read before the wait."""

    rows: int
    width: int
    ahead: int
    warps: int


class RowsShape(NamedTuple):
    """rows: of the weight, for one program. width: elements of a row at once. stages: depth of the pipeline.

    parts: how many parts the columns are divided into.
    """

    rows: int
    width: int
    stages: int
    warps: int
    parts: int = 1


@dataclass(frozen=True)
class Shapes:
    """The shapes of all kernels of a step.

    row: for one row of activations. rows: for 2 to 32 rows; a role that is not in it goes to cuBLAS.
    experts: for 2 to 32 rows; here `ahead` is the depth of the pipeline.
    experts_each: experts whose results one program of the way down adds up.
    tile: cache positions that a split of attention reads at once, for heads up to 128 wide.
    programs: how many programs of attention are enough: about two for each of an H200's 132 processors.
    """

    row: Mapping[str, Shape]
    rows: Mapping[str, RowsShape]
    experts: Mapping[str, Shape]
    experts_each: int = 8
    tile: int = 128
    programs: int = 256

    def tile_of(self, head_dim: int) -> int:
        """Cache positions that a split reads at once, for heads of this width."""
        return self.tile if head_dim <= 128 else self.tile // 2

    def splits(self, capacity: int, tile: int, batch: int, kv_heads: int) -> int:
        """How many parts attention over the cache has: a power of two, each part with at least a tile of the cache."""
        s = 1
        while s * batch * kv_heads < self.programs and 2 * s * tile <= capacity:
            s *= 2
        return s


SHAPES = Shapes(
    row={
        "qkv": Shape(2, 512, 5, 2),
        "o": Shape(1, 512, 2, 1),
        "swiglu": Shape(2, 1024, 3, 4),
        "down": Shape(4, 512, 2, 2),
        "head": Shape(16, 512, 5, 4),
        "route": Shape(8, 1024, 0, 4),
        "expert_swiglu": Shape(4, 1024, 0, 4),
        "expert_down": Shape(2, 512, 0, 2),
    },
    rows={
        "qkv": RowsShape(32, 128, 4, 4),
        "o": RowsShape(64, 128, 4, 4, parts=8),
        "swiglu": RowsShape(32, 128, 4, 4),
        "down": RowsShape(64, 128, 4, 4, parts=8),
        "head": RowsShape(64, 128, 4, 4),
    },
    experts={"swiglu": Shape(32, 128, 3, 4), "down": Shape(32, 128, 3, 4)},
)
