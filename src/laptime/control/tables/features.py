"""What a policy looks at: a question's words, the image made small, the room that a budget leaves. No torch.

Features have a fixed meaning. What is typical of a data set (means, spreads) belongs to the policy's weights.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from math import sqrt
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from laptime.control.choices import ChoiceSpace
from laptime.control.seen import Floats32
from laptime.errors import LaptimeError

LANGUAGE = 64
SIDE = 8
PIXELS = SIDE * SIDE * 3
LOOKED_AT = 4 * SIDE
NEAREST = 0
"""PIL's number for this filter. PIL isn't imported here, since an image may also be an array."""
ROOMS = (-0.5, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
"""The middles of the smooth steps over log(budget / fastest bound)."""
LEAST_ROOM, MOST_ROOM = -2.0, 4.0

_WORD = re.compile(r"\w+")
MOST_WORDS = 512
"""Only the last words of a longer question are looked at: that is where it asks."""


def language_features(question: str) -> Floats32:
    """Words and pairs of neighbours, hashed into (64,), signed, of length 1 (0 without a word).

    Hashing with a sign keeps inner products unbiased (Weinberger et al. 2009). crc32 is the same on every machine.
    """
    words = _WORD.findall(question.lower())[-MOST_WORDS:]
    sums = [0.0] * LANGUAGE
    for word in (*words, *map(" ".join, pairwise(words))):
        hashed = _hashed(word)
        sums[hashed & (LANGUAGE - 1)] += 1.0 if hashed & 0x8000 else -1.0
    counts = np.array(sums)
    unit: Floats32 = (counts / (sqrt(counts @ counts) or 1.0)).astype(np.float32)
    return unit


def pixel_features(image: Any) -> Floats32:
    """The image as the mean colours of 8 x 8 boxes, RGB, each from -1 to 1: (192,). All are 0 without an image.

    image: a PIL image, an array (height, width, 3) or (height, width) of uint8, or None. The mean is over 4 x 4 evenly
    spaced pixels of a box, so a large image takes no longer than a small one. Raises LaptimeError for anything else.
    """
    if image is None:
        return np.zeros(PIXELS, dtype=np.float32)
    if hasattr(image, "resize") and hasattr(image, "convert"):
        small = (image if image.mode == "RGB" else image.convert("RGB")).resize((LOOKED_AT, LOOKED_AT), NEAREST)
        pixels = np.asarray(small)
    else:
        given = np.asarray(image)
        if given.ndim == 2:
            given = np.repeat(given[:, :, None], 3, axis=2)
        if given.ndim != 3 or given.shape[2] != 3 or given.dtype != np.uint8 or 0 in given.shape:
            raise LaptimeError(f"an image of shape {given.shape}, {given.dtype}: give a PIL image or uint8 (h, w, 3)")
        rows, columns = (((np.arange(LOOKED_AT) + 0.5) * size / LOOKED_AT).astype(int) for size in given.shape[:2])
        pixels = given[rows[:, None], columns]
    side = LOOKED_AT // SIDE
    rows_summed = pixels.reshape(SIDE, side, LOOKED_AT * 3).sum(axis=1, dtype=np.uint32)
    sums = rows_summed.reshape(SIDE, SIDE, side, 3).sum(axis=2)
    means: Floats32 = sums.ravel().astype(np.float32) * np.float32(2 / 255 / side**2) - np.float32(1)
    return means


def budget_features(
    budget_ms: npt.ArrayLike, bound_ms: npt.NDArray[np.float64], space: ChoiceSpace
) -> npt.NDArray[np.float32]:
    """The room that a budget leaves: (..., budget_size(space)) from budgets (...,) and bounds (..., choices).

    With x = log(budget / fastest bound), limited to -2..4, the features are x / 2, smooth steps tanh(2 (x - r)) at
    ROOMS, and for each tier the share of its choices that fit. They depend on ratios alone: a machine that is twice as
    slow, at twice the budget, looks the same.
    """
    budget = np.asarray(budget_ms, dtype=np.float64)
    fastest = bound_ms.min(axis=-1)
    room = np.log(np.where(np.isfinite(fastest), budget, 1.0)) - np.log(np.where(np.isfinite(fastest), fastest, np.inf))
    room = np.minimum(np.maximum(room, LEAST_ROOM), MOST_ROOM)[..., None]
    fits = bound_ms <= budget[..., None]
    by_tier = fits.reshape(*fits.shape[:-1], space.first, space.late).mean(axis=-1)
    return np.concatenate([room / 2, np.tanh(2 * (room - _MIDDLES)), by_tier], axis=-1).astype(np.float32)


def budget_size(space: ChoiceSpace) -> int:
    """The number of features that `budget_features` gives."""
    return 1 + len(ROOMS) + space.first


@lru_cache(maxsize=16384)
def _hashed(word: str) -> int:
    return crc32(word.encode("utf-8", "surrogatepass"))


_MIDDLES = np.array(ROOMS)
