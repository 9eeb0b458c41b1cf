"""Budgets, shares and differences of shares as policies' pages and tables write them."""

from __future__ import annotations

from math import isfinite

from laptime.data.record import Interval
from laptime.report.kit.numbers import KEEP_TOGETHER, NOTHING, number


def budget_text(budget_ms: float) -> str:
    """A budget in four digits at most: 30 ms, 12.5 ms, 23.84 ms."""
    return f"{budget_number(budget_ms)}{KEEP_TOGETHER}ms"


def budget_number(budget_ms: float) -> str:
    """The same without its unit."""
    written = number(budget_ms, 4)
    return written.rstrip("0").rstrip(".") if "." in written else written


def whole_share(share: float) -> str:
    """A round share as it was asked for: 95 %."""
    return f"{100 * share:g}{KEEP_TOGETHER}%"


def share_ends(interval: Interval) -> str:
    """The interval of a share in per cent, without the sign: 78.1–84.2."""
    if interval.low is None or interval.high is None or not isfinite(interval.high - interval.low):
        return NOTHING
    return f"{interval.low * 100:.1f}–{interval.high * 100:.1f}"


def points_number(difference: float) -> str:
    """A difference of shares in points with its sign: +11.2, −0.3."""
    if not isfinite(difference):
        return NOTHING
    written = f"{abs(difference) * 100:.1f}"
    return written if written == "0.0" else f"{'−' if difference < 0 else '+'}{written}"


def points_text(difference: float) -> str:
    """+11.2 points."""
    return f"{points_number(difference)}{KEEP_TOGETHER}points"


def points_ends(difference: Interval) -> str:
    """The interval of a difference: +7.9 to +14.5."""
    if difference.low is None or difference.high is None or not isfinite(difference.high - difference.low):
        return NOTHING
    return f"{points_number(difference.low)} to {points_number(difference.high)}"
