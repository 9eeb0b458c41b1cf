"""Where the passes before decoding lie in a device's kernels: vision and prefill, by their names or by their layers.

A name is a range's or a module's. Without one the pass right before the decode steps is the prefill, where it has as
many layers as they have and begins with an embedding; what has other layers before it is an encoder. Nothing here
measures time; `passes` does.
"""

from __future__ import annotations

import re
from functools import partial

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.trace.few_steps import FORWARD
from laptime.trace.kernel_names import family
from laptime.trace.layers import find_layers
from laptime.trace.name_marks import marked
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import Activities, Activity, GpuTimeline, Int64, RangeKind
from laptime.trace.repeats import LEAST_COUNT, LEAST_PERIOD, levels
from laptime.trace.result import SURE
from laptime.trace.step_cuts import LEAST_STEPS
from laptime.trace.steps import StepFrame

_PREFILL = re.compile(r"prefill|\bextend\b|prompt_(?:phase|pass|forward)|execute_context_[1-9]\d*\(\d+\)_generation_0")
_VISION = re.compile(r"\bvision|\bvisual|image_?encod|encode_?image|\bvi?t_?encoder|\bvision_?tower|image_?features")
_PART = re.compile(r"layer|block|attention|attn|mlp|expert|norm|decode")
"""A range with such a word in its name is a part of a pass, or another one."""
_VISION_MODULE = re.compile(
    r"nn\.Module: \w*(?:Vision|Visual|ViT|Siglip)\w*(?:Model|Transformer|Tower|Encoder|Backbone)"
)
_PROJECTOR_MODULE = re.compile(r"nn\.Module: \w*(?:Projector|Connector|PatchMerger)")
_MODULE = "nn.Module: "
_TRAINS = re.compile(r"^(?:autograd::engine|Optimizer\.(?:step|zero_grad))")

_EMBEDS = re.compile(r"(?<!rotary)(?<!rotary_)(?<!rotary_pos_)embedding|index_?select|vectorized_gather", re.IGNORECASE)
_MERGES = re.compile(r"masked_?scatter", re.IGNORECASE)
"""The kernel that puts the images' features between the tokens': an encoder's pass lies before it."""
_CHOOSES = re.compile(r"arg_?max|sampl|multinomial|top_?[kp](?!_?gating)", re.IGNORECASE)
_IMAGES = re.compile(r"^aten::_?(?:cudnn_|slow_|thnn_|mkldnn_)?conv(?:2d|3d|_depthwise2d|_dilated2d)")

NEAR = 64
"""Kernels between a pass's embedding and its first layer, and between its last layer and its logits, at most."""

READ = 300
"""Characters of a name that are read."""

WHOLE = 0.9
"""Share of the kernels between a pass's first and its last one that must be its own."""


class PassCut(msgspec.Struct, frozen=True, kw_only=True):
    """One pass as a half-open range of positions among the device's kernels."""

    stage: str  # vision | encoder | prefill
    method: str  # range | module | layers
    start: int
    stop: int
    confidence: float
    name: str | None = None


def pass_cuts(timeline: GpuTimeline, kernels: Int64, launched: Int64, frame: StepFrame) -> list[PassCut]:
    """All passes before decoding that a device's trace shows, in order of time; none of a training run.

    Args:
        timeline: the trace.
        kernels: the device's kernels, in start order.
        launched: for each activity the index of its call, -1 without one.
        frame: the steps.
    """
    if not len(kernels) or any(_TRAINS.match(name) for name in timeline.strings):
        return []
    named = _named(timeline, kernels, launched)
    modules = _by_modules(timeline, kernels, launched, frame)
    cuts = list(named)
    for stage in ("vision", "prefill"):
        if not any(cut.stage == stage for cut in cuts):
            cuts += [cut for cut in modules if cut.stage == stage]
    layered = []
    for cut in _by_layers(timeline, kernels, launched, frame):
        taken = ("vision", "encoder") if cut.stage == "encoder" else (cut.stage,)
        if not any(known.stage in taken or _overlap(known, cut) for known in cuts):
            layered.append(cut)
    return sorted([*cuts, *layered], key=lambda cut: cut.start)


