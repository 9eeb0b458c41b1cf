"""PyTorch profiler files (Kineto's Chrome trace, .json or .json.gz), from the format of 2021 to today's.

CUDA and HIP alike: what an event is follows from its category, never from API names. Host events carry their
process; device events carry the device in that place, so a device event's process is that of the call which
launched it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from laptime.data.finding import Finding
from laptime.trace.read import tables
from laptime.trace.read.kineto_bytes import blocks
from laptime.trace.read.kineto_columns import joined
from laptime.trace.read.kineto_stream import Ending, read_batches
from laptime.trace.read.launch_links import claim
from laptime.trace.read.merged_ranks import split_merged
from laptime.trace.read.repeated_rows import without_repeats
from laptime.trace.read.timeline import GpuTimeline, Source

UNREAD: tuple[tuple[str, bytes, str], ...] = (
    (
        "unread-device",
        rb'"otherData":\s{0,9}\{\s{0,9}"laptime"',
        "this is a timeline that laptime export wrote: it has the stages of calls, and no kernels. Look at it on"
        " https://ui.perfetto.dev, or capture a trace with torch.profiler",
    ),
    (
        "unread-device",
        rb'"Ascend Hardware"',
        "the device in this file is an Ascend NPU, and laptime reads device work of CUDA and HIP only",
    ),
    (
        "unread-device",
        rb'"mtia_ccp_events"',
        "the device in this file is an MTIA accelerator, and laptime reads device work of CUDA and HIP only",
    ),
    (
        "unread-device",
        rb'"/device:[A-Z]{3}:\d',
        "XLA's profiler (JAX, TensorFlow) wrote this file; laptime reads those of torch.profiler and Nsight Systems:"
        " trace the program with nsys profile -t cuda,nvtx",
    ),
    (
        "unread-device",
        rb'"name"\s{0,9}:\s{0,9}"(?:CPU H(?:IP|SA) API|Hip \d{1,12})"',
        "rocprof wrote this file; laptime reads those of torch.profiler and Nsight Systems: trace with torch.profiler,"
        " and export with prof.export_chrome_trace()",
    ),
    (
        "legacy-autograd",
        rb'"pid":\s{0,9}"(?:CPU|CUDA) functions"',
        "torch.autograd.profiler wrote this file in its old format, without streams and launches; capture the trace"
        " again with torch.profiler.profile",
    ),
)
"""Files that hold device work which is not read: finding code, what shows it, and the message.

The patterns are compiled when a file without device work is read: start-up counts."""

OTHER_PROGRAM = (
    "none of its events is of a kind that torch.profiler writes (kernel, cuda_runtime, cpu_op and the like): another"
    " program wrote this file"
)

NO_EVENT = "no event is in its list: nothing was recorded, or it is no trace"

NOTHING_RAN = "torch.profiler recorded nothing: no operator and no work of a GPU ran while it was active"

_WINDOW = b'"Record Window End"'
"""torch.profiler's own mark, which it writes whatever else it recorded."""

_EVENT = rb'"(?:ph|name|id)"\s{0,9}:'

_LONGEST_SIGN = 64


def read(path: Path, *, details: bool = True) -> GpuTimeline:
    """Read a PyTorch profiler file; with its shapes, autograd's numbers and memory, or without these `details`.

    A cut file is read as far as whole events go, with a finding. Events that can't be true (no time, a negative
    duration) are left out and counted.

    Raises:
        LaptimeError: when the file has no event list or damaged gzip data.
    """
    batches, ending = read_batches(path, details=details)
    untimed, negative = sum(batch.untimed for batch in batches), sum(batch.negative for batch in batches)
    events = joined(batches)
    known = bool(untimed or events.calls or events.ranges) or ending.how != "complete"
    findings = [] if events.activities else list(_unread(path, known=known))
    findings += _findings(ending, untimed, negative)
    activities = tables.in_one(events.activities)
    merged = split_merged(activities, events.calls, events.ranges, events.memory, events.names)
    if merged is not None:
        findings.append(merged)
    work, calls, repeated = without_repeats(
        tables.activities(claim(activities, events.calls, events.names)), tables.calls(events.calls)
    )
    findings += [repeated] if repeated is not None else []
    return GpuTimeline(
        source=Source("kineto", str(path), ending.schema_version, ending.rank, ending.world_size),
        activities=work,
        calls=calls,
        ranges=tables.ranges(events.ranges),
        strings=events.names,
        findings=tuple(findings),
        shapes=events.shapes,
        groups=events.groups,
        memory=tables.memory(events.memory),
        cards=ending.cards,
    )


def _unread(path: Path, *, known: bool) -> Iterable[Finding]:
    """Why a file without any activity has none, where the file itself shows it.

    known: whether host work is in it, or its end is missing, so that what it holds doesn't tell what it is.
    """
    behind, named, windowed = b"", False, False
    with closing(blocks(path)) as content:
        for block in content:
            text = behind + block
            named = named or re.search(_EVENT, text) is not None
            windowed = windowed or _WINDOW in text
            for code, sign, message in UNREAD:
                if re.search(sign, text):
                    yield Finding(code=code, severity="severe", message=message)
                    return
            behind = text[-_LONGEST_SIGN:]
    if not known:
        message = NOTHING_RAN if windowed else OTHER_PROGRAM if named else NO_EVENT
        yield Finding(code="unread-device", severity="severe", message=message)


def _findings(ending: Ending, untimed: int, negative: int) -> Iterable[Finding]:
    """What the reader had to leave out."""
    if ending.how != "complete":
        what = "ends in the middle" if ending.how == "cut" else "stops being JSON"
        yield Finding(
            code="truncated-capture",
            severity="severe",
            message=f"the file {what} after byte {ending.at_byte} (unpacked): only the events before are counted",
        )
    yield from ending.behind
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
