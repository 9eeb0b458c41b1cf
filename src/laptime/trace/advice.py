"""What to do about it: the steady step in numbers, and the remedy that leaves the least of it."""

from __future__ import annotations

from laptime.trace.answer_findings import holds_ranks
from laptime.trace.attention_kinds import attention_words
from laptime.trace.busy_words import ms_words
from laptime.trace.headline import missing_work, start_up_ns
from laptime.trace.idle_words import loads_again
from laptime.trace.plain_names import plain
from laptime.trace.result import SURE, DeviceTimes, Integrity, Steps, TracedPass, WhatIf
from laptime.trace.start_up import first_calls_ns
from laptime.trace.tolerance import VERB

SAID = 0.05
"""The least share of a step in which only communication runs that the advice speaks of."""

NARROW = 0.2
"""Of a range whose ends are further from its middle than this, only the end above is said."""

MANY_WAITS = 3
"""A step has a wait or two: for its batch, for what it chose. More lie inside, where a graph has none."""

WORTH = 0.97
"""A remedy that may leave more of the step than this is none to recommend."""


_OTHERS = "Give all ranks' traces: laptime trace FOLDER --whatif"


def advice(integrity: Integrity, steps: Steps, whatif: list[WhatIf], devices: list[DeviceTimes]) -> str:
    """The steady step in numbers and the remedy that leaves the least."""
    if steps.method == "none" or steps.wall_ns is None or steps.busy_ns is None:
        device = max(devices, key=lambda d: d.busy_ns, default=None)
        if device is not None and device.idle_ns and start_up_ns(device) >= 0.5 * device.idle_ns:
            return "No steady steps were found. Warm up first and trace what comes then: start-up says nothing of it."
        return "No steady steps were found, so nothing is said per step."
    subject = "A step takes" if steps.count > 1 else "The only step takes"
    if steps.confidence < SURE and steps.method == "period":
        subject = "If what repeats is a step, it takes"
    elif steps.confidence < SURE and steps.name and steps.count > 1:
        subject = f"The one shown of {steps.count} ranges of {plain(steps.name)} takes"
    elif steps.confidence < SURE and steps.method == "forward":
        subject = "If what repeats are layers, the one pass through them takes"
    elif steps.method == "forward":
        subject = "The one forward pass in it takes"
    plural = "" if steps.kernels_per_step == 1 else "s"
    lost = next((finding for finding in integrity.findings if finding.code == "step-incomplete"), None)
    if lost is not None:
        return f"{subject} {ms_words(steps.wall_ns)} ms; {lost.message.replace(':', ', so', 1)}."
    given = next((row.step_ns_high for row in whatif if row.remedy == "untraced"), None)
    takes = f"{subject} {ms_words(steps.wall_ns)} ms"
    if given is not None:
        takes = f"As traced, {takes[0].lower()}{takes[1:]} (given without the profiler: {ms_words(given)} ms)"
    if not steps.busy_ns:
        return f"{takes}; its kernels are recorded to last no time, so how long the GPU works in it isn't known."
    text = (
        f"{takes}, the GPU works {ms_words(steps.busy_ns)} ms of it"
        f"{f' in {steps.kernels_per_step} kernel{plural}' if steps.kernels_per_step else ''}{_layers(steps)}."
    )
    remedies = [row for row in whatif if row.remedy != "untraced"]
    warming = first_calls_ns(steps.causes)
    unseen = bool(steps.causes) and all(row.cause == "unknown" for row in steps.causes)  # no call was recorded
    unsure = steps.confidence < SURE or steps.unexplained or steps.uneven or missing_work(integrity) or unseen
    promised = bool(remedies) and not unsure
    best = _best(remedies) if promised and warming < SAID * steps.wall_ns else None
    alone_ns = next((row.share_ns for row in steps.busy if row.kind == "communication"), 0)
    loader = steps.loads_data and steps.maybe_waiting_ns is not None  # of several ranks the slowest one's decides
    best = None if loader else best
    if steps.host_work_ns and steps.host_work_ns > 0.1 * steps.wall_ns:
        loads = loader or any(row.remedy == "workers" for row in whatif)
        graph = next((row for row in remedies if row.remedy == "graph"), best)
        text += _host_work(
            steps.host_work_ns,
            steps.busy_ns,
            best and (graph if loads else best),
            loads=loads,
            traced=given is not None,
        )
        if loader:
            text += " Workers can end that; how long a step then takes is up to the slowest rank's loader."
    if alone_ns >= SAID * steps.wall_ns:
        told_by = "Ask for the ranks: laptime trace FILE --ranks --whatif" if holds_ranks(integrity) else _OTHERS
        text += _communicates(steps, alone_ns, told_by, promised=bool(remedies))
    if steps.uneven and steps.wall_p10_ns and steps.wall_p90_ns:
        spread = f"{ms_words(steps.wall_p10_ns)} to {ms_words(steps.wall_p90_ns)} ms"
        return f"{text} Steps differ, from {spread}: what remedies would leave of this one says little of the others."
    if loads_again(steps):
        text += f" For {ms_words(warming)} ms kernels are loaded or compiled, in this step as in others."
    elif warming >= SAID * steps.wall_ns:
        text += f" For {ms_words(warming)} ms first calls are made: warm up first, and trace a step that has none."
    profiled = sum(row.total_ns for row in steps.causes if row.cause == "profiler-overhead")
    if profiled >= SAID * steps.wall_ns and not any(row.remedy == "untraced" for row in whatif):
        held = f"For {ms_words(profiled)} ms the profiler itself holds the host up"
        return f"{text} {held}: give the step's time without it (--tpot, in Python tpot_ms)."
    if best is None:
        return text
    longer = any(finding.code == "tpot-longer" for finding in integrity.findings)
    start = ["This starts from the given time of a token, which is longer than the traced step."] if longer else []
    if best.step_ns_high > WORTH * max(row.step_ns_high * row.speedup_low for row in remedies):
        nothing = ["No remedy that laptime knows is sure to win 3 % of it.", *start]
        return text if "no remedy here" in text else " ".join([text, *nothing])
    workers = next((row for row in remedies if row.remedy == "workers" and row is not best), None)
    waits = [f"It can't hold the host's {steps.host_waits} waits for the GPU in a step: these must go first."]
    waits = waits if best.remedy.startswith("graph") and (steps.host_waits or 0) >= MANY_WAITS else []
    promise = _promise(best)
    if steps.maybe_waiting_ns is not None:
        promise = promise.replace("A CUDA graph of all of it", "A CUDA graph of all of it on every rank")
    return " ".join([text, promise, *waits, *([_promise(workers)] if workers else []), *start])