def _overlap(one: PassCut, other: PassCut) -> bool:
    return min(one.stop, other.stop) > max(one.start, other.start)


def _named(timeline: GpuTimeline, kernels: Int64, launched: Int64) -> list[PassCut]:
    """Passes by ranges that a program named."""
    ranges = timeline.ranges
    cuts: list[PassCut] = []
    notes = np.flatnonzero(ranges.kind == RangeKind.NVTX)
    for stage, pattern in (("vision", _VISION), ("prefill", _PREFILL)):
        fits = marked(ranges.name[notes], timeline.strings, partial(_whole, pattern))
        chosen = notes[fits]
        for index in _outermost(timeline, chosen).tolist():
            span = (int(ranges.start_ns[index]), int(ranges.end_ns[index]))
            cut = _launched_in(timeline, kernels, launched, index, span)
            if cut is not None:
                name = timeline.strings[ranges.name[index]]
                cuts.append(PassCut(stage=stage, method="range", start=cut[0], stop=cut[1], confidence=1.0, name=name))
    return cuts


def _whole(pattern: re.Pattern[str], name: str) -> bool:
    """Whether a range's name is that of a pass, and of no part of one."""
    words = name[:READ].lower()
    return pattern.search(words) is not None and not _PART.search(words)


def _by_modules(timeline: GpuTimeline, kernels: Int64, launched: Int64, frame: StepFrame) -> list[PassCut]:
    """Passes by modules that the profiler named: a vision tower with its projector, and the first of the calls of the
    module that the decode steps call again and again."""
    ranges, strings = timeline.ranges, timeline.strings
    is_module = np.array([name.startswith(_MODULE) for name in strings], dtype=np.bool_)
    if not is_module.any():
        return []
    towers, projectors = (
        _outermost(timeline, np.flatnonzero(_fits(pattern, strings)[ranges.name]))
        for pattern in (_VISION_MODULE, _PROJECTOR_MODULE)
    )
    cuts: list[PassCut] = []
    for number, index in enumerate(towers.tolist()):
        until = int(ranges.start_ns[towers[number + 1]]) if number + 1 < len(towers) else None
        end = int(ranges.end_ns[index])
        own = projectors[(ranges.start_ns[projectors] >= end) & (ranges.thread[projectors] == ranges.thread[index])]
        if len(own) and (until is None or ranges.start_ns[own[0]] < until):
            end = int(ranges.end_ns[own[0]])
        cut = _launched_in(timeline, kernels, launched, index, (int(ranges.start_ns[index]), end))
        if cut is not None:
            name = strings[ranges.name[index]].removeprefix(_MODULE)
            cuts.append(PassCut(stage="vision", method="module", start=cut[0], stop=cut[1], confidence=1.0, name=name))
    whole = _repeated_module(timeline, np.flatnonzero(is_module[ranges.name]), kernels, launched, frame)
    if whole is not None:
        span = (int(ranges.start_ns[whole]), int(ranges.end_ns[whole]))
        cut = _launched_in(timeline, kernels, launched, whole, span)
        if cut is not None:
            inside = [one.stop for one in cuts if cut[0] <= one.start and one.stop <= cut[1]]
            start = max([cut[0], *inside])
            name = strings[ranges.name[whole]].removeprefix(_MODULE)
            if start < cut[1]:
                cuts.append(
                    PassCut(stage="prefill", method="module", start=start, stop=cut[1], confidence=1.0, name=name)
                )
    return cuts


