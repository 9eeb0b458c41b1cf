"""Steps of a trace that holds few of them, or nothing but layers: one forward, two steps, what long waits part."""

from __future__ import annotations

import re

import numpy as np

from laptime.trace.kernel_names import family
from laptime.trace.layers import alternates, layers_per_unit
from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import Int64
from laptime.trace.repeats import EXACT, LEAST_PERIOD, Tokens, cyclic_run, longest_run
from laptime.trace.result import SURE
from laptime.trace.step_cuts import APART, LEAST_STEPS, MOST, MOSTLY, Cuts

FORWARD = 50_000
"""A single step of more kernels than this is not looked for."""

LEAST_LAYERS = 8
"""The fewest repeated units that make a trace's kernels one forward pass."""

NO_LAYERS = 0.6
"""The most that repeated units without an attention kernel say for one forward pass: other loops multiply too."""

PARTING_NS = 1_000_000
"""A wait longer than this parts a single step from what ran before and after it."""

FEWEST_UPDATES = 2
"""An optimizer that ran so often says how many repetitions make a step."""

_UPDATES = re.compile(r"multi_?tensor|adam|adagrad|sgd|lamb(?!da)", re.IGNORECASE)
"""An optimizer's kernels."""

UNLIKE_SIZES, TAIL = 0.5, 0.1
"""How far the kernels of steps of one kind may be from their usual number, and how many may come between two of them,
as shares of that number."""

_EMBEDS = re.compile(
    r"(?<!rotary)(?<!rotary_)(?<!rotary_pos_)embedding(?!.*(?:backward|grad))|index_?select|vectorized_gather",
    re.IGNORECASE,
)
_CHOOSES = re.compile(
    r"arg_?max|multinomial|(?<!up)(?<!up_)(?<!down)(?<!down_)(?<!sub)(?<!re)(?<!grid)(?<!grid_)sampl", re.IGNORECASE
)

WAIT_NS = 50_000
"""A shorter wait parts no steps of equal layers."""


def by_forward(tokens: Tokens, strings: tuple[str, ...], before_ns: Int64) -> Cuts | None:
    """The only step of a trace: one forward pass, known by its layers. What long waits part from it is left out.

    Args:
        tokens: name id of each kernel in start order.
        strings: the names.
        before_ns: idle time right before each kernel.
    """
    if len(tokens) > FORWARD:
        return None
    run = longest_run(tokens)
    if run is None:
        return None
    if run.count * layers_per_unit(tokens[run.start : run.start + run.period], strings) < LEAST_LAYERS:
        return None
    unit = each_once(tokens[run.start : run.start + run.period]).tolist()
    families = {family(strings[name]) for name in unit}
    if not families & {"GEMM", "attention", "convolution"}:
        return None  # many programs repeat something; a layer multiplies matrices
    if alternates(tokens, run) or (len(unit) < LEAST_PERIOD and "attention" not in families):
        return None  # two or three kernels in turns are any loop
    first, last = run.start, run.start + run.period * run.count
    waits = before_ns[first + 1 : last]
    long = max(PARTING_NS, 20 * int(waits.max(initial=0)))
    earlier, later = np.flatnonzero(before_ns[: first + 1] > long), np.flatnonzero(before_ns[last:] > long)
    start = int(earlier[-1]) if len(earlier) else 0
    stop = last + int(later[0]) if len(later) else len(tokens)
    if run.period * run.count < 0.5 * (stop - start):
        return None
    confidence = 0.5 + 0.4 * run.period * run.count / (stop - start)
    if "attention" not in families:
        confidence = min(confidence, NO_LAYERS)
    return Cuts("forward", round(confidence, 3), np.array([start], dtype=np.int64), np.array([stop], dtype=np.int64))


def by_waits(tokens: Tokens, before_ns: Int64, copies_ns: Int64) -> Cuts | None:
    """Steps of equal layers and nothing else: before each of them stand copies and a wait far longer than any other.

    Weights that are copied before some layers of one pass are waited for no longer than they are copied.

    Args:
        tokens: name id of each kernel in start order.
        before_ns: time without a kernel right before each kernel.
        copies_ns: of it: what copies took.
    """
    run = longest_run(tokens)
    if run is None or run.count < 2 * LEAST_STEPS:
        return None
    first, last = run.start, run.start + run.period * run.count
    copied = (copies_ns > 0) & (before_ns > 2 * copies_ns)
    waits, others = np.where(copied, before_ns, 0)[first + 1 : last], np.where(copied, 0, before_ns)[first + 1 : last]
    begins = first + 1 + np.flatnonzero(waits > max(APART * int(others.max(initial=0)), WAIT_NS))
    apart = each_once(np.diff(begins))
    if len(apart) != 1 or apart[0] % run.period or apart[0] < 2 * run.period:
        return None
    size = int(apart[0])
    if begins[0] >= size and (tokens[begins[0] - size : begins[0]] == tokens[begins[0] : begins[1]]).all():
        begins = np.r_[begins[0] - size, begins]
    if begins[-1] + size > len(tokens):
        begins = begins[:-1]
    if len(begins) < LEAST_STEPS or len(begins) * size < MOSTLY * len(tokens):
        return None
    starts = begins.astype(np.int64)
    return Cuts("period", round(1 - 1 / (1 + len(starts)), 3), starts, starts + size)


