"""A bitmap font, 5 dots wide and 7 high, and coverage masks of it at any height. No font files."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint16]
"""Coverage of each pixel, 0 to 255, (height, width, 1)."""

_ROWS = """
0 0e 11 13 15 19 11 0e|1 04 0c 04 04 04 04 0e|2 0e 11 01 02 04 08 1f|3 1e 01 01 0e 01 01 1e|4 02 06 0a 12 1f 02 02
5 1f 10 1e 01 01 11 0e|6 06 08 10 1e 11 11 0e|7 1f 01 02 04 08 08 08|8 0e 11 11 0e 11 11 0e|9 0e 11 11 0f 01 02 0c
A 04 0a 11 11 1f 11 11|C 0e 11 10 10 10 11 0e|D 1c 12 11 11 11 12 1c|E 1f 10 10 1e 10 10 1f|F 1f 10 10 1e 10 10 10
H 11 11 11 1f 11 11 11|J 07 02 02 02 02 12 0c|K 11 12 14 18 14 12 11|L 10 10 10 10 10 10 1f|M 11 1b 15 15 11 11 11
N 11 19 19 15 13 13 11|P 1e 11 11 1e 10 10 10|R 1e 11 11 1e 14 12 11|T 1f 04 04 04 04 04 04|U 11 11 11 11 11 11 0e
V 11 11 11 11 0a 0a 04|W 11 11 11 15 15 1b 11|X 11 11 0a 04 0a 11 11|Y 11 11 0a 04 04 04 04|Z 1f 01 02 04 08 10 1f
"""
_GLYPHS = {
    entry[0]: [int(row, 16) for row in entry.split()[1:]]
    for line in _ROWS.strip().splitlines()
    for entry in line.split("|")
}


def width_at(height: int) -> int:
    """The width in pixels of every character that is `height` pixels high."""
    return round(height * 5 / 7)


@cache
def glyph(character: str, height: int) -> Mask:
    """How much of each pixel the character covers, at `height` pixels: area averages of its dots."""
    dots = np.array([[row >> 4 - column & 1 for column in range(5)] for row in _GLYPHS[character]], dtype=np.float64)
    covered = _overlaps(height, 7) @ dots @ _overlaps(width_at(height), 5).T
    return np.floor(covered * 255 + 0.5 + 1e-6).astype(np.uint16)[:, :, None]  # halves go up on every machine


def _overlaps(pixels: int, dots: int) -> NDArray[np.float64]:
    """(pixels, dots): the share of each pixel that lies in each dot."""
    edges = np.arange(pixels + 1) * dots / pixels
    first, last = edges[:-1, None], edges[1:, None]
    dot = np.arange(dots)[None, :]
    return np.clip(np.minimum(last, dot + 1) - np.maximum(first, dot), 0, None) * pixels / dots
