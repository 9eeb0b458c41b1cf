"""One sentence that says what the GPU waited for, and one that says what to do about it.

Where the trace has steps, the sentences are theirs: what lies before, between and after them, and what a program does
only once, is not what a steady state waits for.
"""

from __future__ import annotations

from laptime.trace.causes import UNNAMED
from laptime.trace.device_time import UNIFIED
from laptime.trace.result import SURE, CauseTime, CopyTime, DeviceTimes, HostTime, Integrity, Kernel, Steps, WhatIf

REASONS: dict[str, str] = {
    "host-not-launching": "the host can't launch fast enough",
    "launch-overhead": "the host can't launch fast enough",
    "graph-launch": "it waits for graphs to be launched",
    "memcpy": "the host is busy with copies",
    "synchronize": "the host sits in synchronisations",
    "allocation": "the host is allocating memory",
    "free": "the host is freeing memory",
    "module-load": "the host is loading or compiling kernels",
    "start-up": "the program starts up",
    "graph-capture": "the host is capturing graphs",
    "other-api": "the host is in other API calls",
    "profiler-overhead": "the profiler itself holds the host up",
    "queued": "the work was queued already, and the GPU took the time between its own kernels",
    "unknown": "the trace doesn't show what the host did",
}


START_UP = frozenset({"start-up", "module-load"})
"""Causes of what a program does once."""

OTHER_WORK = "the host does other work than launching"

FEW_KERNELS = 64
"""A trace of no more kernels than this can consist of first launches."""

LONG_NS = 1_000_000
"""A host that launches nothing for longer than this is doing something else than launching."""

APART = 0.05
"""A step's idle share that is further than this from the whole trace's is the one to speak of."""

OUTSIDE = 0.1
"""Where more of the trace than this lies outside the steps, the whole trace's idle share may not be theirs."""

SAID = 0.05
"""The least share of a step in which only communication runs that the advice speaks of."""

NARROW = 0.2
"""Of a graph with fusion the graph alone is spoken of where only its range is as narrow as this."""

WORTH = 0.97
"""A remedy that may leave more of the step than this is none to recommend."""


def headline(integrity: Integrity, devices: list[DeviceTimes], kernels: list[Kernel], steps: Steps) -> str:
    """The point of the whole analysis in one sentence."""
    if integrity.verdict == "unsupported" or not devices:
        why = integrity.findings[0].message if integrity.findings else "it holds no GPU activity"
        return f"This trace can't say what the GPU waited for: {why}"
    short = next((finding for finding in integrity.findings if finding.code == "short-device-span"), None)
    if short is not None and not steps.count:
        captured = any(finding.code == "captured-launches" for finding in integrity.findings)
        why = "; the host captured a graph meanwhile, which runs no kernel" if captured else ""
        return short.message.partition(":")[0].replace("the GPU", "The GPU", 1) + why
    device = max(devices, key=lambda d: d.busy_ns)
    idle = device.idle_ns / device.span_ns if device.span_ns else 0.0
    which = f"GPU {device.device}" if len(devices) > 1 else "GPU"
    exposed = _exposed(device)
    largest = max(exposed, key=exposed.__getitem__, default="")
    of_step = _idle_of_step(device, steps)
    out_ns = steps.outside_ns or 0
    others = list(exposed)
    if of_step is not None and abs(of_step - idle) >= APART and out_ns >= OUTSIDE * device.span_ns:
        said, others = (
            f"{which} {_step_words(of_step, steps)}; {out_ns / 1e6:.1f} ms of the trace lie outside the steps",
            [],
        )
    elif largest and exposed[largest] > max(idle, _LEADS):
        said = f"{which} busy {_percent(1 - idle)}: {_exposed_words(device, largest, exposed[largest])}"
        others = [kind for kind in exposed if kind != largest]
    elif sum(row.count for row in device.busy) == 1:
        said = f"{which}: only one activity is in the trace, so there are no gaps to explain"
    elif idle < 0.1:
        named = any(share >= _NAMED for share in exposed.values())
        parts = ["" if named else "it hardly waits", _where_busy(device, kernels)]
        said = f"{which} busy {_percent(1 - idle)}: {'; '.join(part for part in parts if part)}".removesuffix(": ")
    elif of_step is None and start_up_ns(device) >= 0.5 * device.idle_ns:
        said = f"{which} idle {_percent(idle)} while the program starts up: {_start_up(device)}"
        if start_up_ns(device) < _LONG_START * device.span_ns:
            said = f"{which} busy {_percent(1 - idle)}: {_where_busy(device, kernels)}; {_start_up(device)}"
    else:
        why = _why(integrity, device, kernels, steps)
        said = f"{which} idle {_percent(idle)}: {why}{_some_start_up(device)}"
    also = [f"; {_exposed_words(device, kind, exposed[kind], also=True)}" for kind in others if exposed[kind] >= _NAMED]
    shared = f"; {len(device.processes)} processes share it" if device.processes else ""
    return said + "".join(also) + shared


