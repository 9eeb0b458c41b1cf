"""Which blocks run, as one text that a configuration can hold: "0-12,15,17-29". No torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

from laptime.errors import LaptimeError

_WRITTEN = re.compile(r"\d{1,4}(?:-\d{1,4})?(?:,\d{1,4}(?:-\d{1,4})?)*")


def written_blocks(active: Sequence[int]) -> str:
    """Block numbers as text, with runs as ranges: "0-12,15,17-29"."""
    runs: list[list[int]] = []
    for index in active:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def read_blocks(text: str) -> tuple[int, ...]:
    """The block numbers that written_blocks wrote. Raises LaptimeError for another text."""
    if not _WRITTEN.fullmatch(text):
        raise LaptimeError(f"active blocks {text[:40]!r}: numbers and ranges as in 0-12,15,17-29")
    ends = [run.partition("-") for run in text.split(",")]
    active = tuple(index for low, _, high in ends for index in range(int(low), int(high or low) + 1))
    if list(active) != sorted(set(active)) or any(int(low) > int(high or low) for low, _, high in ends):
        raise LaptimeError(f"active blocks {text[:40]!r}: name each block once, ascending")
    return active


def written_experts(numbers: Sequence[int]) -> str:
    """The experts of each block as text: 4,4,2."""
    return ",".join(map(str, numbers))


def read_experts(text: str) -> tuple[int, ...]:
    """The experts of each block from what written_experts wrote. Raises LaptimeError for other text."""
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise LaptimeError(f"experts {text[:60]!r}: write one number for each block, as in 4,4,2")
    return tuple(map(int, parts))
