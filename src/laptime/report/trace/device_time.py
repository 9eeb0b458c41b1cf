"""What a device's time went to, in a terminal and on the page: compute, communication, copies, each exposed or not."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from laptime.report.kit.html import Html, section, table, tag
from laptime.report.kit.numbers import NOTHING, count, number, text
from laptime.report.kit.terminal import columns_table, with_remarks
from laptime.report.trace import words
from laptime.trace.result import DeviceTimes

WORK_HEADS = ("work", "count", "busy ms", "exposed ms", "of span")
COPY_HEADS = ("what", "host memory", "count", "ms", "size", "GB/s")
PROCESS_HEADS = ("process", "busy ms", "alone ms", "of span")


def device_time_report(device: DeviceTimes) -> Iterator[RenderableType]:
    """The tables of one device for a terminal; copies and processes only where there are any."""
    work = columns_table(*WORK_HEADS, title=f"What GPU {device.device} worked on", numeric=range(1, 5))
    for cells in _work_rows(device):
        work.add_row(*cells)
    yield with_remarks(work, [Text(EXPOSED, style="dim"), ""])
    if device.copies:
        copies = columns_table(*COPY_HEADS, title=COPIES, numeric=range(2, 6))
        for cells in _copy_rows(device):
            copies.add_row(*cells)
        yield with_remarks(copies, [""])
    if device.processes:
        shared = columns_table(*PROCESS_HEADS, title="Processes on this GPU", numeric=range(1, 4))
        for cells in _process_rows(device):
            shared.add_row(*cells)
        yield with_remarks(shared, [""])


def device_time_section(device: DeviceTimes, *, several: bool) -> Html:
    """The same on the page."""
    return section(
        f"What GPU {device.device} worked on" if several else "What the GPU worked on",
        table(WORK_HEADS, _work_rows(device), numeric=range(1, 5)),
        [tag("h3", COPIES), table(COPY_HEADS, _copy_rows(device), numeric=range(2, 6))] if device.copies else None,
        [tag("h3", "Processes on this GPU"), table(PROCESS_HEADS, _process_rows(device), numeric=range(1, 4))]
        if device.processes
        else None,
        id=f"work-section-{device.device}",
        lead=EXPOSED,
    )


COPIES = "Copies and memsets"

EXPOSED = (
    "Busy: the union of all intervals of a kind. Kinds overlap, so these sum to more than the device's busy time."
    " Exposed: no compute ran beside it. For compute: nothing else ran beside it."
)


def _work_rows(device: DeviceTimes) -> list[list[str]]:
    return [
        [
            row.kind,
            count(row.count),
            words.ms_column(row.busy_ns),
            words.ms_column(row.exposed_ns),
            words.share(row.busy_ns, device.span_ns),
        ]
        for row in device.busy
    ]


def _copy_rows(device: DeviceTimes) -> list[list[str]]:
    return [
        [
            row.direction,
            row.memory or NOTHING,
            count(row.count),
            words.ms_column(row.sum_ns),
            NOTHING if row.bytes is None else text(row.bytes, "bytes"),
            NOTHING if row.bytes_per_second is None else number(row.bytes_per_second / 1e9),
        ]
        for row in device.copies
    ]


def _process_rows(device: DeviceTimes) -> list[list[str]]:
    return [
        [
            str(row.process),
            words.ms_column(row.busy_ns),
            words.ms_column(row.alone_ns),
            words.share(row.busy_ns, device.span_ns),
        ]
        for row in device.processes
    ]