_PASSES = {"vision": "A vision pass", "encoder": "An encoder's pass", "prefill": "Prefill"}


def pass_advice(one: TracedPass, integrity: Integrity) -> str:
    """A pass before decoding in numbers, and the remedy that leaves the least of it."""
    several = f"The middle one of {one.count} passes of {'an ' if one.stage == 'encoder' else ''}{one.stage}"
    subject = _PASSES[one.stage] if one.count == 1 else several
    if one.lost_kernels:
        return (
            f"{subject} takes {ms_words(one.wall_ns)} ms; {one.lost_kernels} of the launches in it have no"
            " kernel, so how long the GPU works in it isn't known."
        )
    kernels = "" if one.kernels is None else f" in {one.kernels} kernels"
    layers = "" if one.layers is None else f" ({one.layers.count} {'equal ' if one.unsure else ''}layers)"
    text = (
        f"{subject} takes {ms_words(one.wall_ns)} ms, the GPU works {ms_words(one.busy_ns)} ms of it{kernels}{layers}."
    )
    remedies = [row for row in one.whatif if row.remedy != "untraced"]
    warming = first_calls_ns(one.causes)
    if warming >= SAID * one.wall_ns:
        return f"{text} For {ms_words(warming)} ms first calls are made: warm up first, and trace a pass that has none."
    if not remedies or one.unsure or one.unexplained or missing_work(integrity):
        return text
    best = _best(remedies)
    if one.host_work_ns and one.host_work_ns > 0.1 * one.wall_ns:
        text += _host_work(one.host_work_ns, one.busy_ns, best, loads=False)
    if best.step_ns_high > WORTH * max(row.step_ns_high * row.speedup_low for row in remedies):
        return text if "no remedy here" in text else f"{text} No remedy that laptime knows is sure to win 3 % of it."
    return f"{text} {_promise(best, 'pass')}"


