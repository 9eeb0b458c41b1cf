"""Who launched the device's work: times by operator, module, range, and as a tree. A part of `laptime.trace/1`.

Times are sums of the durations of kernels, copies, memsets and whole graphs: work that runs together counts twice.
"""

from __future__ import annotations

import msgspec


class Launcher(msgspec.Struct, frozen=True, kw_only=True):
    """One operator, module, range or Python frame, over all its occurrences."""

    kind: str  # operator | module | range | frame (a Python frame, where no module is recorded)
    name: str  # a module with those that it lies in: A › B; a range without its number: step #
    calls: int  # occurrences that launched something
    activities: int  # kernels, copies, memsets, whole graphs
    own_ns: int  # launched while it was the innermost of its kind
    total_ns: int  # launched while it was open
    share: float  # total_ns of all device work


class LaunchNodes(msgspec.Struct, frozen=True, kw_only=True):
    """The tree in columns: a node's parent stands before it, and is -1 for an outermost one."""

    name: list[str]
    kind: list[str]  # range | module | operator | frame | kernel | other (nodes too small to be listed)
    parent: list[int]
    total_ns: list[int]  # with all that lies in it
    activities: list[int]


class OperatorWork(msgspec.Struct, frozen=True, kw_only=True):
    """One operator with one shape: device time of its own launches, against what the card can do at most."""

    operator: str
    shape: str  # 8944×1024, 1024×1024 (fp16)
    kind: str | None  # GEMM | convolution | attention | norm | softmax | reduce | elementwise | copy; None: not known
    calls: int
    activities: int
    total_ns: int
    flop: int | None  # of one call; None where the shapes don't say
    bytes: int | None  # of one call: the least that must move
    flop_per_second: float | None
    bytes_per_second: float | None
    bound: str | None  # compute | memory: what the card's peaks allow no faster
    of_peak: float | None  # the least time by the card's peaks over the measured time; None for a card not known


class CardPeaks(msgspec.Struct, frozen=True, kw_only=True):
    """The card that the trace names, and its peaks by the maker's data sheet; None where it isn't known."""

    name: str
    bytes_per_second: float | None
    flop_per_second: dict[str, float]  # by type: fp64, fp32, tf32, fp16 (and bf16), fp8, int8


class CaptureMatch(msgspec.Struct, frozen=True, kw_only=True):
    """How a capture's trace named the kernels of graph replays."""

    file: str
    captures: int  # that the capture's trace holds
    replays: int  # graph launches that ran on the device
    named: int  # of them: those that fit a capture
    activities: int  # that got a name by it
    agreement: float | None  # share of kernels that bear the name which the capture states; None where it states none
    by_order: bool  # whether kernels fit by number and order alone


class LaunchedBy(msgspec.Struct, frozen=True, kw_only=True):
    """Who launched one device's work over the whole trace."""

    device: int
    total_ns: int  # sum of durations of all its work
    unknown_ns: int  # of it: the launch is not in the trace
    unnamed_ns: int  # of it: launched outside any named range, module or operator
    launchers: list[Launcher]  # of each kind those with the most time
    left_out: int  # further ones
    tree: LaunchNodes
    card: CardPeaks | None = None
    work: list[OperatorWork] = []  # empty where no shapes were recorded; most time first
    work_left_out: int = 0
    capture: CaptureMatch | None = None  # with a capture's trace beside it
