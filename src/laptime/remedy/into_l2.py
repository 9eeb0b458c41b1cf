# mypy: ignore-errors
"""Weights asked into the L2 cache: they are on their way while a kernel waits, and need no register meanwhile.

A step waits longest in front of attention, which reads little and leaves the memory idle. The product behind it is
resident by then, but its registers hold only its first tiles: the rest of its weights is asked for here.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def into_l2(address):
    """Ask for the cache lines at these addresses (int64, inside the weights); nothing waits for them."""
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [address], dtype=tl.int32, is_pure=False, pack=1
    )
