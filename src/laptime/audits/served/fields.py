"""One field of another program's result: what a file doesn't say is None, never 0."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

Object = dict[str, Any]

MS_IN = {
    "ns": 1e-6, "nanoseconds": 1e-6, "us": 1e-3, "µs": 1e-3, "microseconds": 1e-3, "ms": 1.0, "milliseconds": 1.0,
    "s": 1e3, "sec": 1e3, "seconds": 1e3, "min": 6e4, "minutes": 6e4,
}  # fmt: skip
"""How many ms a unit of time is."""


def value_at(one: Object, name: str, place: int) -> Any:
    values = one.get(name)
    return values[place] if isinstance(values, list) and place < len(values) else None


def whole_ms(ttft_s: float | None, gaps_s: Sequence[float]) -> float | None:
    return None if ttft_s is None else (ttft_s + sum(gaps_s)) * 1e3


def metric_value(metrics: Object, name: str) -> Any:
    one = metrics.get(name)
    return one.get("value") if isinstance(one, dict) else one


def metric_ms(metrics: Object, name: str, key: str = "value") -> float | None:
    """A time by the unit that stands beside it, as ms; without a unit it is ms; None in a unit that is no time's."""
    scale = _scale_ms(metrics.get(name))
    value = as_number(_part(metrics.get(name), key))
    return None if scale is None or value is None else value * scale


def metric_row_ms(metrics: Object, name: str) -> list[float] | None:
    """A row of times, as ms."""
    scale, row = _scale_ms(metrics.get(name)), metric_value(metrics, name)
    if scale is None or not isinstance(row, list) or any(as_number(value) is None for value in row):
        return None
    return [value * scale for value in row]


def as_number(value: Any) -> float | None:
    """A finite number."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value) else None


def numbers_of(named: dict[str, Any]) -> dict[str, float]:
    """What of these is a finite number."""
    return {name: number for name, value in named.items() if (number := as_number(value)) is not None}


def _part(one: Any, key: str) -> Any:
    return one.get(key) if isinstance(one, dict) else one


def _scale_ms(one: Any) -> float | None:
    unit = one.get("unit") if isinstance(one, dict) else None
    return 1.0 if unit is None else MS_IN.get(str(unit).strip().lower())


def as_ms(seconds: Any) -> float | None:
    return float(seconds) * 1e3 if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) else None


def as_int(value: Any) -> int | None:
    return None if (number := as_number(value)) is None else int(number)


def as_rate(value: Any) -> float | None:
    """A rate; None for "inf", which sends everything at once."""
    try:
        rate = float(value)
    except (TypeError, ValueError):
        return None
    return rate if 0 < rate < float("inf") else None


def ratio_of(a: Any, b: Any) -> float | None:
    return a / b if isinstance(a, (int, float)) and isinstance(b, (int, float)) and b else None
