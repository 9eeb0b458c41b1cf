"""What a policy looks at, made in microseconds: a question's words, the image made small, a budget's room. No torch.

Words and pixels are of fixed meaning; what is typical of a data set (means, spreads) belongs to the policy's weights.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from math import isfinite, log, sqrt, tanh
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
"""PIL's number of it: features are made without PIL where images are arrays."""
ROOMS = (-0.5, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
"""Where the smooth steps over log(budget / fastest bound) have their middles."""
LEAST_ROOM, MOST_ROOM = -2.0, 4.0

_WORD = re.compile(r"\w+")
MOST_WORDS = 512
"""Words of a question that are looked at; the last ones are where a question asks."""


def language_features(question: str) -> Floats32:
    """Words and pairs of neighbours, hashed into (64,), signed, of length 1 (0 without a word).

    Hashing with a sign keeps inner products unbiased (Weinberger et al. 2009). crc32 is the same on every machine.
    """
    words = _WORD.findall(question.lower())[-MOST_WORDS:]
    found = [0.0] * LANGUAGE  # plain numbers: in a call numpy's own code isn't in any cache, and they are few
    for word in (*words, *map(" ".join, pairwise(words))):
        hashed = _hashed(word)
        found[hashed & (LANGUAGE - 1)] += 1.0 if hashed & 0x8000 else -1.0
    length = sqrt(sum([one * one for one in found])) or 1.0
    return np.array([one / length for one in found], dtype=np.float32)


def pixel_features(image: Any) -> Floats32:
    """The image as 8 x 8 means of its boxes, RGB, each from -1 to 1: (192,).

    `image` is a PIL image, or an array (height, width, 3) or (height, width) of uint8. Of each box 4 x 4 evenly spaced
    pixels are looked at, so a large image takes no longer than a small one. Raises LaptimeError for anything else.
    """
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
    found: Floats32 = sums.ravel().astype(np.float32) * np.float32(2 / 255 / side**2) - np.float32(1)
    return found


def budget_features(
    budget_ms: npt.ArrayLike, bound_ms: npt.NDArray[np.float64], space: ChoiceSpace
) -> npt.NDArray[np.float32]:
    """The room that a budget leaves: (..., budget_size(space)) from budgets (...,) and bounds (..., choices).

    With x = log(budget / fastest bound), within -2..4: x / 2, smooth steps tanh(2 (x - r)) at ROOMS, and of each tier
    the share of its choices that fit. Only ratios count: a machine twice as slow at twice the budget looks the same.
    """
    budget = np.asarray(budget_ms, dtype=np.float64)
    fastest = bound_ms.min(axis=-1)
    room = np.log(np.where(np.isfinite(fastest), budget, 1.0)) - np.log(np.where(np.isfinite(fastest), fastest, np.inf))
    room = np.minimum(np.maximum(room, LEAST_ROOM), MOST_ROOM)[..., None]
    fits = bound_ms <= budget[..., None]
    by_tier = fits.reshape(*fits.shape[:-1], space.first, space.late).mean(axis=-1)
    return np.concatenate([room / 2, np.tanh(2 * (room - _MIDDLES)), by_tier], axis=-1).astype(np.float32)


def one_budget_features(budget_ms: float, bound_ms: Sequence[float], space: ChoiceSpace) -> list[float]:
    """`budget_features` of one budget, in plain numbers: before a call numpy takes four times as long."""
    fastest = min(bound_ms)
    room = log(budget_ms / fastest) if isfinite(fastest) else LEAST_ROOM
    room = min(max(room, LEAST_ROOM), MOST_ROOM)
    fits = [one <= budget_ms for one in bound_ms]
    late = space.late
    by_tier = [sum(fits[first : first + late]) / late for first in range(0, len(fits), late)]
    return [room / 2, *[tanh(2 * (room - middle)) for middle in ROOMS], *by_tier]


def budget_size(space: ChoiceSpace) -> int:
    """How many features `budget_features` gives."""
    return 1 + len(ROOMS) + space.first


@lru_cache(maxsize=16384)
def _hashed(word: str) -> int:
    return crc32(word.encode("utf-8", "surrogatepass"))


_MIDDLES = np.array(ROOMS)
