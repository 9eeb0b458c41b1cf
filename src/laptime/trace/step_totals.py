"""StepCosts: the modal step in sums, as far as remedies care."""

from __future__ import annotations

import msgspec

RESIDUAL_NS = (200, 800)
"""Gap between two kernels of one graph replay: low, high."""

WAITS = 0.1
"""With a larger share of the step in communication that may be waiting, launches that the rank saves may not be what
the step waits for."""


CARRIED = 0.05
"""With a larger share of the step in which only earlier steps' work runs, the step's own work doesn't say how long it
would last."""


class StepCosts(msgspec.Struct, frozen=True, kw_only=True):
    """The modal step as far as remedies care. Times in ns."""

    wall_ns: int
    busy_ns: int
    kernels: int
    allocation_ns: int  # gap time in allocation and free
    outside_ns: int  # gap time around kernels outside the layers, and in synchronize and copies
    fusable: int  # kernels that could be merged into the one before
    fusable_ns: int  # durations of the shorter of each pair, as far as nothing runs beside them
    fusable_gap_ns: int  # idle time right before the merged kernels
    kept_ns: int = 0  # gap time in which the host works on something else than launching
    launch_ns: int = 0  # the least time from a launch to its work that the step shows, 0 where launches run ahead
    hidden: int = 0  # kernels that run beside those of other streams
    graphed: bool = False  # one graph's replay already launches most kernels
    replayed: bool = False  # replays of graphs do, of one or of several
    residual_ns: tuple[int, int] = RESIDUAL_NS
    communicates: bool = False  # with other ranks, by kernels
    waiting_ns: int = 0  # in communication, beyond what a fast link takes: it may be waiting for other ranks
    carried_ns: int = 0  # busy time in which only work runs that began before the step

    @property
    def waits(self) -> bool:
        """Whether the step may wait for other ranks rather than for its own launches."""
        return self.waiting_ns > WAITS * self.wall_ns

    @property
    def carries(self) -> bool:
        """Whether work from before the step covers a good part of it."""
        return self.carried_ns > CARRIED * self.wall_ns

    @property
    def gap_ns(self) -> int:
        return self.wall_ns - self.busy_ns

    @property
    def in_turn(self) -> int:
        """Kernels that run one after another, so that a residual before each of them lengthens the step."""
        return self.kernels - self.hidden
