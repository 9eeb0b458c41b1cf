"""One field of another program's result: what a file doesn't say is None, never 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Object = dict[str, Any]


def value_at(one: Object, name: str, place: int) -> Any:
    values = one.get(name)
    return values[place] if isinstance(values, list) and place < len(values) else None


def whole_ms(ttft_s: float | None, gaps_s: Sequence[float]) -> float | None:
    return None if ttft_s is None else (ttft_s + sum(gaps_s)) * 1e3


def metric_value(metrics: Object, name: str) -> Any:
    one = metrics.get(name)
    return one.get("value") if isinstance(one, dict) else one


def as_ms(seconds: Any) -> float | None:
    return float(seconds) * 1e3 if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) else None


def as_int(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value else None


def as_rate(value: Any) -> float | None:
    """A rate; None for "inf", which sends everything at once."""
    try:
        rate = float(value)
    except (TypeError, ValueError):
        return None
    return rate if 0 < rate < float("inf") else None


def ratio_of(a: Any, b: Any) -> float | None:
    return a / b if isinstance(a, (int, float)) and isinstance(b, (int, float)) and b else None