def _fits(pattern: re.Pattern[str], strings: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    return np.array([bool(pattern.match(name[:READ])) for name in strings], dtype=np.bool_)


def _repeated_module(
    timeline: GpuTimeline, modules: npt.NDArray[np.intp], kernels: Int64, launched: Int64, frame: StepFrame
) -> int | None:
    """The first call of the outermost module that is called once before the decode steps and once in each of them."""
    first = _first_step(timeline, kernels, frame)
    ranges, calls = timeline.ranges, timeline.calls
    if first is None or launched[kernels[first]] < 0:
        return None
    decoding = int(calls.start_ns[launched[kernels[first]]])
    names, counts = np.unique(ranges.name[modules], return_counts=True)
    outermost: tuple[int, int] | None = None
    for name in names[counts > LEAST_STEPS].tolist():
        own = modules[ranges.name[modules] == name]
        before, after = own[ranges.end_ns[own] <= decoding], own[ranges.end_ns[own] > decoding]
        if len(before) != 1 or not len(frame.start_ns) - 1 <= len(after) <= len(frame.start_ns) + 2:
            continue
        lasts = int(ranges.end_ns[before[0]] - ranges.start_ns[before[0]])
        if outermost is None or lasts > outermost[0]:
            outermost = (lasts, int(before[0]))
    return None if outermost is None else outermost[1]


def _outermost(timeline: GpuTimeline, chosen: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """The ranges that lie in no other of them on their thread."""
    ranges = timeline.ranges
    kept: list[int] = []
    reach: dict[tuple[int, int], int] = {}
    for index in sorted(chosen.tolist(), key=lambda i: (int(ranges.start_ns[i]), -int(ranges.end_ns[i]))):
        thread = (int(ranges.process[index]), int(ranges.thread[index]))
        if ranges.start_ns[index] >= reach.get(thread, 0):
            kept.append(index)
            reach[thread] = int(ranges.end_ns[index])
    return np.array(kept, dtype=np.intp)


def _launched_in(
    timeline: GpuTimeline, kernels: Int64, launched: Int64, index: int, span_ns: tuple[int, int]
) -> tuple[int, int] | None:
    """The stretch of kernels that the thread of a range launched in a span; None where others lie between them."""
    calls, ranges = timeline.calls, timeline.ranges
    known = np.flatnonzero(launched[kernels] >= 0)
    call = launched[kernels[known]]
    own = (calls.process[call] == ranges.process[index]) & (calls.thread[call] == ranges.thread[index])
    own &= (calls.start_ns[call] >= span_ns[0]) & (calls.start_ns[call] < span_ns[1])
    places = known[own]
    if len(places) < LEAST_PERIOD * LEAST_COUNT:
        return None
    start, stop = int(places[0]), int(places[-1]) + 1
    return (start, stop) if len(places) >= WHOLE * (stop - start) else None


def _first_step(timeline: GpuTimeline, kernels: Int64, frame: StepFrame) -> int | None:
    """The position of the first layer's first kernel in the first decode step; None without decode steps.

    Where a step begins among the kernels between two steps' layers is not certain: some may be the pass's before it.
    """
    if len(frame.start_ns) < LEAST_STEPS or frame.steps.confidence < SURE:
        return None
    begin = int(np.searchsorted(timeline.activities.start_ns[kernels], frame.start_ns[0]))
    return begin + (frame.layer_run.start if frame.layer_run is not None and frame.steps.layers is not None else 0)


def _by_layers(timeline: GpuTimeline, kernels: Int64, launched: Int64, frame: StepFrame) -> list[PassCut]:
    """The prefill right before the decode steps by its layers, and an encoder's pass before it."""
    activities, strings = timeline.activities, timeline.strings
    first = _first_step(timeline, kernels, frame)
    if first is None or first < LEAST_PERIOD * LEAST_COUNT or first > FORWARD:
        return []
    if (activities.kind[kernels[:first]] != Activity.KERNEL).any():
        return []  # whole graphs: their kernels are not known
    names = [strings[name] for name in activities.name[kernels[:first]].tolist()]
    runs = _layer_runs(activities, kernels[:first], strings)
    if not runs:
        return []
    count, begin, end = runs[-1]
    decode = frame.steps.layers
    embeds = [i for i in range(begin) if _EMBEDS.search(names[i])]
    if not embeds or (decode is not None and decode.count != count):
        return []
    if decode is None and not any(_CHOOSES.search(name) for name in names[end:]):
        return []  # steps without layers may be of a diffusion model, and the pass that of a text's encoder
    earlier = runs[-2] if len(runs) > 1 and runs[-2][0] != count else None
    merged = [i + 1 for i in range(earlier[2] if earlier else begin, begin) if _MERGES.search(names[i])]
    start = max([embeds[-1], *merged, earlier[2] if earlier else 0])
    if begin - start > NEAR:
        return []
    stop = next((i + 1 for i in range(end, min(end + NEAR, first)) if family(names[i]) in ("GEMM", "GEMV")), end)
    step = {strings[name] for name in each_once(activities.name[frame.modal_rows]).tolist()}
    sure = 1.0 if decode is not None or any(_CHOOSES.search(name) for name in step) else SURE
    spans = [*_alike_before(runs, names), (start, stop)]
    cuts = [PassCut(stage="prefill", method="layers", start=a, stop=b, confidence=sure) for a, b in spans]
    if earlier is not None:
        cuts.insert(0, _encoder(timeline, kernels, launched, names, earlier, merged[-1] - 1 if merged else earlier[2]))
    return cuts


def _alike_before(runs: list[tuple[int, int, int]], names: list[str]) -> list[tuple[int, int]]:
    """Passes of as many layers right before the last one, each from its embedding on: chunks of a long prompt."""
    found: list[tuple[int, int]] = []
    for i in range(len(runs) - 2, -1, -1):
        count, begin, end = runs[i]
        following = next((k for k in range(runs[i + 1][1] - 1, end - 1, -1) if _EMBEDS.search(names[k])), None)
        before = runs[i - 1][2] if i else 0
        own = next((k for k in range(begin - 1, before - 1, -1) if _EMBEDS.search(names[k])), None)
        if count != runs[-1][0] or following is None or own is None:
            break
        if max(following - end, begin - own) > NEAR:
            break
        found.insert(0, (own, following))
    return found


def _encoder(
    timeline: GpuTimeline, kernels: Int64, launched: Int64, names: list[str], run: tuple[int, int, int], stop: int
) -> PassCut:
    """The pass of other layers before the prefill; of images where an operator convolves in two dimensions there."""
    _, begin, end = run
    stop = next((i + 1 for i in range(stop - 1, end, -1) if family(names[i]) == "GEMM"), end)
    enters = [i for i in range(max(begin - NEAR, 0), begin) if family(names[i]) in ("GEMM", "convolution")]
    start = enters[0] if enters else begin
    ranges, calls = timeline.ranges, timeline.calls
    call = launched[kernels[start:begin]]
    call = call[call >= 0]
    images = _fits(_IMAGES, timeline.strings)[ranges.name] if len(ranges.name) else np.zeros(0, dtype=np.bool_)
    low, high = (int(calls.start_ns[call].min()), int(calls.end_ns[call].max())) if len(call) else (0, 0)
    seen = bool((images & (ranges.start_ns < high) & (ranges.end_ns > low)).any())
    stage = "vision" if seen else "encoder"
    return PassCut(stage=stage, method="layers", start=start, stop=stop, confidence=SURE)


def _layer_runs(activities: Activities, kernels: Int64, strings: tuple[str, ...]) -> list[tuple[int, int, int]]:
    """Runs of layers in a sequence of kernels, in order: how many, where the first begins, where the last ends."""
    tokens = activities.name[kernels].astype(np.int64)
    found: list[tuple[int, int, int]] = []
    spans = sorted(
        {(start, stop) for level in levels(tokens) for start, stop in level.intervals},
        key=lambda span: span[0] - span[1],
    )
    for start, stop in spans:
        if any(start < end and stop > begin for _, begin, end in found):
            continue
        part = tokens[start:stop]
        layers = find_layers(part, strings)
        if layers is None or layers[0] is None or layers[0].count < LEAST_COUNT:
            continue
        if not any(family(strings[name]) == "GEMM" for name in each_once(part).tolist()):
            continue
        run = layers[1]
        found.append((layers[0].count, start + run.start, start + run.start + run.period * run.count))
    return sorted(found, key=lambda run: run[1])
