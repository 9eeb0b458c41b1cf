"""Times as JSON has them, in microseconds, read as whole nanoseconds: a column at once, as exactly as it is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.read.timeline import Int64

Buffer = bytes | msgspec.Raw
Bool = npt.NDArray[np.bool_]

LIMIT_NS = 2**62
"""Times beyond ±146 years are not times. The bound keeps start + duration inside int64."""

_PLAIN = re.compile(rb"(?:\d{1,15}|[1-3]\d{15})(?:\.\d{1,3})?")  # below 4e15 µs, so within LIMIT_NS
_NUMBER = rb"-?\d{1,400}(?:\.\d{1,400})?(?:[eE][+-]?\d{1,3})?"


def to_ns(texts: Sequence[Buffer]) -> tuple[Int64, Bool]:
    """Read a column of JSON numbers in microseconds. Some writers put them between quotes; they are read alike.

    Args:
        texts: n JSON values as they stand in the file (bytes or msgspec.Raw).

    Returns:
        n nanoseconds and, for each, whether it is a number within LIMIT_NS (0 where it is not). Digits beyond the
        nanosecond are rounded half to even.
    """
    plain = plain_to_ns(texts)
    if plain is not None:
        return plain, np.ones(len(texts), dtype=np.bool_)
    texts = [_unquoted(bytes(text)) for text in texts]
    odd = [i for i, text in enumerate(texts) if _PLAIN.fullmatch(text) is None]
    tamed = list(texts)
    for i in odd:
        tamed[i] = b"0"
    values = plain_to_ns(tamed)
    if values is None:  # all are plain now, so this can't be; say so rather than guess
        raise AssertionError("plain decimals were not read")
    good = np.ones(len(texts), dtype=np.bool_)
    for i in odd:
        exact = _odd_to_ns(texts[i])
        good[i] = exact is not None
        values[i] = exact or 0
    return values, good


def _unquoted(text: bytes) -> bytes:
    """What stands between a JSON string's quotes, without blanks around it; any other value as it is."""
    return text[1:-1].strip() if len(text) > 1 and text.startswith(b'"') and text.endswith(b'"') else text


def plain_to_ns(texts: Sequence[Buffer]) -> Int64 | None:
    """The column if every text is plain (digits, at most three after the point), else None."""
    count = len(texts)
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    joined = b"\n".join(texts) + b"\n"
    alike = _alike_to_ns(joined, count)
    if alike is not None:
        return alike
    if joined.translate(None, b"0123456789.\n"):
        return None
    data = np.frombuffer(joined, dtype=np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    points = np.flatnonzero(data == ord("."))
    if len(ends) != count:
        return None
    lengths = np.diff(ends, prepend=-1) - 1
    if len(points) == count and (points < ends).all() and (points[1:] > ends[:-1]).all():
        decimals = ends - points - 1
        whole = lengths - decimals - 1
    else:  # not every text has a point
        owner = np.searchsorted(ends, points)
        if (np.diff(owner) < 1).any():
            return None
        decimals = np.zeros(count, dtype=np.int64)
        decimals[owner] = ends[owner] - points - 1
        whole = lengths - decimals
        whole[owner] -= 1
    if decimals.max() > 3 or whole.max() > 16 or whole.min() < 1:
        return None
    long = np.flatnonzero(whole == 16)
    if len(long) and data[ends[long] - lengths[long]].max() > ord("3"):
        return None
    values: Int64 = np.fromstring(joined.replace(b".", b""), dtype=np.int64, sep="\n")
    return values if (decimals == 3).all() else values * 10 ** (3 - decimals)


def _alike_to_ns(joined: bytes, count: int) -> Int64 | None:
    """The column if its plain texts are of one length, with the point in one place: a table of digits. Else None."""
    width = len(joined) // count
    form = _form(width, joined.find(b".", 0, width)) if width * count == len(joined) else None
    if form is None:
        return None
    least, most, places = form
    digits = np.frombuffer(joined, dtype=np.uint8).reshape(count, width) - least
    if (digits > most).any():
        return None
    values: Int64 = digits.astype(np.int64) @ places
    return values


@lru_cache(maxsize=64)
def _form(width: int, point: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], Int64] | None:
    """Of each byte of a plain text and the line's end behind it: what it is at least, by how much it may be more, and
    what one more stands for. None where no text is plain that has its point there (-1 without).
    """
    whole = width - 1 if point < 0 else point
    if not 1 <= whole <= 16 or width - 2 - whole > 3:
        return None
    least = np.full(width, ord("0"), dtype=np.uint8)
    most = np.full(width, 9, dtype=np.uint8)
    places = np.zeros(width, dtype=np.int64)
    digits = [i for i in range(width - 1) if i != point]
    places[digits] = [10 ** (whole + 2 - i) for i in range(len(digits))]
    most[0] = 3 if whole == 16 else 9
    least[-1], most[-1] = ord("\n"), 0
    if point >= 0:
        least[point], most[point] = ord("."), 0
    return least, most, places


def _odd_to_ns(text: bytes) -> int | None:
    """One number of any JSON form (signs, exponents, many decimals), or None when it is none or too large."""
    if re.fullmatch(_NUMBER, text) is None:
        return None
    value = Decimal(text.decode()).scaleb(3)
    if value.adjusted() > 18:
        return None
    ns = int(value.to_integral_value())
    return ns if abs(ns) <= LIMIT_NS else None