def _step_words(idle: float, steps: Steps) -> str:
    if idle < 0.1:
        return f"busy {_percent(1 - idle)} of a step: it hardly waits"
    return f"idle {_percent(idle)} of a step: {reason(steps.causes, [])}"


_LONG_START = 0.25
"""Start-up that is less of the span is not what a trace is about."""

_LEADS, _NAMED = 0.15, 0.1
"""From which share of the span on exposed copies or communication lead the headline, and are named in it."""


def _exposed(device: DeviceTimes) -> dict[str, float]:
    """The share of the span in which only communication ran, and in which only copies ran."""
    return {
        row.kind: row.share_ns / device.span_ns
        for row in device.busy
        if row.kind in ("communication", "copy") and device.span_ns
    }


def _exposed_words(device: DeviceTimes, kind: str, share: float, *, also: bool = False) -> str:
    if kind == "communication":
        return f"exposed communication {_percent(share)} (no compute beside it; waiting for other ranks is in it)"
    copies = [row for row in device.copies if row.direction not in ("memset", "peer to peer")]
    total = sum(row.sum_ns for row in copies)
    named = [copy_words(row) for row in copies if row.sum_ns >= 0.2 * total][:2]
    if also:
        return f"only copies run {_percent(share)} of the time, {' and '.join(named)}"
    return f"its time goes to copies ({_percent(share)}), {' and '.join(named)}"


def copy_words(row: CopyTime) -> str:
    """A direction of copies in a sentence: `host to device (pageable, 3.83 GB/s)`."""
    rate = None if row.bytes_per_second is None else f"{row.bytes_per_second / 1e9:.3g} GB/s"
    details = [word for word in (row.memory, rate) if word]
    return row.direction + (f" ({', '.join(details)})" if details else "")


def _idle_of_step(device: DeviceTimes, steps: Steps) -> float | None:
    """The step's idle share, None where no step can be spoken of."""
    if steps.device != device.device or not steps.wall_ns or steps.gap_ns is None or steps.confidence < SURE:
        return None
    return steps.gap_ns / steps.wall_ns


def start_up_ns(device: DeviceTimes) -> int:
    """Idle time in what a program does once."""
    return sum(row.total_ns for row in device.gaps.causes if row.cause in START_UP)


def _some_start_up(device: DeviceTimes) -> str:
    """What of the idle time is start-up, where it is not most of it and not little."""
    spent = start_up_ns(device)
    if spent < 0.1 * device.idle_ns:
        return ""
    return f"; {spent / 1e6:.1f} of the {device.idle_ns / 1e6:.1f} ms idle are start-up"


def _start_up(device: DeviceTimes) -> str:
    spent = f"{start_up_ns(device) / 1e6:.1f} of the {device.idle_ns / 1e6:.1f} ms idle are first calls"
    longest = next((gap for gap in device.gaps.large if gap.cause in START_UP and gap.api), None)
    return spent if longest is None else f"{spent}; the longest is in {longest.api}"


def _reason_of(device: DeviceTimes, steps: Steps) -> str:
    """Why a device waited, over the whole trace; without what the program does once, which is not why it waits now."""
    causes = [row for row in device.gaps.causes if row.cause not in START_UP] or device.gaps.causes
    host = [row for row in device.gaps.host if not (row.name.startswith("ProfilerStep") or row.name == steps.name)]
    words = reason(causes, host)
    return words.replace(REASONS["host-not-launching"], OTHER_WORK) if _works_on_else(device) else words


