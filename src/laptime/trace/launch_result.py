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


class LaunchedBy(msgspec.Struct, frozen=True, kw_only=True):
    """Who launched one device's work over the whole trace."""

    device: int
    total_ns: int  # sum of durations of all its work
    unknown_ns: int  # of it: the launch is not in the trace
    unnamed_ns: int  # of it: launched outside any named range, module or operator
    launchers: list[Launcher]  # of each kind those with the most time
    left_out: int  # further ones
    tree: LaunchNodes
