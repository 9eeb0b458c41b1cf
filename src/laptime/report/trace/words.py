"""What a trace's answer is called in words, the same in the terminal and on the page.

The headline and the advice are sentences of the JSON: laptime.trace.headline writes them.
"""

from __future__ import annotations

from collections.abc import Sequence

from laptime.data.finding import Finding
from laptime.report.kit.numbers import KEEP_TOGETHER, NOTHING, count, decimals, percent, ratio, whole_percent
from laptime.report.kit.text import counted, one_line
from laptime.trace.attention_kinds import attention_words
from laptime.trace.device_time import UNIFIED
from laptime.trace.headline import missing_work
from laptime.trace.idle_words import launches_unknown
from laptime.trace.result import MANY, DeviceTimes, Integrity, LargeGap, Steps, TraceAnalysis, TracedPass, WhatIf
from laptime.trace.tolerance import RANKS_RECORD, RECORD

CAUSES: dict[str, str] = {
    "host-not-launching": "host not launching",
    "launch-overhead": "launching",
    "graph-launch": "launching a graph",
    "memcpy": "copying",
    "synchronize": "synchronising",
    "allocation": "allocating",
    "free": "freeing",
    "module-load": "loading kernels",
    "start-up": "starting up",
    "graph-capture": "capturing a graph",
    "other-api": "other API calls",
    "profiler-overhead": "the profiler",
    "queued": "already queued",
    "unknown": "unknown",
}
"""What the launching thread was doing, for each code of laptime.trace.api.CAUSES."""

VERDICTS: dict[str, str] = {
    "ok": "Integrity ok: the file supports every figure.",
    "partial": "Integrity partial: the file does not support some figures.",
    "unsupported": "Integrity unsupported: the file can't support an answer.",
}

_WHOLE = ("busy time", "kernels", "gaps")
_SUMS = ("counts", "sums")

NOT_WHOLLY: dict[str, tuple[str, ...]] = {
    "no-api-calls": ("launches", "causes of gaps", "who launched what"),
    "no-launch-record": ("launches", "causes of gaps", "who launched what"),
    "before-launch": ("causes of gaps",),
    "graph-granularity": ("kernels in graphs",),
    "under-recorded-replays": _WHOLE,
    "launches-without-kernels": _WHOLE,
    "failed-launches": _WHOLE,
    "lost-records": _WHOLE,
    "step-incomplete": ("the step",),
    "doubtful-duration": ("busy time", "gaps"),
    "overlong-kernels": ("busy time", "gaps"),
    "zero-durations": ("kernel times",),
    "zero-timestamps": ("busy time", "gaps"),
    "truncated-capture": _SUMS,
    "second-trace": _SUMS,
    "unreadable-events": _SUMS,
    "untimed-events": _SUMS,
    "negative-durations": _SUMS,
}
"""Which figures a severe finding limits, for each code; of others only their message says it."""

METHODS: dict[str, str] = {
    "nvtx": "NVTX ranges",
    "annotation": "profiler ranges",
    "graph": "graph launches",
    "period": "the period of the kernel sequence",
    "forward": "its layers",
}
"""What the steps were cut by, for each `Steps.method`."""


def verdict_text(integrity: Integrity) -> str:
    """The verdict in one line. Figures that findings limit are not said to be supported without them."""
    warnings = sum(finding.severity == "warning" for finding in integrity.findings)
    if integrity.verdict == "ok" and warnings:
        these = "the warning allows" if warnings == 1 else "the warnings allow"
        return f"Integrity ok, with {counted(warnings, 'warning')}: the figures hold as far as {these}."
    severe = {finding.code for finding in integrity.findings if finding.severity == "severe"}
    if integrity.verdict == "partial" and severe and severe <= NOT_WHOLLY.keys():
        limited = dict.fromkeys(figure for code, these in NOT_WHOLLY.items() if code in severe for figure in these)
        return f"Integrity partial: the file does not wholly support {_listed(list(limited))}."
    return VERDICTS.get(integrity.verdict, integrity.verdict)


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def main_device(analysis: TraceAnalysis) -> DeviceTimes | None:
    """The device that worked most: the headline speaks of it."""
    return max(analysis.devices, key=lambda device: device.busy_ns, default=None)


