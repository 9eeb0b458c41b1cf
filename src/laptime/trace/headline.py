"""One sentence that says what the GPU waited for.

Where the trace has steps, the sentence is theirs: what lies before, between and after them, and what a program does
only once, is not what a steady state waits for.
"""

from __future__ import annotations

from laptime.trace.busy_words import copy_words, exposed_shares, exposed_words, ms_words, percent, where_busy
from laptime.trace.completeness import OR_RANKS
from laptime.trace.idle_words import (
    OTHER_WORK,
    REASONS,
    idle_of_step,
    loads_again,
    one_gap,
    reason,
    waits_within,
    why_idle,
    works_on_else,
)
from laptime.trace.integrity import why_unsupported
from laptime.trace.result import DeviceTimes, Integrity, Kernel, Steps
from laptime.trace.start_up import SOME, START_UP, first_calls_ns

MISSING: dict[str, str] = {
    "failed-launches": "",  # its finding says how many
    "launches-without-kernels": "",
    "lost-records": "Nsight Systems noted that CUDA events may be missing",
    "under-recorded-replays": "graph replays lack kernels",
    "truncated-capture": "the file is cut",
    "zero-durations": "",
    "before-launch": "the clocks of host and device disagree",
}
"""Severe findings after which work may be missing between what is there, or its launches lie elsewhere, and what the
headline says of them."""

DISAGREE = 0.1
"""A step whose idle share is further than this from that of all uneven steps together doesn't stand for them."""

IDLE_OUTSIDE = 0.2
"""From which share on idle time outside the steps is said."""

SHORTER = 0.5
"""A device that worked within less than this share of the longest one's time is said with its own time."""

MOSTLY = 0.7
"""A cause of more than this share of idle time is why it is idle."""

APART = 0.05
"""A step's idle share that is further than this from the whole trace's is the one to speak of."""

OUTSIDE = 0.1
"""Where more of the trace than this lies outside the steps, the whole trace's idle share may not be theirs."""


def headline(integrity: Integrity, devices: list[DeviceTimes], kernels: list[Kernel], steps: Steps) -> str:
    """The point of the whole analysis in one sentence."""
    if integrity.verdict == "unsupported" or not devices:
        return f"This trace can't say what the GPU waited for: {why_unsupported(integrity)}"
    short = next((finding for finding in integrity.findings if finding.code == "short-device-span"), None)
    if short is not None and not steps.count:
        captured = any(finding.code == "captured-launches" for finding in integrity.findings)
        why = "; the host captured a graph meanwhile, which runs no kernel" if captured else ""
        return short.message.partition(":")[0].replace("the GPU", "The GPU", 1) + why
    device = max(devices, key=lambda d: d.busy_ns)
    idle = device.idle_ns / device.span_ns if device.span_ns else 0.0
    which = f"GPU {device.device}" if len(devices) > 1 else "GPU"
    exposed = exposed_shares(device)
    of_step = idle_of_step(device, steps)
    out_ns = steps.outside_ns or 0
    others: list[str] = []
    of_all = ""
    missing = missing_work(integrity)
    if of_step is not None and (
        not device.busy_ns or not _stands_for_all(device, steps, of_step) or missing == MISSING["before-launch"]
    ):
        of_step = None
    spoiled = _wrong_durations(integrity)
    doubtful = missing or spoiled
    if of_step is not None and abs(of_step - idle) >= APART and out_ns >= OUTSIDE * device.span_ns:
        of, outside = (
            "" if short else " of the trace",
            "it" if steps.count == 1 else f"the {'steady ' * bool(steps.warm_up)}steps",
        )
        unused = steps.outside_idle_ns or 0
        why = " in what was recorded" if missing else _why_outside(steps)
        of_them = f", {ms_words(unused, 1)} ms of them idle{why}" if unused >= IDLE_OUTSIDE * out_ns else ""
        said = f"{which} {_step_words(of_step, steps)}; {ms_words(out_ns, 1)} ms{of} lie outside {outside}{of_them}"
        said += f"; {missing}" if missing else spoiled
        of_all = " of the trace"
    elif of_step is not None and abs(of_step - idle) >= APART and not doubtful and _first_calls_apart(device, steps):
        apart = ms_words(start_up_ns(device) - first_calls_ns(steps.causes), 1)
        said = f"{which} {_step_words(of_step, steps)}; first calls elsewhere took {apart} ms"
        of_all = " of the trace"
    elif of_step is not None and abs(of_step - idle) >= APART and not doubtful and _longer_steps_ns(device, steps):
        longer = _longer_steps_ns(device, steps)
        said = f"{which} {_step_words(of_step, steps)}; a few steps are longer, by {ms_words(longer, 1)} ms together"
        of_all = " of the trace"
    elif missing and idle >= _HARDLY and _launches_failed(integrity):
        said = f"{which} idle {percent(idle)}: {missing}"
    elif missing and device.busy_ns and idle >= _HARDLY:
        said = f"{which} idle {percent(idle)} in what was recorded; {missing}, so why isn't certain"
    else:
        said, others = _of_trace(which, idle, integrity, device, kernels, steps)
    also = [f"; {exposed_words(device, kind, exposed[kind], also=True)}" for kind in others if exposed[kind] >= _NAMED]
    ranks = any(OR_RANKS in finding.message for finding in integrity.findings)
    shared = (
        f"; {len(device.processes)} processes share it{', or are merged ranks' * ranks}" if device.processes else ""
    )
    if any(finding.code == "merged-streams" for finding in integrity.findings):
        shared += "; kernels of one stream overlap, so several streams or ranks may be in it under one number"
    within = "" if short is None else short.message.partition(":")[0].replace("the GPU's", "The GPU's", 1) + "; in it: "
    return (
        within
        + said
        + "".join(also)
        + shared
        + _other_devices(device, devices, not said.startswith(f"{which} idle"), of_all)
    )


