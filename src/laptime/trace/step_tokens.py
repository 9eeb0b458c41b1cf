"""How many tokens a step works on, where the profiler recorded shapes: an embedding looks each of them up."""

from __future__ import annotations

import msgspec
import numpy as np

from laptime.trace.kernel_names import family
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import GpuTimeline, Int64, RangeKind
from laptime.trace.recorded_shapes import recorded_call
from laptime.trace.steps import StepFrame

EMBEDDING = "aten::embedding"


def step_tokens(timeline: GpuTimeline, launched: Int64, frame: StepFrame) -> list[int] | None:
    """The dimensions of the tokens that the modal step embeds: rows and length, or all of them in one.

    None where no shape of such a call was recorded, or where the step embeds tokens more than once, as a training
    step of several batches does. Of several embeddings the one of most words counts: the others are of positions. None
    where the step convolves: it works on images or sound beside its tokens, or instead.

    Args:
        timeline: the trace.
        launched: for each activity the index of its call, -1 without one.
        frame: the steps.
    """
    ranges, calls = timeline.ranges, timeline.calls
    if EMBEDDING not in timeline.strings or len(ranges.shape) == 0 or len(frame.modal_rows) == 0:
        return None
    used = each_once(timeline.activities.name[frame.modal_rows]).tolist()
    if any(family(timeline.strings[i]) == "convolution" for i in used):
        return None
    name = timeline.strings.index(EMBEDDING)
    own = each_once(launched[frame.modal_rows])
    own = own[own >= 0]
    if len(own) == 0:
        return None
    words: dict[int, list[list[int]]] = {}
    embeds = (ranges.name == name) & (ranges.kind == RangeKind.CPU_OP) & (ranges.shape >= 0)
    embeds &= (ranges.start_ns <= calls.start_ns[own].max()) & (ranges.end_ns >= calls.start_ns[own].min())
    for i in np.flatnonzero(embeds).tolist():
        inside = (calls.start_ns[own] >= ranges.start_ns[i]) & (calls.start_ns[own] < ranges.end_ns[i])
        if not np.any(inside & (calls.thread[own] == ranges.thread[i]) & (calls.process[own] == ranges.process[i])):
            continue
        try:
            call = recorded_call(EMBEDDING, timeline.shapes[ranges.shape[i]])
            table, tokens = call.tensor(0), call.tensor(1)
        except (ValueError, IndexError, msgspec.DecodeError):
            continue
        if table.dims and tokens.dims:
            words.setdefault(table.dims[0], []).append(list(tokens.dims))
    looked_up = words[max(words)] if words else []
    return looked_up[0] if len(looked_up) == 1 else None
