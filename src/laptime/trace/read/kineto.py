"""PyTorch profiler files (Kineto's Chrome trace, .json or .json.gz), from the format of 2021 to today's.

CUDA and HIP alike: what an event is follows from its category, never from API names. Host events carry their
process; device events carry the device in that place, so a device event's process is that of the call which
launched it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from laptime.data.record import Finding
from laptime.trace.read import tables
from laptime.trace.read.kineto_columns import claim, joined
from laptime.trace.read.kineto_stream import Ending, read_batches
from laptime.trace.read.timeline import GpuTimeline, Source


def read(path: Path) -> GpuTimeline:
    """Read a PyTorch profiler file.

    A cut file is read as far as whole events go, with a finding. Events that can't be true (no time, a negative
    duration) are left out and counted.

    Raises:
        LaptimeError: when the file has no event list or damaged gzip data.
    """
    batches, ending = read_batches(path)
    untimed, negative = sum(batch.untimed for batch in batches), sum(batch.negative for batch in batches)
    names, activities, calls, ranges = joined(batches)
    return GpuTimeline(
        source=Source("kineto", str(path), ending.schema_version),
        activities=tables.activities(claim(tables.in_one(activities), calls, names)),
        calls=tables.calls(calls),
        ranges=tables.ranges(ranges),
        strings=names,
        findings=tuple(_findings(ending, untimed, negative)),
    )


def _findings(ending: Ending, untimed: int, negative: int) -> Iterable[Finding]:
    """What the reader had to leave out."""
    if ending.how != "complete":
        what = "ends in the middle" if ending.how == "cut" else "stops being JSON"
        yield Finding(
            code="truncated-capture",
            severity="severe",
            message=f"the file {what} after byte {ending.at_byte} (unpacked): only the events before are counted",
        )
    if ending.unreadable:
        yield Finding(
            code="unreadable-events",
            severity="severe",
            message="events that are not valid and were left out",
            count=ending.unreadable,
        )
    if untimed:
        yield Finding(
            code="untimed-events",
            severity="severe",
            message="events without a readable start or duration were left out",
            count=untimed,
        )
    if negative:
        yield Finding(
            code="negative-durations",
            severity="severe",
            message="events that end before they start were left out",
            count=negative,
        )