def by_tokens(tokens: Tokens, strings: tuple[str, ...]) -> Cuts | None:
    """Steps that hold unlike numbers of kernels, as where each layer runs other experts: from embedding to token.

    An embedding's kernel begins each of them, and a kernel that chooses a token ends it: both come as often, in turns,
    and little comes between a token and the next embedding.

    Args:
        tokens: name id of each kernel in start order.
        strings: the names.
    """
    names, counts = np.unique(tokens, return_counts=True)
    often = [int(name) for name, count in zip(names, counts, strict=True) if LEAST_STEPS <= count <= len(tokens) // 8]
    begins = [name for name in often if _EMBEDS.search(strings[name])]
    ends = [name for name in often if _CHOOSES.search(strings[name]) and name not in begins]
    best: Cuts | None = None
    for begin in begins:
        first = np.flatnonzero(tokens == begin)
        for end in ends:
            last = np.flatnonzero(tokens == end)
            last = last[last > first[0]]
            if len(first) != len(last) or (first >= last).any() or (first[1:] <= last[:-1]).any():
                continue
            size = last + 1 - first
            between = first[1:] - last[:-1] - 1
            near = np.abs(size - np.median(size)) <= UNLIKE_SIZES * np.median(size)
            if between.max(initial=0) > TAIL * np.median(size) or size.sum() < MOSTLY * len(tokens):
                continue
            confidence = round((1 - 1 / (1 + len(first))) * float(near.mean()), 3)
            stop = np.concatenate([first[1:], last[-1:] + 1]).astype(np.int64)
            if confidence >= SURE and (best is None or confidence > best.confidence):
                best = Cuts("period", confidence, first.astype(np.int64), stop)
    return best


def by_optimizer(cuts: Cuts, tokens: Tokens, strings: tuple[str, ...]) -> Cuts:
    """The cuts, several to one where an optimizer runs behind each few of them only: gradients that add up.

    Args:
        cuts: what repeats.
        tokens: name id of each kernel in start order.
        strings: the names.
    """
    names = [name for name in each_once(tokens).tolist() if _UPDATES.search(strings[name])]
    places = np.flatnonzero(np.isin(tokens, names))
    behind = each_once(np.searchsorted(cuts.start, places, side="right") - 1)  # each run of them follows one cut
    behind = behind[behind >= 0]
    if len(behind) < FEWEST_UPDATES or np.ptp(np.diff(behind)) or behind[1] - behind[0] < 2:
        return cuts
    several = int(behind[1] - behind[0])
    last = behind[behind >= several - 1]
    start = cuts.start[last - several + 1]
    own = places[np.searchsorted(cuts.start, places, side="right") - 1 == last[-1]]
    stop = np.concatenate([start[1:], [max(int(cuts.stop[last[-1]]), int(own[-1]) + 1)]]).astype(np.int64)
    return Cuts(cuts.method, cuts.confidence, start, stop, cuts.name)


def by_two(tokens: Tokens) -> Cuts | None:
    """The two steps of a trace that holds one after the other: what runs once in each says how long they are."""
    names, first, counts = np.unique(tokens, return_index=True, return_counts=True)
    twice = names[counts == 2]
    if len(twice) == 0 or len(tokens) > FORWARD:
        return None
    last = len(tokens) - 1 - np.unique(tokens[::-1], return_index=True)[1]
    lags, how_many = np.unique((last - first)[counts == 2], return_counts=True)
    period = int(lags[np.argmax(how_many)])
    same = tokens[:-period] == tokens[period:]
    if len(same) < period or 2 * period < MOST * len(tokens):
        return None
    alike = np.concatenate([[0], np.cumsum(same)])
    score = alike[period:] - alike[:-period]
    start = int(np.argmax(score))
    if score[start] < EXACT * period or cyclic_run(tokens[start : start + period]) is None:
        return None
    starts = np.array([start, start + period], dtype=np.int64)
    return Cuts("period", round(float(score[start]) / period * 2 / 3, 3), starts, starts + period)
