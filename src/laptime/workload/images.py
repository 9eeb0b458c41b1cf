"""Synthetic images: any size, every one different, textured so that no processor finds them trivial.

Sizes are read and checked without Pillow, so that a sweep can be planned and merged where it isn't installed: only
`synthetic_image` imports it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from laptime.errors import LaptimeError

if TYPE_CHECKING:
    from PIL import Image

MAX_SIDE = 16384
"""The longest side accepted, in pixels: beyond it an image no longer fits in memory on an ordinary machine."""


def parse_size(text: str) -> tuple[int, int]:
    """`"672x448"` as (width, height) in pixels. Raises LaptimeError for anything else, or a side not in 1..16384."""
    match = re.fullmatch(r"\s*([+-]?\d{1,9})\s*[xX×]\s*([+-]?\d{1,9})\s*", text, flags=re.ASCII)
    if match is None:
        raise LaptimeError(f"image size {text[:40]!r} is not WIDTHxHEIGHT in pixels, as in 672x448")
    width, height = int(match[1]), int(match[2])
    check_size(width, height)
    return width, height


def check_size(width: int, height: int) -> None:
    """Raise LaptimeError unless both sides are within 1..MAX_SIDE pixels."""
    if min(width, height) < 1:
        raise LaptimeError(f"image size {width}x{height}: both sides must be at least 1 pixel")
    if max(width, height) > MAX_SIDE:
        raise LaptimeError(f"image size {width}x{height}: no side may be longer than {MAX_SIDE} pixels")


def synthetic_image(width: int, height: int, seed: int) -> Image.Image:
    """An RGB image of colour gradients, coarse shapes and fine grain; equal seeds give equal images.

    Raises LaptimeError for a size out of range.
    """
    from PIL import Image

    check_size(width, height)
    random = np.random.default_rng([seed, width, height])
    coarse = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    side = min(256, max(width, height))
    tile = random.integers(0, 64, (side, side, 1), dtype=np.uint8)  # repeated: fresh grain for 16 Mpx would be slow
    repeats = (-(-height // side), -(-width // side), 1)
    grain = np.tile(tile, repeats)[:height, :width]
    pixels = np.asarray(coarse) // 4 * 3 + grain  # at most 189 + 63: no overflow
    return Image.fromarray(pixels.astype(np.uint8))
