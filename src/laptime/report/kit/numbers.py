"""Numbers as people read them: three significant digits and the unit that suits the size."""

from __future__ import annotations

from math import floor, isfinite, log10

from laptime.data.record import Interval

NOTHING = "–"
"""Stands for a value that there is not. It is never written as 0."""

THIN = "\u202f"
KEEP_TOGETHER = "\xa0"
"""Between a number and its unit: a line never breaks there."""


def number(value: float | None, digits: int = 3) -> str:
    """The value to so many significant digits, without an exponent: 412, 62.1, 4.83, 0.021."""
    if value is None or not isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    places = max(0, digits - 1 - floor(log10(abs(value))))
    return f"{value:,.{min(places, 6)}f}".replace(",", THIN)


def quantity(value: float | None, unit: str, digits: int = 3) -> tuple[str, str]:
    """A number with its unit, apart; both shift together when the number is very large or small (ms, bytes)."""
    if value is None or not isfinite(value):
        return NOTHING, ""
    if unit == "ms":
        if abs(value) >= 10_000:
            return number(value / 1e3, digits), "s"
        if 0 < abs(value) < 0.1:
            return number(value * 1e3, digits), "µs"
    if unit == "bytes":
        for name, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if abs(value) >= size:
                return number(value / size, digits), name
    if unit == "J" and 0 < abs(value) < 0.1:
        return number(value * 1e3, digits), "mJ"
    return number(value, digits), unit


def text(value: float | None, unit: str, digits: int = 3) -> str:
    """The number and its unit in one string; a dash when there is no value."""
    written, shown_unit = quantity(value, unit, digits)
    return f"{written}{KEEP_TOGETHER}{shown_unit}" if shown_unit else written


def percent(share: float | None) -> str:
    """A share of 1 as per cent: 71.3 %, 4.2 %, 0 %."""
    return NOTHING if share is None else f"{number(share * 100, 2 if abs(share) < 0.1 else 3)}{KEEP_TOGETHER}%"


def whole_percent(share: float) -> str:
    """A share for a headline: 71 %; with a decimal only below 10 %."""
    return f"{share * 100:.0f}{KEEP_TOGETHER}%" if share >= 0.1 else percent(share)


def interval_ends(interval: Interval | None, unit: str) -> str:
    """The interval's two ends with one unit: `118–124 ms`; a dash when there were too few values for one."""
    if interval is None or interval.low is None or interval.high is None:
        return NOTHING
    # Both ends get as many decimals as tell them apart, in the unit of the upper one.
    _, shown_unit = quantity(interval.high, unit)
    scale = {"s": 1e-3, "µs": 1e3, "mJ": 1e3, "GiB": 2**-30, "MiB": 2**-20, "KiB": 2**-10}
    factor = scale.get(shown_unit, 1.0) if shown_unit != unit else 1.0
    low, high = interval.low * factor, interval.high * factor
    digits = next((d for d in (3, 4, 5) if number(low, d) != number(high, d)), 3)
    return f"{number(low, digits)}–{number(high, digits)}{KEEP_TOGETHER}{shown_unit}".rstrip(KEEP_TOGETHER)