def ms_column(ns: float | None) -> str:
    """Nanoseconds as a number of ms for a column whose points stand below each other."""
    return decimals(None if ns is None else ns / 1e6, 3)


def kernels_title(devices: Sequence[DeviceTimes]) -> str:
    """What the table of kernels holds: of graphs that were recorded whole no kernel is known."""
    return "Kernels outside graphs" if any(device.kernels is None for device in devices) else "Kernels"


def doubt_of_causes(integrity: Integrity, device: DeviceTimes) -> str | None:
    """What must be said of causes where the headline leaves open why the device waited; None where it doesn't."""
    missing = missing_work(integrity)
    if not missing and launches_unknown(integrity, device):
        missing = "most of its work has no launch in this trace"
    return f"These are what the host did meanwhile, not surely why: {missing}." if missing else None


GAPS_OF_CAUSES = "A gap is counted under its main cause; its time is parted among all of its causes."
"""Why a cause can have time and no gap."""


def share(part: float, whole: float) -> str:
    """A part of a whole as per cent; a dash where there is no whole."""
    return percent(part / whole) if whole else NOTHING


def finding_text(finding: Finding, limit: int = 600) -> str:
    """A finding's message and how often it was noticed, unless the message begins with that."""
    said = finding.message.startswith(f"{finding.count} ")
    times = f" ({count(finding.count)} times)" if finding.count > 1 and not said else ""
    return one_line(finding.message, limit) + times


def step_origin(steps: Steps) -> str:
    """What the steps were cut by and how regular they are: graph launches, confidence 98 %."""
    name = f" ({one_line(steps.name, 60)})" if steps.name else ""
    return f"{METHODS.get(steps.method, steps.method)}{name}, confidence {whole_percent(steps.confidence)}"


def layer_shape(steps: Steps) -> str:
    """Layers of one step: 36 × 11 + 4 is 36 layers of 11 kernels and 4 kernels outside."""
    layers = steps.layers
    return NOTHING if layers is None else f"{layers.count} × {layers.kernels_per_layer:g} + {layers.outside}"


def layers_name(steps: Steps) -> str:
    """What the parts of a step are: layers, unless none of their kernels is of a kind that layers have."""
    return "layers" if steps.layers is None or steps.layers.known else "equal parts"


def uncounted_layers(steps: Steps) -> str | None:
    """What is known of layers that were not counted; None where nothing is."""
    kinds = attention_words(steps.attention_kinds)
    return None if kinds is None else f"not counted, they differ; {kinds.replace('of them', 'kernels run', 1)}"


def launches(device: DeviceTimes) -> str:
    """How many kernels and copies a device ran, from how many launches."""
    some = any(row.cause != "unknown" for row in device.gaps.causes)
    ran, launched = _ran(device), _launches(device.launches, some=some)
    pages = sum(row.count for row in device.copies if row.memory == UNIFIED)
    alone: list[str] = []
    if device.launched_before:
        alone.append(f"{counted(device.launched_before, 'activity', 'activities')} launched before the trace")
    if pages and device.launches is not None:
        alone.append(f"{counted(pages, 'copy', 'copies')} by the driver")
    if alone:
        return f"{ran}; {', '.join([launched, *alone[:-1]])}, and {alone[-1]}"
    known = device.kernels is not None and device.launches is not None
    return f"{ran} from {launched}" if known else f"{ran}; {launched}"


def _ran(device: DeviceTimes) -> str:
    if device.kernels is None:
        return "kernels are not counted, as replays of graphs were recorded whole"
    sets = sum(row.count for row in device.busy if row.kind == "memset")
    copies = sum(row.count for row in device.busy) - sets - device.kernels
    parts = [f"{count(device.kernels)} kernel{'' if device.kernels == 1 else 's'}"]
    parts += [counted(copies, "copy", "copies")] * bool(copies) + [counted(sets, "memset")] * bool(sets)
    return _listed(parts)


def _launches(known: int | None, *, some: bool) -> str:
    unknown = "not all of their launches were recorded" if some else "launches were not recorded"
    return unknown if known is None else counted(known, "launch", "launches")


def step_title(steps: Steps) -> str:
    """What the table of the step shows."""
    if steps.method == "forward":
        return f"The one forward pass, known by {step_origin(steps)}"
    which = "The only step" if steps.count == 1 else f"One step of {count(steps.count)}"
    return f"{which}, cut by {step_origin(steps)}"


