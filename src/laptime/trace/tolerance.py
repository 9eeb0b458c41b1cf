"""From two replays to a promise: how far the outcomes of measured programs lay from the middle between the replays.

The programs are those of benchmarks/whatif_truth.py, the method is that of benchmarks/whatif_ranges.py: a tolerance
interval of the logarithm of outcome over middle. It holds 95 % of normally spread outcomes with a confidence of 95 %.
The constants of the replays were set by the same programs, so each of them costs a degree of freedom. It remains an
expectation.
"""

from __future__ import annotations

import math

from laptime.trace.remedied import Remedied

SHIFT = {"graph": -0.022, "compile": -0.020, "workers": -0.020, "overlap": -0.020}
"""The median logarithm of outcome over middle, of 69 graphs and of 46 other programs."""

REACH = 0.150
"""How far the range reaches from there: as far as keeps it within 15 % of its middle. All 115 programs give 0.114,
which is not relied on: those that were new lay further out."""


REACHES = "a range reaches at least 15 % to both sides of the middle of two replays, as far as its floor allows"
"""The same in words."""


ASKED, LATEST = (104, 80), (12, 11)
"""Programs that no range had been set on when they were measured, on an H200, and how many ended inside: of all seven
sets since ranges are made in this way, and of the last one. Nothing was set on the last one."""

RECORD = (
    f"how often such ranges held: {ASKED[1]} of {ASKED[0]} programs that laptime had not been tuned on "
    f"({LATEST[1]} of the latest {LATEST[0]}), measured on an H200"
)


RANKS_RECORD = (
    "of ten programs on two H200 all ended in such ranges, but these were known while the replay of several ranks was "
    "made"
)
"""The same of ranges of several ranks: no program was new to them."""

HELD_OFTEN = 0.9
"""A promise is said as what would come, not as what could, once so many new programs were held."""

VERB = "would" if ASKED[1] >= HELD_OFTEN * ASKED[0] else "could"


def tolerated(made: Remedied, remedy: str) -> Remedied:
    """The range that is promised: as wide as the replays differ, and at least as wide as outcomes did."""
    middle = (made.low_ns + made.high_ns) / 2
    half = (made.high_ns - made.low_ns) / 2 / max(middle, 1.0)
    reach = max(REACH, math.atanh(min(half, 0.99)))
    low, high = (round(middle * math.exp(SHIFT[remedy] + way * reach)) for way in (-1, 1))
    return Remedied(max(low, made.floor_ns), max(high, low, made.floor_ns), made.floor_ns)
