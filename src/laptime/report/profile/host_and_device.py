"""The same marks as the host saw them pass: how far it ran ahead of the device, or made it wait."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from laptime.data.record import Sample, StageTimes
from laptime.data.summary import summarise
from laptime.report.kit.html import Html, section, table, tag
from laptime.report.kit.numbers import text
from laptime.report.profile.data import median_sample
from laptime.report.profile.stage_bar import stage_bar


def host_section(samples: Sequence[Sample], device: str | None) -> Html:
    """The same marks as the host saw them pass: how far it ran ahead of the device."""
    title, id_ = "Host and device", "host"
    if device is None or device == "cpu":
        return section(title, id=id_, lead="This run was on a CPU: the host is the device, and there is one timeline.")
    middle = median_sample(samples)
    seen = summarise([msgspec.structs.replace(sample, stages=sample.host_stages) for sample in samples])
    done = summarise(samples)
    rows = [
        [
            tag("span", tag("span", class_=f"swatch {name}"), name.capitalize()),
            text(stage.median.value, "ms"),
            text(seen.stages[name].median.value if name in seen.stages else None, "ms"),
        ]
        for name, stage in done.stages.items()
        if stage.mean > 0
    ]
    return section(
        title,
        _two_bars(middle.stages, middle.host_stages) if middle else None,
        table(["median", "device", "host"], rows, numeric=[1, 2]),
        id=id_,
        lead="The device reaches a mark when it has done the work before it; the host passes it when it has asked for "
        "that work. A stage that is much shorter on the host was only queued there; where both agree, the device waits "
        "for the host.",
    )


def _two_bars(device: StageTimes, host: StageTimes) -> Html:
    longest = max(device.total_ms, host.total_ms)
    cells = [
        [tag("span", name), stage_bar(times, height=22, scale_ms=longest, labels=False), text(times.total_ms, "ms")]
        for name, times in (("Device", device), ("Host", host))
    ]
    return tag("div", [[a, b, tag("span", c)] for a, b, c in cells], class_="two-bars")