def step_tokens(steps: Steps) -> str | None:
    """How many tokens the step embeds, 16 × 2048; None where that isn't known."""
    return None if not steps.tokens else " × ".join(map(count, steps.tokens))


def step_spread(steps: Steps) -> str:
    """The range that holds four of five steps, or all of fewer."""
    if steps.count < 2:
        return "there is no second one"
    if steps.count - steps.cut == 1:
        others = "the other one is" if steps.count == 2 else "the others are"
        return f"{others} at an edge of the trace, or of the warm-up"
    low, high = ms_column(steps.wall_p10_ns), ms_column(steps.wall_p90_ns)
    which = "steps" if steps.count < MANY else "four of five steps"
    return f"{which} take {low if low == high else f'{low} to {high}'}{KEEP_TOGETHER}ms"


def inside(gap: LargeGap) -> str:
    """Where the launching thread was for longest during a gap: an operator, or an API call."""
    return (gap.host if gap.cause == "host-not-launching" else gap.api) or NOTHING


PASSES = {"vision": "Vision", "encoder": "An encoder", "prefill": "Prefill"}
_PASS_METHODS = {
    "range": "a range",
    "module": "a module",
    "layers": "its layers",
}


def pass_origin(one: TracedPass) -> str:
    """What says which kernels are a pass's own: a module (CLIPVisionModel_0)."""
    name = f" ({one_line(one.name, 60)})" if one.name else ""
    return f"{_PASS_METHODS.get(one.method, one.method)}{name}"


def step_range(row: WhatIf) -> str:
    """The step under a remedy, in ms: 5.60–6.24, or one number where both ends are equal."""
    low, high = (decimals(ns / 1e6, _places(row)) for ns in (row.step_ns_low, row.step_ns_high))
    return low if low == high else f"{low}–{high}"


def floor_ms(row: WhatIf) -> str:
    """What no remedy of this kind goes below, in ms."""
    return decimals(None if row.floor_ns is None else row.floor_ns / 1e6, _places(row))


def _places(row: WhatIf) -> int:
    """Decimals for the ms of a remedy: two, unless they would say nothing."""
    return 2 if row.step_ns_high >= 50_000 else 5


def assumed(row: WhatIf) -> list[str]:
    """What a range assumes, without how often such ranges held, which a report says once."""
    return [one for one in row.assumptions if one not in (RECORD, RANKS_RECORD)]


def notes(rows: Sequence[WhatIf]) -> list[tuple[str, list[str]]]:
    """What the ranges assume: whom it is said of, and what. What several rows assume is said once, behind their own."""
    whom: dict[str, list[str]] = {}
    for row in rows:
        for one in assumed(row):
            whom.setdefault(one, []).append(row.remedy)
    own = {row.remedy: [one for one in assumed(row) if len(whom[one]) == 1] for row in rows}
    shared: dict[str, list[str]] = {}
    for one, remedies in whom.items():
        if len(remedies) > 1:
            named = "all of them" if len(remedies) == len(rows) else ", ".join(remedies)
            shared.setdefault(named, []).append(one)
    return [(remedy, said) for remedy, said in (*own.items(), *shared.items()) if said]


def record(rows: Sequence[WhatIf]) -> str:
    """How often ranges like these held, and whose they are; empty where none of the remedies was judged so."""
    lines = []
    for said in (RECORD, RANKS_RECORD):
        judged = dict.fromkeys(row.remedy for row in rows if said in row.assumptions)
        lines += [f"{', '.join(judged)}: {said}."] if judged else []
    return " ".join(lines)


def speedup_range(row: WhatIf) -> str:
    """How many times as fast the step would be, both ends with as many decimals: 1.35–1.50×, 7.6–10.7×."""
    ends = (row.speedup_low, row.speedup_high)
    places = [len(ratio(end).removesuffix("×").partition(".")[2]) for end in ends]
    low, high = (decimals(end, places[1] if row.speedup_high >= _TEN else max(places)) for end in ends)
    return f"{low}×" if low == high else f"{low}–{high}×"


_TEN = 9.995
"""From here on a factor has fewer decimals."""
