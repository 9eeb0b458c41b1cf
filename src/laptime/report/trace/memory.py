"""Memory over a trace, in a terminal and on the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.console import RenderableType
from rich.text import Text

from laptime.report.kit.html import Html, chart, section, table, tag
from laptime.report.kit.numbers import NOTHING, count, percent, text
from laptime.report.kit.terminal import Column, columns_table, with_remarks
from laptime.report.kit.text import counted, one_line
from laptime.report.trace.launched_by import last_parts
from laptime.trace.memory_result import DeviceMemory, MemoryHolder

HEADS = ("held at the peak by", "module", "blocks", "size", "of peak")
SHOWN = 8
"""Holders that a terminal shows."""

LEAST_BYTES = 1 << 20
"""A device whose memory never reaches this is not shown; the JSON has it."""


def memory_report(devices: Sequence[DeviceMemory], worked: Sequence[int] = ()) -> Iterator[RenderableType]:
    """Each device's peak and what held it. worked: the numbers of the GPUs whose kernels the trace holds."""
    for memory in shown(devices):
        title = f"Memory of {_device(memory)}"
        remarks = [Text(line, style="dim") for line in [*_remarks(memory, worked), ""]]
        if not memory.holders:
            yield with_remarks(Text(title, style="bold"), remarks)
            continue
        holders = columns_table(
            Column(HEADS[0], max_width=24),
            Column(HEADS[1], max_width=26),
            *(Column(head, numeric=True) for head in HEADS[2:]),
            title=title,
        )
        for row in memory.holders[:SHOWN]:
            holders.add_row(*(Text(cell) for cell in _cells(row, memory, 26)))
        yield with_remarks(holders, remarks)


def memory_section(devices: Sequence[DeviceMemory], worked: Sequence[int] = ()) -> Html:
    """The curve of each device, and what held its peak. worked: the GPUs whose kernels the trace holds."""
    parts = [
        [
            tag("h3", f"Memory of {_device(memory)}"),
            chart(f"memory-{memory.device}", "Allocated memory over the trace, with its steps"),
            tag("p", " ".join(_remarks(memory, worked)), class_="lead"),
            table(HEADS, [_cells(row, memory, 60) for row in memory.holders], numeric=(2, 3, 4))
            if memory.holders
            else None,
        ]
        for memory in shown(devices)
    ]
    return section(
        "Memory",
        parts,
        id="memory-section",
        lead="What the framework's allocator had given out, by the host's time. The host is ahead of the device.",
    )


def memory_data(devices: Sequence[DeviceMemory]) -> list[dict[str, object]]:
    """What the script draws: times from the first one on."""
    return [
        {
            "id": f"memory-{memory.device}",
            "at": [at - memory.curve_ns[0] for at in memory.curve_ns],
            "bytes": memory.curve_bytes,
            "peak": memory.peak_bytes,
            "peakAt": memory.peak_ns - memory.curve_ns[0],
            "steps": [step.start_ns - memory.curve_ns[0] for step in memory.steps],
        }
        for memory in shown(devices)
    ]


def shown(devices: Sequence[DeviceMemory]) -> list[DeviceMemory]:
    """Those that are worth a reader's time."""
    return [memory for memory in devices if memory.peak_bytes >= LEAST_BYTES]


def _device(memory: DeviceMemory) -> str:
    return "the host" if memory.device < 0 else f"GPU {memory.device}"


def _cells(row: MemoryHolder, memory: DeviceMemory, limit: int) -> list[str]:
    return [
        one_line(row.operator or "outside operators", 60),
        last_parts(one_line(row.module, 300), limit) if row.module else NOTHING,
        count(row.allocations),
        text(row.bytes, "bytes"),
        percent(row.bytes / memory.peak_bytes) if memory.peak_bytes else NOTHING,
    ]


def _remarks(memory: DeviceMemory, worked: Sequence[int]) -> list[str]:
    since = ", counted from the trace's begin: what was there before is not in it" if memory.relative else ""
    lines = [
        f"Peak {text(memory.peak_bytes, 'bytes')}; {text(memory.start_bytes, 'bytes')} at the beginning,"
        f" {text(memory.end_bytes, 'bytes')} at the end{since}."
    ]
    if worked and memory.device >= 0 and memory.device not in worked:
        gpus = " and ".join(f"GPU {number}" for number in worked[:3]) + (" and others" if len(worked) > 3 else "")
        lines.append(
            f"{memory.device} is the allocator's number; the work in this file is numbered {gpus}: the framework and"
            " the profiler may count GPUs differently."
        )
    if memory.reserved_bytes:
        lines.append(f"The allocator had taken {text(memory.reserved_bytes, 'bytes')} from the device at most.")
    if memory.before_bytes:
        lines.append(f"At the peak {text(memory.before_bytes, 'bytes')} were from before the trace, as weights are.")
    if not memory.holders:
        lines.append("What held the peak is not known: the blocks have no addresses in this file.")
    if memory.steps:
        low, high = min(step.peak_bytes for step in memory.steps), max(step.peak_bytes for step in memory.steps)
        peaks = text(high, "bytes") if low == high else f"{text(low, 'bytes')} to {text(high, 'bytes')}"
        starts = [step.start_bytes for step in memory.steps]
        grows = starts[-1] - starts[0]
        theirs = "its peak is" if len(memory.steps) == 1 else "their peaks are"
        lines.append(f"Over {counted(len(memory.steps), 'step')}: {theirs} {peaks}.")
        growing = all(later > earlier for earlier, later in pairwise(starts))
        if len(starts) > 2 and growing and grows > 0.02 * memory.peak_bytes:
            lines[-1] += f" Each begins with more than the one before: {text(grows, 'bytes')} more in all."
    return lines
