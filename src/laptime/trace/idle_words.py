"""Why a device waited, in words: the host, its calls, the driver, or work that was queued already."""

from __future__ import annotations

from laptime.trace.busy_words import ms_words
from laptime.trace.causes import UNNAMED
from laptime.trace.device_time import UNIFIED
from laptime.trace.plain_names import plain
from laptime.trace.result import SURE, CauseTime, DeviceTimes, HostTime, Integrity, Kernel, Steps
from laptime.trace.start_up import SOME, START_UP
from laptime.trace.step_cuts import LEAST_STEPS
from laptime.trace.step_ranges import LOADER

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


ALLOCATES_AND_FREES = "the host is allocating and freeing memory"
ALSO = 0.3
"""From which share of the one on the other is said too."""

OTHER_WORK = "the host does other work than launching"
CAPTURES = "the host captures graphs meanwhile, which runs no kernel"
NOT_BEGUN = "the work was queued already, and the GPU didn't begin it: what it waited for isn't in the trace"

CAPTURED = 0.2
"""From how many launches that a capture recorded on, as a share of the work, the host's other work is that too."""

FEW_KERNELS = 64
"""A trace of no more kernels than this can consist of first launches."""

AT_ONCE = 4
"""A step of graphs and no more launches than this isn't bound by launching."""

EACH = 8
"""Where so many kernels come from each launch on average, graphs are among the launches."""

OFTEN, WAITS_SHARE = 8, 0.1
"""From how many waits in a step on, and from which share of its launches on, they are said."""

QUEUED_NS = 100_000
"""A device that has work queued and begins none for longer than this waits for something else."""

PAGE_NS = 10_000_000
"""A wait in which no page moves for longer than this is not one for pages of unified memory."""

NEARLY_ALL = 0.9
"""A gap that is more than this of all idle time is said."""

LONG_NS = 1_000_000
"""A host that launches nothing for longer than this is doing something else than launching."""


def _reason_of(device: DeviceTimes, steps: Steps) -> str:
    """Why a device waited, over the whole trace; without what the program does once, which is not why it waits now."""
    causes = [row for row in device.gaps.causes if row.cause not in START_UP] or device.gaps.causes
    if loads_again(steps):
        causes = device.gaps.causes
    holds = {steps.name} if not (steps.name or "").startswith(LOADER) else set()  # a range that holds a whole step
    host = [row for row in device.gaps.host if not (row.name.startswith("ProfilerStep") or row.name in holds)]
    words = reason(causes, host)
    if words == REASONS["queued"] and _not_begun(device):
        return NOT_BEGUN
    elsewhere = _works_on_else(device) or _step_works_on_else(device, steps)
    launching = OTHER_WORK if elsewhere else f"{REASONS['host-not-launching']}{waits_within(steps)}"
    return words.replace(REASONS["host-not-launching"], launching)


def waits_within(steps: Steps) -> str:
    """That the host waits for the device again and again within a step, after which it has launched nothing ahead."""
    waits = steps.host_waits or 0
    if waits < OFTEN or waits < WAITS_SHARE * (steps.launches_per_step or 0):
        return ""
    return f", and waits for the GPU {waits} times in a step"


def why_idle(integrity: Integrity, device: DeviceTimes, kernels: list[Kernel], steps: Steps) -> str:
    """Why a device waited, as far as the trace knows its launches."""
    work = sum(row.count for row in device.busy)
    if launches_unknown(integrity, device):
        return "most of its work has no launch in this trace, so why isn't known"
    why = _reason_of(device, steps)
    launching = why.startswith((REASONS["launch-overhead"], OTHER_WORK))
    captured = sum(finding.count for finding in integrity.findings if finding.code == "captured-launches")
    if launching and captured > work:
        return CAPTURES
    if captured > CAPTURED * work:
        why = why.replace(OTHER_WORK, f"{OTHER_WORK}, such as capturing graphs, which runs no kernel")
    moved = sum(row.count for row in device.copies if row.memory == UNIFIED)
    if launching and moved > 0.5 * work:
        if sum(gap.duration_ns for gap in device.gaps.large if gap.duration_ns >= PAGE_NS) > 0.5 * device.idle_ns:
            return f"{OTHER_WORK}; the driver moves pages of unified memory in between ({moved} copies)"
        return f"the host launches nothing, and the driver moves pages of unified memory ({moved} copies)"
    first = steps.method == "none" and why.startswith(REASONS["launch-overhead"]) and _first_launches(device, kernels)
    if first and device.kernels != 1:
        return (
            f"it waits for launches; most of the {device.kernels} are a kernel's first or second in this trace, and a"
            " first launch can take longer"
        )
    return why