def _best(remedies: list[WhatIf]) -> WhatIf:
    """The remedy that leaves the least; the graph alone where it and fusion would: outcomes of both are few."""
    best = min(remedies, key=lambda row: row.step_ns_high)
    return next((row for row in remedies if row.remedy == "graph"), best) if best.remedy == "graph+fusion" else best


def _host_work(work_ns: int, busy_ns: int, ends: WhatIf | None, *, loads: bool, traced: bool = False) -> str:
    """What the host does in a step but launch, and whether `ends`, the remedy for launching, leaves it.

    It doesn't where launching ahead puts that work beside the device's. traced: another time of the step is given.
    """
    of = f" For {ms_words(work_ns)} ms{' of the traced step' * traced}"
    does = "loads data" if loads else "does other work than launching"
    if ends is not None and ends.step_ns_high >= busy_ns + 0.5 * work_ns:
        does += ", which no graph ends" if loads else ": no remedy here ends it"
        return f"{of} the host {does}."
    return f"{of} the GPU waits while the host {does}."


def _communicates(steps: Steps, alone_ns: int, told_by: str, *, promised: bool) -> str:
    """That only communication runs for some time, and what says whether that is waiting for other ranks."""
    text = f" For {ms_words(alone_ns)} ms only communication runs"
    if 10 * (steps.maybe_waiting_ns or 0) < alone_ns:
        return f"{text}: no remedy here ends it."
    if 2 * (steps.maybe_waiting_ns or 0) < alone_ns:
        return f"{text}; some of that may be waiting for other ranks."
    why = "most of that may be waiting for other ranks"
    why += "" if promised else ", so what remedies would leave of the step isn't said"
    return f"{text}; {why}. {told_by}."


def _promise(row: WhatIf, what: str = "step") -> str:
    words = {
        "buffers": "A buffer pool",
        "fusion": "Fusion",
        "compile": "torch.compile",
        "graph": "A CUDA graph of all of it",
        "workers": "Workers in the data loader",
        "overlap": "Pinned copies beside the compute",
    }
    verb = VERB if row.remedy in ("graph", "overlap") else "could"
    name = words.get(row.remedy, "A CUDA graph with fusion")
    if _half_width(row) > NARROW:
        return f"{name} {verb} leave a {what} of {ms_words(row.step_ns_high)} ms or less."
    low, high = f"{ms_words(row.step_ns_low)}", f"{ms_words(row.step_ns_high)}"
    return f"{name} {verb} leave {high if low == high else f'{low} to {high}'} ms."


def _half_width(row: WhatIf) -> float:
    """How far the ends of a range are from its middle, as a share of it."""
    return (row.step_ns_high - row.step_ns_low) / (row.step_ns_high + row.step_ns_low)


def _layers(steps: Steps) -> str:
    """What the step is made of, in brackets: its layers, and the tokens that it works on."""
    parts = []
    if steps.layers is not None and (steps.confidence < SURE or not steps.layers.known):
        parts.append(f"{steps.layers.count} equal parts")
    elif steps.layers is not None and steps.layers.known:
        most = steps.layers.outside < 0.25 * (steps.kernels_per_step or 0)
        parts.append(f"{steps.layers.count} {'layers' if most else 'equal layers'}")
    elif words := attention_words(steps.attention_kinds):
        parts.append(words)
    if steps.tokens:
        tokens = " × ".join(map(str, steps.tokens))
        parts.append(f"{tokens} token{'' if tokens == '1' else 's'}")
    return f" ({', '.join(parts)})" if parts else ""
