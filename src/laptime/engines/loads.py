"""Loads: when requests are to be sent. A load is a number of requests at once, or a schedule of arrivals."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from laptime.data.outside import DAMAGE, read_regular
from laptime.data.record import Scalar
from laptime.errors import LaptimeError

LoadKind = Literal["concurrency", "constant", "poisson", "ramp", "replay"]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """One level of load. arrivals_s: seconds after its start; empty for a level of concurrency."""

    kind: LoadKind
    name: str
    requests: int
    concurrency: int | None = None
    rate_per_s: float | None = None
    arrivals_s: list[float] = []

    @property
    def config(self) -> dict[str, Scalar]:
        """The knobs of this load, for the configuration of its samples."""
        return {"load": self.kind, "concurrency": self.concurrency, "rate_per_s": self.rate_per_s}


def concurrency(users: int, requests: int) -> Load:
    """A number of requests at once: each user sends its next one when its last one has ended."""
    return Load(kind="concurrency", name=f"{users} at once", requests=requests, concurrency=users)


def constant(rate_per_s: float, requests: int) -> Load:
    """Arrivals at equal distances."""
    times = (np.arange(requests) / rate_per_s).tolist()
    return _scheduled("constant", f"{rate_per_s:g}/s", times, rate_per_s)


def poisson(rate_per_s: float, requests: int, seed: int) -> Load:
    """Arrivals that don't know of each other: the distances are exponential."""
    if seed < 0:
        raise LaptimeError(f"the seed can't be negative: {seed}")
    gaps = np.random.default_rng(seed).exponential(1 / rate_per_s, requests)
    times = (np.cumsum(gaps) - gaps[0]).tolist() if requests else []
    return _scheduled("poisson", f"{rate_per_s:g}/s, random", times, rate_per_s)


def ramp(first_per_s: float, last_per_s: float, requests: int) -> Load:
    """Arrivals whose rate grows (or falls) evenly in time from the first to the last."""
    mean = (first_per_s + last_per_s) / 2
    length_s = requests / mean
    slope = (last_per_s - first_per_s) / length_s
    count = np.arange(requests)
    if abs(slope) < 1e-9:
        times = count / first_per_s
    else:  # the count of arrivals by t is first * t + slope * t**2 / 2
        times = (-first_per_s + np.sqrt(np.maximum(first_per_s**2 + 2 * slope * count, 0))) / slope
    return _scheduled("ramp", f"{first_per_s:g} to {last_per_s:g}/s", times.tolist(), mean)


def replay(file: Path) -> Load:
    """Recorded arrivals: a file with one time in seconds a line, or JSON lines with a field `timestamp` or `arrival_s`.

    The first arrival becomes the start. Raises LaptimeError for another file.
    """
    try:
        lines = read_regular(file).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LaptimeError(f"`replay` {file}: can't be read ({error}); name a file of arrival times") from None
    times = [_time(line, f"{file}, line {place}") for place, line in enumerate(lines, start=1) if line.strip()]
    if not times:
        raise LaptimeError(f"`replay` {file}: no arrivals; write one time in seconds a line")
    times.sort()
    whole = times[-1] - times[0]
    mean = (len(times) - 1) / whole if whole > 0 else None
    return _scheduled("replay", f"replay of {file.name}", [time - times[0] for time in times], mean)


def _scheduled(kind: LoadKind, name: str, times: list[float], rate: float | None) -> Load:
    return Load(kind=kind, name=name, requests=len(times), rate_per_s=rate, arrivals_s=times)


def _time(line: str, place: str) -> float:
    try:
        value = msgspec.json.decode(line)
        if isinstance(value, dict):
            value = value.get("arrival_s", value.get("timestamp"))
        number = float(value)
        if not np.isfinite(number):
            raise ValueError
    except (*DAMAGE, TypeError, ValueError):
        raise LaptimeError(f"{place}: no arrival; write seconds, or an object with arrival_s or timestamp") from None
    return number