def _why(integrity: Integrity, device: DeviceTimes, kernels: list[Kernel], steps: Steps) -> str:
    """Why a device waited, as far as the trace knows its launches."""
    work = sum(row.count for row in device.busy)
    alone = sum(finding.count for finding in integrity.findings if finding.code == "no-launch-record")
    if alone > 0.5 * work:
        return "most of its work has no launch in this trace, so why isn't known"
    why = _reason_of(device, steps)
    launching = why.startswith((REASONS["launch-overhead"], OTHER_WORK))
    moved = sum(row.count for row in device.copies if row.memory == UNIFIED)
    if launching and moved > 0.5 * work:
        return f"the host launches nothing, and the driver moves pages of unified memory ({moved} copies)"
    first = steps.method == "none" and why.startswith(REASONS["launch-overhead"]) and _first_launches(device, kernels)
    if first and device.kernels != 1:
        return f"most of its {device.kernels} kernels ran for the first time, which takes long once"
    return why


def _first_launches(device: DeviceTimes, kernels: list[Kernel]) -> bool:
    """Whether most kernels of a short trace ran once or twice: their launches load code, and say nothing of speed."""
    own = [kernel.count for kernel in kernels if kernel.device == device.device]
    return 0 < sum(own) <= FEW_KERNELS and sum(count for count in own if count <= 2) > 0.5 * sum(own)


def _works_on_else(device: DeviceTimes) -> bool:
    """Whether the host's time between launches lies in few long stretches, not before each kernel."""
    time = {row.cause: row.total_ns for row in device.gaps.causes}
    away = sum(
        share.total_ns
        for gap in device.gaps.large
        for share in gap.shares
        if share.cause == "host-not-launching" and share.total_ns >= LONG_NS
    )
    return away > 0.5 * (time.get("host-not-launching", 0) + time.get("launch-overhead", 0))


_SHOWN = 0.005
"""A smaller share would be printed as 0 %."""


def _percent(share: float) -> str:
    if 0.9995 <= share < 1:
        return "over 99.9 %"
    return f"{share * 100:.0f} %" if share < 0.995 or share == 1 else f"{share * 100:.1f} %"


def reason(causes: list[CauseTime], host: list[HostTime]) -> str:
    """What most of the gap time was, in words; launching and not launching count together."""
    if not causes:
        return REASONS["unknown"]
    groups: dict[str, int] = {}
    for cause in causes:
        text = REASONS[cause.cause]
        groups[text] = groups.get(text, 0) + cause.total_ns
    words = max(groups, key=groups.__getitem__)
    if words != REASONS["host-not-launching"]:
        return words
    named = [row for row in host if row.name != UNNAMED and row.total_ns >= 0.05 * groups[words]][:3]
    if not named:
        return words
    most = sum(row.total_ns for row in named) >= 0.5 * groups[words]
    return f"{words}; {'it was' if most else 'partly'} in {', '.join(plain(row.name) for row in named)}"


def plain(name: str) -> str:
    """An operator's or a Python frame's name, short enough for a sentence."""
    name = " ".join(name.split())
    return name if len(name) <= 48 else name[:47] + "…"


def _where_busy(device: DeviceTimes, kernels: list[Kernel]) -> str:
    families: dict[str, float] = {}
    for kernel in kernels:
        if kernel.device == device.device:
            families[kernel.family] = families.get(kernel.family, 0.0) + kernel.share
    for row in device.busy:
        if row.kind == "copy" and device.busy_ns:
            families["copies"] = row.share_ns / device.busy_ns
    if not families:
        return ""
    top = sorted(families, key=families.__getitem__, reverse=True)[:2]
    top = [name for name in top if families[name] >= _SHOWN] or top[:1]
    return "its time goes to " + " and ".join(f"{name} ({_percent(families[name])})" for name in top)


