"""Which unit a column of times is in, by its name: `time_us` holds microseconds.

What people are told is in milliseconds, and so is every budget. A column whose name says another unit is converted
where it is told; the estimator itself stays in the column's own unit.
"""

from __future__ import annotations

import re
from itertools import pairwise

MS_PER = {
    1e-6: ("ns", "nsec", "nsecs", "nanosecond", "nanoseconds"),
    1e-3: ("us", "µs", "μs", "usec", "usecs", "microsecond", "microseconds"),
    1.0: ("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"),
    1e3: ("s", "sec", "secs", "second", "seconds"),
    6e4: ("minutes",),
}
MS_PER_SECOND = 1e3
UNIT_NAMES = {1e-6: "nanoseconds", 1e-3: "microseconds", 1e3: "seconds", 6e4: "minutes"}
_FACTORS = {word: factor for factor, words in MS_PER.items() for word in words}
_COUNTED = re.compile(r"(tok|token|sample|request|req|image|img|iteration|frame)s?|it|[kmg]i?b|[mgt]flops?")
_RATES = ("tps", "qps", "rps", "fps", "throughput", "tflops", "gflops", "bandwidth")


def ms_per_unit(name: str) -> float:
    """What one of the column's unit is in milliseconds: 0.001 for `time_us`; 1 where the name says nothing."""
    words = _words(name)
    found = [word for place, word in enumerate(words) if _is_unit(words, place)]
    return _FACTORS[found[-1]] if found else 1.0


def says_unit(name: str) -> bool:
    """Whether the name says a unit of time at all."""
    words = _words(name)
    return any(_is_unit(words, place) for place in range(len(words)))


def is_rate(name: str) -> bool:
    """Whether the name says that the column counts something per second."""
    words = _words(name)
    if any(word in _RATES for word in words):
        return True
    after = (one for one in pairwise(words) if _FACTORS.get(one[1], 0.0) == MS_PER_SECOND)
    return any(before == "per" or _COUNTED.fullmatch(before) for before, _ in after)


def unit_notes(name: str) -> list[str]:
    """What a reader must know of a target's unit: what it is converted from, or that its name says none."""
    if not says_unit(name):
        return [f"the name {name!r} says no unit: its times are taken to be in milliseconds"]
    factor = ms_per_unit(name)
    if factor == 1.0:
        return []
    return [f"{name!r} is in {UNIT_NAMES[factor]} by its name: answers and budgets are in milliseconds all the same"]


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-zµμ]+", name.lower()) if word]


def _is_unit(words: list[str], place: int) -> bool:
    """A bare s is a unit at the end only: in `s_max` it may be anything."""
    return words[place] in _FACTORS and (words[place] != "s" or place == len(words) - 1)