def missing_work(integrity: Integrity) -> str:
    """What work may be missing from the trace, in words; empty where the file names none."""
    for finding in integrity.findings:
        if finding.code in MISSING and finding.severity == "severe":
            return MISSING[finding.code] or finding.message.partition(":")[0]
    return ""


def _launches_failed(integrity: Integrity) -> bool:
    """Whether work is missing because it failed, and not because the profiler lost it."""
    return any(finding.code == "failed-launches" and finding.severity == "severe" for finding in integrity.findings)


def _of_trace(
    which: str, idle: float, integrity: Integrity, device: DeviceTimes, kernels: list[Kernel], steps: Steps
) -> tuple[str, list[str]]:
    """The sentence about all of the trace, and which exposed kinds of work it does not name yet."""
    exposed = exposed_shares(device)
    largest = max(exposed, key=exposed.__getitem__, default="")
    spoiled = _wrong_durations(integrity)
    idle_words = f"{which} idle {'at least ' if spoiled else ''}{percent(idle)}"
    busy_words = f"{which} busy {'at most ' if spoiled else ''}{percent(1 - idle)}"
    if sum(row.count for row in device.busy) == 1:
        copied = [row for row in device.copies if row.direction != "memset"]
        what = f", a copy {copy_words(copied[0])}," if copied else ""
        return f"{which}: only one activity{what} is in the trace, so there are no gaps to explain", []
    if device.busy_ns == 0:
        return f"{which}: all durations of its work are recorded as 0, so how long it worked isn't known", []
    if largest and exposed[largest] > max(idle, _LEADS):
        less = exposed[largest] < _computes(device)  # its time goes to compute more than to this
        computes = f", computing {percent(_computes(device))}" if largest == "communication" or less else ""
        said = f"{busy_words}{computes}: {exposed_words(device, largest, exposed[largest], also=less)}"
        return said, [kind for kind in exposed if kind != largest]
    if idle < _HARDLY and spoiled:
        of_step = idle_of_step(device, steps)
        said = busy_words if of_step is None else f"{which} {_step_words(of_step, steps)}"
        return f"{said}{spoiled}", []
    if idle < _HARDLY:
        named = bool(device.processes) or any(share >= _NAMED for share in exposed.values())
        parts = ["" if named else "it hardly waits", where_busy(device, kernels)]
        return f"{busy_words}: {'; '.join(part for part in parts if part)}".removesuffix(": "), list(exposed)
    alone = steps.count == 1 and first_calls_ns(steps.causes) >= 0.5 * (steps.gap_ns or 0)
    if (alone or idle_of_step(device, steps) is None) and start_up_ns(device) >= 0.5 * device.idle_ns:
        if start_up_ns(device) < _LONG_START * device.span_ns:
            return f"{busy_words}: {where_busy(device, kernels)}; {_start_up(device)}", list(exposed)
        return f"{idle_words} while the program starts up: {_start_up(device)}", list(exposed)
    why = why_idle(integrity, device, kernels, steps)
    most = one_gap(device) if idle_of_step(device, steps) is None else ""
    return f"{idle_words}: {why}{most}{_some_start_up(device, steps)}{spoiled}", list(exposed)


def _wrong_durations(integrity: Integrity) -> str:
    """What must be said of the durations in the file; empty where nothing speaks against them."""
    codes = {finding.code for finding in integrity.findings}
    if "overlong-kernels" in codes:
        return "; some recorded durations can't be"
    return "; the last recorded duration is doubtful" if "doubtful-duration" in codes else ""