def advice(steps: Steps, whatif: list[WhatIf], devices: list[DeviceTimes]) -> str:
    """The steady step in numbers and the remedy that leaves the least."""
    if steps.method == "none" or steps.wall_ns is None or steps.busy_ns is None:
        device = max(devices, key=lambda d: d.busy_ns, default=None)
        if device is not None and device.idle_ns and start_up_ns(device) >= 0.5 * device.idle_ns:
            return "No steady steps were found. Warm up first and trace what comes then: start-up says nothing of it."
        return "No steady steps were found, so nothing is said per step."
    subject = "A step takes" if steps.count > 1 else "The only step takes"
    if steps.confidence < SURE and steps.method == "period":
        subject = "If what repeats is a step, it takes"
    elif steps.confidence < SURE and steps.method == "forward":
        subject = "If what repeats are layers, the one pass through them takes"
    elif steps.method == "forward":
        subject = "The one forward pass in it takes"
    text = (
        f"{subject} {steps.wall_ns / 1e6:.2f} ms, the GPU works {steps.busy_ns / 1e6:.2f} ms of it"
        f"{f' in {steps.kernels_per_step} kernels' if steps.kernels_per_step else ''}{_layers(steps)}."
    )
    remedies = [row for row in whatif if row.remedy != "untraced"]
    warming = sum(row.total_ns for row in steps.causes if row.cause in START_UP)
    promised = bool(remedies) and not (steps.confidence < SURE or steps.unexplained or steps.uneven)
    best = _best(remedies) if promised and warming < SAID * steps.wall_ns else None
    if steps.host_work_ns and steps.host_work_ns > 0.1 * steps.wall_ns:
        loads = any(row.remedy == "workers" for row in whatif)
        graph = next((row for row in remedies if row.remedy == "graph"), best)
        text += _host_work(steps.host_work_ns, steps.busy_ns, best and (graph if loads else best), loads=loads)
    alone_ns = next((row.share_ns for row in steps.busy if row.kind == "communication"), 0)
    if alone_ns >= SAID * steps.wall_ns:
        text += f" For {alone_ns / 1e6:.2f} ms only communication runs: no remedy here ends it."
    if steps.uneven and steps.wall_p10_ns and steps.wall_p90_ns:
        spread = f"{steps.wall_p10_ns / 1e6:.2f} to {steps.wall_p90_ns / 1e6:.2f} ms"
        return f"{text} Steps differ, from {spread}: what remedies would leave of this one says little of the others."
    if warming >= SAID * steps.wall_ns:
        text += f" For {warming / 1e6:.2f} ms first calls are made: warm up first, and trace a step that has none."
    if best is None:
        return text
    if best.step_ns_high > WORTH * max(row.step_ns_high * row.speedup_low for row in remedies):
        return text if "no remedy here" in text else f"{text} No remedy that laptime knows is sure to win 3 % of it."
    workers = next((row for row in remedies if row.remedy == "workers" and row is not best), None)
    return " ".join([text, _promise(best), *([_promise(workers)] if workers else [])])


def _best(remedies: list[WhatIf]) -> WhatIf:
    """The remedy that leaves the least; the graph alone where fusion makes its range wide."""
    best = min(remedies, key=lambda row: row.step_ns_high)
    graph = next((row for row in remedies if row.remedy == "graph"), best)
    return graph if best.remedy == "graph+fusion" and _half_width(best) > NARROW >= _half_width(graph) else best


def _host_work(work_ns: int, busy_ns: int, ends: WhatIf | None, *, loads: bool) -> str:
    """What the host does in a step but launch, and whether `ends`, the remedy for launching, leaves it.

    It doesn't where launching ahead puts that work beside the device's.
    """
    does = "loads data" if loads else "does other work than launching"
    if ends is not None and ends.step_ns_high >= busy_ns + 0.5 * work_ns:
        does += ", which no graph ends" if loads else ": no remedy here ends it"
        return f" For {work_ns / 1e6:.2f} ms the host {does}."
    return f" For {work_ns / 1e6:.2f} ms the GPU waits while the host {does}."


def _promise(row: WhatIf) -> str:
    words = {
        "buffers": "A buffer pool",
        "fusion": "Fusion",
        "compile": "torch.compile",
        "graph": "A CUDA graph",
        "workers": "Workers in the data loader",
        "overlap": "Pinned copies beside the compute",
    }
    verb = "could" if row.remedy in ("compile", "workers") else "would"
    name = words.get(row.remedy, "A CUDA graph with fusion")
    return f"{name} {verb} leave {row.step_ns_low / 1e6:.2f} to {row.step_ns_high / 1e6:.2f} ms."


def _half_width(row: WhatIf) -> float:
    """How far the ends of a range are from its middle, as a share of it."""
    return (row.step_ns_high - row.step_ns_low) / (row.step_ns_high + row.step_ns_low)


def _layers(steps: Steps) -> str:
    if steps.layers is not None and steps.confidence < SURE:
        return f" ({steps.layers.count} equal parts)"
    if steps.layers is not None:
        most = steps.layers.outside < 0.25 * (steps.kernels_per_step or 0)
        return f" ({steps.layers.count} {'layers' if most else 'equal layers'})"
    if steps.attention_kernels is not None and steps.attention_kernels > 1:
        return f" ({steps.attention_kernels} of them the same attention)"
    return ""
