"""Numbers as people read them, the same in every terminal and on every page.

A measured number has three significant digits and the unit that suits its size (`number`, `text`, `percent`,
`ratio`). A number that somebody chose is written as it was chosen (`plain`, `plain_text`, `plain_percent`). A count is
exact (`count`). Thousands are parted by a thin space, a number and its unit by a space; a line breaks at neither.
"""

from __future__ import annotations

from math import floor, isfinite, log10

from laptime.data.record import Interval

NOTHING = "–"
"""Stands for a value that is missing. A missing value is never written as 0."""

THIN = "\u202f"
KEEP_TOGETHER = "\xa0"
"""Between a number and its unit: a line never breaks there."""

MINUS = "−"

NEAR_ONE = 0.0995
"""A ratio this near to 1 gets three decimals: 0.978×."""

PLAIN = 9.995
"""Below it three significant digits of a factor above 1 are two decimals."""


def number(value: float | None, digits: int = 3) -> str:
    """The value with this many significant digits, never with an exponent: 412, 62.1, 4.83, 0.021."""
    if value is None or not isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits}g}")  # 9.996 becomes 10.0, so it gets the decimals of 10
    return decimals(value, min(max(0, digits - 1 - floor(log10(abs(rounded)))), 6))


def decimals(value: float | None, places: int) -> str:
    """The value with this many decimals, for columns whose points stand below each other: 1 234.500, 0.857."""
    if value is None or not isfinite(value):
        return NOTHING
    return f"{value:,.{places}f}".replace(",", THIN).replace("-", MINUS)


def count(value: float | None) -> str:
    """A whole number, exact: 7, 1 234, 1 048 576."""
    return decimals(value, 0)


def plain(value: float | None, digits: int = 4) -> str:
    """A number that somebody chose, without zeros at its end: 30, 12.5, 23.84."""
    written = number(value, digits)
    return written.rstrip("0").rstrip(".") if "." in written else written


def quantity(value: float | None, unit: str, digits: int = 3) -> tuple[str, str]:
    """A number and its unit, apart: `quantity(12_300, "ms")` is ("12.3", "s").

    A value in ns, µs, ms, s, bytes or J shifts to the unit that suits its size; any other unit stays.
    """
    scaled, shown_unit = _suited(value, unit)
    return number(scaled, digits), shown_unit


def text(value: float | None, unit: str, digits: int = 3) -> str:
    """A number with its unit: `text(62.14, "ms")` is 62.1 ms, `text(1_500, "ns")` 1.50 µs; a dash for None."""
    return _together(*quantity(value, unit, digits))


def plain_text(value: float | None, unit: str, digits: int = 4) -> str:
    """A chosen number with its unit: `plain_text(30, "ms")` is 30 ms, `plain_text(50_000, "ns")` 50 µs."""
    scaled, shown_unit = _suited(value, unit)
    return _together(plain(scaled, digits), shown_unit)


def duration(seconds: float | None) -> str:
    """How long something takes, as people say it: 0.42 s, 40 s, 12 min, 3.5 h."""
    if seconds is None or not isfinite(seconds):
        return NOTHING
    if seconds < 100:
        return f"{number(seconds, 2)}{KEEP_TOGETHER}s"
    if seconds < 6000:
        return f"{seconds / 60:.0f}{KEEP_TOGETHER}min"
    return f"{decimals(seconds / 3600, 1)}{KEEP_TOGETHER}h"


NEARLY_ALL = 0.9995
"""A share from here on would be printed as all of it."""


def percent(share: float | None) -> str:
    """A share of 1 as per cent: `percent(0.713)` is 71.3 %, `percent(0.042)` 4.2 %; only all of it is 100 %."""
    if share is None or not isfinite(share):
        return NOTHING
    if NEARLY_ALL <= share < 1:
        return f"over 99.9{KEEP_TOGETHER}%"
    return f"{number(share * 100, 2 if abs(share) < 0.1 else 3)}{KEEP_TOGETHER}%"


