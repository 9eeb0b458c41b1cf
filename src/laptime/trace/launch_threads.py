"""Host threads with their named ranges, and the tree of names while it grows."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.host_segments import Segments, nest
from laptime.trace.launch_labels import RangeLabels
from laptime.trace.read.timeline import GpuTimeline, Int32, Int64

NOWHERE = -1


class GrowingTree(msgspec.Struct, eq=False):
    """The tree while it grows."""

    known: dict[tuple[int, str, int], int]
    of_range: Int32  # for each row of Ranges its node, NOWHERE
    threads: list[HostThread]  # that are in the tree already

    def get(self, parent: int, name: str, kind: int) -> int:
        """A node's place."""
        return self.known.setdefault((parent, name, kind), len(self.known))


class HostThread(msgspec.Struct, frozen=True, eq=False):
    """A thread's named ranges. `rows` are indices into Ranges; `parent` counts within `rows`."""

    rows: npt.NDArray[np.intp]
    segments: Segments
    parent: Int32
    level: Int32  # how many of them each lies in


def host_thread(
    timeline: GpuTimeline, labels: RangeLabels, thread: tuple[int, int], at_ns: Int64, *, only: int | None = None
) -> HostThread:
    """A thread's named ranges that hold any of these instants; of one kind, or of all."""
    ranges = timeline.ranges
    own = (ranges.process == thread[0]) & (ranges.thread == thread[1]) & (labels.label >= 0)
    rows = np.flatnonzero(own if only is None else own & (labels.kind == only))
    if len(rows) == 0:
        return HostThread(rows, *nest(rows, rows))
    instants = np.append(np.sort(at_ns, kind="stable"), np.iinfo(np.int64).max)  # work starts about as it is launched
    start, end = ranges.start_ns[rows], ranges.end_ns[rows]
    holds = instants[np.searchsorted(instants, start)] < end
    return HostThread(rows[holds], *nest(start[holds], end[holds]))
