"""RankAnalysis: what the traces of several ranks say together. Its JSON is the contract `laptime.trace-ranks/1`.

All `*_ns` are integer nanoseconds on each rank's own clock.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from laptime.data.finding import Finding
from laptime.data.shown import Shown
from laptime.trace.result import WhatIf

SCHEMA = "laptime.trace-ranks/1"


class Waiting(msgspec.Struct, frozen=True):
    """Time inside collectives before a rank that came last had started them too."""

    rank: int  # that came last
    total_ns: int
    exposed_ns: int = 0  # of it: with no compute beside it
    first_ns: int = 0  # of that: in the first collective of a group, before which captures can begin apart


class RankTimes(msgspec.Struct, frozen=True, kw_only=True):
    """One rank's device: span = compute + exposed communication + copies and memsets alone + idle."""

    rank: int
    file: str
    device: int
    verdict: str  # of its file: ok | partial
    start_ns: int
    span_ns: int
    busy_ns: int
    idle_ns: int
    compute_ns: int  # union of compute
    communication_ns: int  # union of communication
    exposed_communication_ns: int  # of it: with no compute beside it
    copy_ns: int  # only copies ran
    memset_ns: int = 0  # only memsets ran
    collectives: int  # communication kernels
    waited_ns: int | None  # None when the clocks could not be aligned
    waited_for: list[Waiting] | None  # most first
    exposed_waited_ns: int | None = None  # of waited_ns: with no compute beside it
    last_in: int | None  # collectives to which it came last
    paired: int | None = None  # collectives that could be paired with those of other ranks


class Clocks(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the ranks' clocks could be aligned by the ends of collectives."""

    aligned: bool
    why: str  # not
    spread_ns: int | None  # three of four collectives end within this on all ranks, once aligned
    offsets_ns: list[int]  # each rank's clock less the first one's


class RanksStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step of all ranks together: None where it isn't known."""

    wall_ns: int | None  # as it was traced: the median of the ranks
    untraced_ns: int | None  # without the profiler, where that was given
    replay_ns: int | None  # what a replay of all ranks together takes
    refused: str  # why nothing is said of remedies; empty where something is


class RankAnalysis(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """Several ranks side by side."""

    ROWS: ClassVar[str] = "ranks"

    schema: str = SCHEMA
    headline: str
    source: str
    ranks: list[RankTimes]
    straggler: (
        int | None
    )  # for whom most of the exposed waiting was; None where it is little, no single rank's, unknown
    absent: int = 0  # ranks of the run whose traces are not here, as far as the files say how many it has
    clocks: Clocks
    findings: list[Finding]
    step: RanksStep | None = None  # where what-if was asked for
    whatif: list[WhatIf] = []  # remedies on every rank