def percent_ends(interval: Interval | None) -> str:
    """The two ends of a share's interval: 88.5–100 %; a dash where too few values gave no interval."""
    if interval is None or interval.low is None or interval.high is None:
        return NOTHING
    return f"{number(interval.low * 100)}–{number(interval.high * 100)}{KEEP_TOGETHER}%"


def whole_percent(share: float | None) -> str:
    """A share for a sentence: `whole_percent(0.713)` is 71 %; it has a decimal only below 10 %."""
    if share is None or not isfinite(share):
        return NOTHING
    return f"{share * 100:.0f}{KEEP_TOGETHER}%" if share >= 0.1 else percent(share)


def plain_percent(share: float) -> str:
    """A share that somebody chose: `plain_percent(0.95)` is 95 %, `plain_percent(0.995)` 99.5 %."""
    return f"{100 * share:g}{KEEP_TOGETHER}%"


def signed_percent(share: float | None) -> str:
    """A relative difference with its sign: +4.2 %, −12.5 %, 0 %."""
    return f"+{percent(share)}" if share is not None and share > 0 else percent(share)


def ratio(value: float | None) -> str:
    """A factor: `ratio(1.52)` is 1.52×, `ratio(0.978)` 0.978×: three decimals near 1."""
    return NOTHING if value is None or not isfinite(value) else f"{_factor(value)}×"


def ratio_ends(interval: Interval | None) -> str:
    """The two ends of a factor's interval, with as many decimals: 2.05–2.16, 0.98–1.40; three where two look equal."""
    if interval is None or interval.low is None or interval.high is None:
        return NOTHING
    if abs(interval.value - 1) < NEAR_ONE or number(interval.low) == number(interval.high):
        return f"{decimals(interval.low, 3)}–{decimals(interval.high, 3)}"
    if interval.low >= 0.1 and interval.high < PLAIN:
        return f"{decimals(interval.low, 2)}–{decimals(interval.high, 2)}"
    return f"{number(interval.low)}–{number(interval.high)}"


def interval_ends(interval: Interval | None, unit: str) -> str:
    """The two ends of an interval with one unit: 118–124 ms; a dash where too few values gave no interval."""
    if interval is None or interval.low is None or interval.high is None:
        return NOTHING
    factor, shown_unit = _scale(interval.high, unit)
    low, high = interval.low * factor, interval.high * factor
    # Both ends get as many digits as tell them apart.
    digits = next((d for d in (3, 4, 5) if number(low, d) != number(high, d)), 3)
    return _together(f"{number(low, digits)}–{number(high, digits)}", shown_unit)


_STEPS: dict[str, tuple[tuple[float, str, float], ...]] = {
    "ns": ((1e10, "s", 1e-9), (1e6, "ms", 1e-6), (1e3, "µs", 1e-3), (0, "ns", 1)),
    "µs": ((1e7, "s", 1e-6), (1e3, "ms", 1e-3), (1, "µs", 1), (0, "ns", 1e3)),
    "ms": ((1e4, "s", 1e-3), (0.1, "ms", 1), (0, "µs", 1e3)),
    "s": ((1, "s", 1), (1e-3, "ms", 1e3), (0, "µs", 1e6)),
    "bytes": ((2**30, "GiB", 2**-30), (2**20, "MiB", 2**-20), (2**10, "KiB", 2**-10), (0, "bytes", 1)),
    "J": ((0.1, "J", 1), (0, "mJ", 1e3)),
}
"""For each unit: from which size on another unit reads better, that unit, and the factor to it."""


def _scale(value: float, unit: str) -> tuple[float, str]:
    if not value:
        return 1.0, unit
    return next(((factor, name) for least, name, factor in _STEPS.get(unit, ()) if abs(value) >= least), (1.0, unit))


def _suited(value: float | None, unit: str) -> tuple[float | None, str]:
    if value is None or not isfinite(value):
        return None, ""
    factor, shown_unit = _scale(value, unit)
    return value * factor, shown_unit


def _together(written: str, unit: str) -> str:
    return f"{written}{KEEP_TOGETHER}{unit}" if unit else written


def _factor(value: float) -> str:
    return decimals(value, 3) if abs(value - 1) < NEAR_ONE else number(value)