def one_gap(device: DeviceTimes) -> str:
    """That one gap is nearly all of the idle time, where there are others too and it is."""
    longest = max(device.gaps.large, key=lambda gap: gap.duration_ns, default=None)
    if longest is None or device.gaps.count < 2 or longest.duration_ns < NEARLY_ALL * device.idle_ns:
        return ""
    return f"; one gap of {ms_words(longest.duration_ns, 1)} ms is nearly all of it"


def launches_unknown(integrity: Integrity, device: DeviceTimes) -> bool:
    """Whether most of a device's work has no launch in the trace."""
    alone = sum(finding.count for finding in integrity.findings if finding.code == "no-launch-record")
    return alone > 0.5 * sum(row.count for row in device.busy)


def _first_launches(device: DeviceTimes, kernels: list[Kernel]) -> bool:
    """Whether most kernels of a short trace ran once or twice: their launches load code, and say nothing of speed."""
    own = [kernel.count for kernel in kernels if kernel.device == device.device]
    return 0 < sum(own) <= FEW_KERNELS and sum(count for count in own if count <= 2) > 0.5 * sum(own)


def _not_begun(device: DeviceTimes) -> bool:
    """Whether queued work waits for longer than a device needs between two kernels: mostly, or as a rule."""
    queued = next((row for row in device.gaps.causes if row.cause == "queued"), None)
    usual_ns = queued.total_ns / queued.gaps if queued is not None and queued.gaps else 0
    return usual_ns > QUEUED_NS or _long_share(device, "queued", QUEUED_NS) > 0.5


def _works_on_else(device: DeviceTimes) -> bool:
    """Whether the host's time between launches lies in few long stretches, not before each kernel."""
    return _long_share(device, "host-not-launching", LONG_NS, "launch-overhead") > 0.5


def _step_works_on_else(device: DeviceTimes, steps: Steps) -> bool:
    return idle_of_step(device, steps) is not None and works_on_else(steps)


def works_on_else(steps: Steps) -> bool:
    """Whether a step's gaps of launching are mostly other work of the host, as what-if counts it."""
    launching = sum(row.total_ns for row in steps.causes if row.cause in ("host-not-launching", "launch-overhead"))
    return launches_at_once(steps) or 2 * (steps.host_work_ns or 0) > launching


def loads_again(steps: Steps) -> bool:
    """Whether the usual one of several steps loads or compiles kernels, which is then nothing that is done once."""
    loaded = sum(row.total_ns for row in steps.causes if row.cause == "module-load")
    return steps.count - steps.cut >= LEAST_STEPS and loaded >= SOME * (steps.wall_ns or 1)


def launches_at_once(steps: Steps) -> bool:
    """Whether a step is one graph, or few: a host that doesn't launch then does something else."""
    launches = steps.launches_per_step or 0
    graphs = steps.method == "graph" or (steps.kernels_per_step or 0) >= EACH * launches
    return graphs and 0 < launches <= AT_ONCE


def _long_share(device: DeviceTimes, cause: str, least_ns: int, *also: str) -> float:
    """Of a device's idle time by a cause (and others that count with it) the share in long stretches of that cause."""
    total = sum(row.total_ns for row in device.gaps.causes if row.cause in (cause, *also))
    shares = (share for gap in device.gaps.large for share in gap.shares)
    long = sum(share.total_ns for share in shares if share.cause == cause and share.total_ns >= least_ns)
    return long / total if total else 0.0


def reason(causes: list[CauseTime], host: list[HostTime]) -> str:
    """What most of the gap time was, in words; launching and not launching count together."""
    if not causes:
        return REASONS["unknown"]
    groups: dict[str, int] = {}
    for cause in causes:
        text = REASONS[cause.cause]
        groups[text] = groups.get(text, 0) + cause.total_ns
    words = max(groups, key=groups.__getitem__)
    if words in (allocates := {REASONS["allocation"], REASONS["free"]}):
        less = min(groups.get(one, 0) for one in allocates)
        return ALLOCATES_AND_FREES if less >= ALSO * groups[words] else words
    if words != REASONS["host-not-launching"]:
        return words
    named = [row for row in host if row.name != UNNAMED and row.total_ns >= 0.05 * groups[words]][:3]
    if not named:
        return words
    most = sum(row.total_ns for row in named) >= 0.5 * groups[words]
    return f"{words}; {'it was' if most else 'partly'} in {', '.join(plain(row.name) for row in named)}"


def idle_of_step(device: DeviceTimes, steps: Steps) -> float | None:
    """The step's idle share, None where no step can be spoken of."""
    if steps.device != device.device or not steps.wall_ns or steps.gap_ns is None or steps.confidence < SURE:
        return None
    return steps.gap_ns / steps.wall_ns