def _computes(device: DeviceTimes) -> float:
    """The share of the span in which kernels compute."""
    return next((row.busy_ns / device.span_ns for row in device.busy if row.kind == "compute" and device.span_ns), 0.0)


def _other_devices(device: DeviceTimes, devices: list[DeviceTimes], busy: bool, of: str) -> str:
    """How busy, or how idle, the other devices were: in the measure that the sentence before uses.

    Args:
        device: the one that the sentence before speaks of.
        devices: all.
        busy: whether that sentence says how busy it was.
        of: what the shares are of, where that sentence's is of something else.
    """
    others = [one for one in devices if one is not device and one.span_ns]
    shares = [(one, (one.busy_ns if busy else one.idle_ns) / one.span_ns) for one in others[:3]]
    longest = max(one.span_ns for one in devices)
    words = [
        f"GPU {one.device} {'busy' if busy else 'idle'} {percent(share)}"
        + (f" of the {one.span_ns / 1e6:.3g} ms in which it worked" if one.span_ns < SHORTER * longest else of)
        for one, share in shares
    ]
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return f"; {', '.join(words)}{more}" if words else ""


def _why_outside(steps: Steps) -> str:
    """Why a device waits between and around its steps, where that is one thing; empty where it isn't."""
    most = max(steps.outside_causes, key=lambda row: row.total_ns, default=None)
    if (
        most is None
        or most.cause in ("unknown", "queued", "launch-overhead")
        or most.total_ns < MOSTLY * (steps.outside_idle_ns or 0)
    ):
        return ""
    return f": {OTHER_WORK if most.cause == 'host-not-launching' else REASONS[most.cause]}"


def _step_words(idle: float, steps: Steps) -> str:
    of = "its one forward pass" if steps.method == "forward" else "a step" if steps.count > 1 else "the only step"
    if idle < _HARDLY:
        return f"busy {percent(1 - idle)} of {of}: it hardly waits"
    why = reason(steps.causes, [])
    if why == REASONS["host-not-launching"] and works_on_else(steps):
        why = OTHER_WORK
    also = waits_within(steps) if why == REASONS["host-not-launching"] else ""
    return f"idle {percent(idle)} of {of}: {why}{also}"


_LONG_START = 0.25
"""Start-up that is less of the span is not what a trace is about."""

_HARDLY = 0.1
"""A device that is idle for less hardly waits."""

_LEADS, _NAMED = 0.15, 0.1
"""From which share of the span on exposed copies or communication lead the headline, and are named in it."""


def _stands_for_all(device: DeviceTimes, steps: Steps, of_step: float) -> bool:
    """Whether the step shown waits for about as much of its time as all of uneven steps do, first calls apart."""
    once = start_up_ns(device)
    lasts = device.span_ns - (steps.outside_ns or 0) - once
    if not steps.uneven or lasts <= 0:
        return True
    return max(device.idle_ns - (steps.outside_idle_ns or 0) - once, 0) / lasts < of_step + DISAGREE


def start_up_ns(device: DeviceTimes) -> int:
    """Idle time in what a program does once."""
    return first_calls_ns(device.gaps.causes)


def _first_calls_apart(device: DeviceTimes, steps: Steps) -> bool:
    """Whether most of the idle time lies in first calls, and none of it in the step that is shown."""
    within = first_calls_ns(steps.causes)
    return within < SOME * (steps.wall_ns or 0) and start_up_ns(device) - within >= 0.5 * device.idle_ns


def _longer_steps_ns(device: DeviceTimes, steps: Steps) -> int:
    """How much longer than usual the steps are together, where few are and this is most of the trace; else 0."""
    if steps.count < 3 or steps.uneven:
        return 0
    usual = steps.count * (steps.wall_ns or 0)
    longer = device.span_ns - (steps.outside_ns or 0) - usual
    return longer if longer > usual else 0


def _some_start_up(device: DeviceTimes, steps: Steps) -> str:
    """What of the idle time is start-up, where it is not most of it and not little."""
    spent = start_up_ns(device)
    if spent < 0.1 * device.idle_ns or loads_again(steps):
        return ""
    return f"; {ms_words(spent, 1)} of the {ms_words(device.idle_ns, 1)} ms idle are start-up"


def _start_up(device: DeviceTimes) -> str:
    spent = f"{ms_words(start_up_ns(device), 1)} of the {ms_words(device.idle_ns, 1)} ms idle are first calls"
    longest = next((gap for gap in device.gaps.large if gap.cause in START_UP and gap.api), None)
    return spent if longest is None else f"{spent}; the longest is in {longest.api}"
