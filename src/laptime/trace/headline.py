"""One sentence that says what the GPU waited for, and one that says what to do about it."""

from __future__ import annotations

from laptime.trace.causes import UNNAMED
from laptime.trace.result import CauseTime, CopyTime, DeviceTimes, HostTime, Integrity, Kernel, Steps, WhatIf

REASONS: dict[str, str] = {
    "host-not-launching": "the host can't launch fast enough",
    "launch-overhead": "the host can't launch fast enough",
    "graph-launch": "it waits for graphs to be launched",
    "memcpy": "the host is busy with copies",
    "synchronize": "the host sits in synchronisations",
    "allocation": "the host is allocating memory",
    "free": "the host is freeing memory",
    "module-load": "the host is loading or compiling kernels",
    "graph-capture": "the host is capturing graphs",
    "other-api": "the host is in other API calls",
    "profiler-overhead": "the profiler itself holds the host up",
    "queued": "the work was queued already, and the GPU took the time between its own kernels",
    "unknown": "the trace doesn't show what the host did",
}


def headline(integrity: Integrity, devices: list[DeviceTimes], kernels: list[Kernel]) -> str:
    """The point of the whole analysis in one sentence."""
    if integrity.verdict == "unsupported" or not devices:
        why = integrity.findings[0].message if integrity.findings else "it holds no GPU activity"
        return f"This trace can't say what the GPU waited for: {why}"
    device = max(devices, key=lambda d: d.busy_ns)
    idle = device.idle_ns / device.span_ns if device.span_ns else 0.0
    which = f"GPU {device.device}" if len(devices) > 1 else "GPU"
    exposed = _exposed(device)
    largest = max(exposed, key=exposed.__getitem__, default="")
    if largest and exposed[largest] > max(idle, _LEADS):
        said = f"{which} busy {_percent(1 - idle)}: {_exposed_words(device, largest, exposed[largest])}"
        others = [kind for kind in exposed if kind != largest]
    elif idle < 0.1:
        said = f"{which} busy {_percent(1 - idle)}: it hardly waits{_where_busy(device, kernels)}"
        others = []
    else:
        said = f"{which} idle {_percent(idle)}: {reason(device.gaps.causes, device.gaps.host)}"
        others = list(exposed)
    also = [f"; {_exposed_words(device, kind, exposed[kind])}" for kind in others if exposed[kind] >= _NAMED]
    shared = f"; {len(device.processes)} processes share it" if device.processes else ""
    return said + "".join(also) + shared


_LEADS, _NAMED = 0.25, 0.1
"""From which share of the span on exposed copies or communication lead the headline, and are named in it."""


def _exposed(device: DeviceTimes) -> dict[str, float]:
    """The share of the span in which only communication ran, and in which only copies ran."""
    return {
        row.kind: row.share_ns / device.span_ns
        for row in device.busy
        if row.kind in ("communication", "copy") and device.span_ns
    }


def _exposed_words(device: DeviceTimes, kind: str, share: float) -> str:
    if kind == "communication":
        return f"exposed communication {_percent(share)} (no compute beside it; waiting for other ranks is in it)"
    copies = [row for row in device.copies if row.direction not in ("memset", "peer to peer")]
    total = sum(row.sum_ns for row in copies)
    named = [copy_words(row) for row in copies if row.sum_ns >= 0.2 * total][:2]
    return f"its time goes to copies ({_percent(share)}), {' and '.join(named)}"


def copy_words(row: CopyTime) -> str:
    """A direction of copies in a sentence: `host to device (pageable, 3.83 GB/s)`."""
    rate = None if row.bytes_per_second is None else f"{row.bytes_per_second / 1e9:.3g} GB/s"
    details = [word for word in (row.memory, rate) if word]
    return row.direction + (f" ({', '.join(details)})" if details else "")


def _percent(share: float) -> str:
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
    named = [row.name for row in host if row.name != UNNAMED][:3]
    if not named:
        return words
    return f"{words}; it was in {', '.join(plain(name) for name in named)}"


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
    return "; its time goes to " + " and ".join(f"{name} ({_percent(families[name])})" for name in top)


def advice(steps: Steps, whatif: list[WhatIf]) -> str:
    """The steady step in numbers and the remedy that leaves the least."""
    if steps.method == "none" or steps.wall_ns is None or steps.busy_ns is None:
        return "No steady steps were found, so nothing is said per step."
    text = (
        f"A step takes {steps.wall_ns / 1e6:.2f} ms, the GPU works {steps.busy_ns / 1e6:.2f} ms of it"
        f"{f' in {steps.kernels_per_step} kernels' if steps.kernels_per_step else ''}"
        f"{f' ({steps.layers.count} layers)' if steps.layers else ''}."
    )
    remedies = [row for row in whatif if row.remedy != "untraced"]
    if remedies:
        best = min(remedies, key=lambda row: row.step_ns_high)
        words = {"buffers": "A buffer pool", "fusion": "Fusion", "graph": "A CUDA graph"}
        name = words.get(best.remedy, "A CUDA graph with fusion")
        text += f" {name} would leave {best.step_ns_low / 1e6:.2f} to {best.step_ns_high / 1e6:.2f} ms."
    return text
