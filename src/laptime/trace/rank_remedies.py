"""What remedies on all ranks would leave of their step: replays of the ranks together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

import msgspec
from msgspec.structs import replace

from laptime.trace.busy_words import ms_words
from laptime.trace.graph_replay import GraphTimings, crowded_ns, floor_timing, graph_timings, grown_ns
from laptime.trace.rank_steps import Meeting, RankStep
from laptime.trace.remedied import (
    Ends,
    Remedied,
    Replayed,
    compile_ends,
    overlap_ends,
    saved,
    unchanged_ends,
    workers_ends,
)
from laptime.trace.replay import Timing, replay_ns, replay_together_ns
from laptime.trace.result import WhatIf, unexplained
from laptime.trace.tolerance import RANKS_RECORD, REACHES, tolerated
from laptime.trace.untraced_step import untraced
from laptime.trace.whatif import ASSUMES, WIDEST, WORTH, row_of, within

AHEAD = 1.02
"""A host that takes more than this many times the step had run ahead before: in the long run it is as fast."""

EVERY_RANK = "on every rank; replayed with the launches, waits and kernels of all ranks together"


class Together(msgspec.Struct, frozen=True, eq=False):
    """The ranks' steps for a replay together."""

    ranks: list[Meeting]
    base_ns: int  # the step as it is
    replayed_ns: int  # what its replay takes

    def replay_ns(self, timings: Sequence[Timing]) -> int:
        """How long the step lasts with these times of each rank."""
        return replay_together_ns([(one, rank.meets) for one, rank in zip(timings, self.ranks, strict=True)]) or 0


def together(steps: Sequence[RankStep], met: Sequence[Meeting], tpot_ms: float | None) -> Together | str:
    """The steps as they are, untraced where that time is given; or why their replay isn't the step.

    Args:
        steps, met: a step of each rank.
        tpot_ms: its time without the profiler.
    """
    walls = sorted(step.wall_ns for step in steps)
    wall = round(median(walls))
    traced = [_at_its_pace(step, one) for step, one in zip(steps, met, strict=True)]
    lasts = replay_together_ns([(one.step.as_it_is(), one.meets) for one in traced])
    if lasts is None:
        return "the ranks' collectives come in an order in which they would wait for each other"
    if unexplained(walls[0], walls[-1]):
        return f"the ranks' steps last unlike times, {ms_words(walls[0])} to {ms_words(walls[-1])} ms"
    if any(unexplained(one, lasts) for one in walls):
        return (
            f"launches, waits and collectives add up to {ms_words(lasts)} ms of a step that lasts {ms_words(wall)} ms"
        )
    result = Together(traced, wall, lasts)
    if tpot_ms is None:
        return result
    base = round(tpot_ms * 1e6)
    quick = [replace(one, step=untraced(one.step, round(base * one.step.base_ns / wall))) for one in traced]
    lasts = replay_together_ns([(one.step.as_it_is(), one.meets) for one in quick]) or 0
    if unexplained(base, lasts):
        return f"launches, waits and collectives add up to {ms_words(lasts)} ms of the given {tpot_ms:g} ms"
    return Together(quick, base, lasts)


def _at_its_pace(step: RankStep, met: Meeting) -> Meeting:
    """The step with its own replay's time. A host that takes longer than the step had run ahead, and can't in each."""
    alone = replay_ns(met.step.as_it_is())
    one = replace(met.step, base_ns=alone, replayed_ns=alone)
    if alone > AHEAD * step.wall_ns:
        one = untraced(one, step.wall_ns)
    return replace(met, step=replace(one, base_ns=step.wall_ns, replayed_ns=min(alone, one.replayed_ns)))


def remedies(steps: Sequence[RankStep], ranks: Together) -> list[WhatIf]:
    """The rows of what remedies on all ranks would leave."""
    rows = []
    base = ranks.base_ns
    least = min(ranks.replay_ns([floor_timing(one.step) for one in ranks.ranks]), base)
    if not any(step.graphed for step in steps):
        made = tolerated(_graphed(steps, ranks), "graph")
        low, high = within((made.low_ns, made.high_ns), least, base)
        if high - low <= WIDEST["graph"] * (high + low):
            rows.append(
                row_of("graph", base, (low, high), least, [EVERY_RANK, ASSUMES["graph"], REACHES, RANKS_RECORD])
            )
    ways: list[tuple[str, Callable[[Replayed], Ends | None]]] = [("workers", workers_ends), ("overlap", overlap_ends)]
    if not any(step.replayed for step in steps):
        ways.insert(0, ("compile", compile_ends))
    for remedy, ends_of in ways:
        made_of = _saved(ranks, ends_of)
        if made_of is None:
            continue
        made = tolerated(made_of, remedy)
        low, high = within((made.low_ns, made.high_ns), made.floor_ns, base)
        if low < WORTH * base and high - low <= WIDEST[remedy] * (high + low):
            rows.append(
                row_of(
                    remedy,
                    base,
                    (low, high),
                    min(made.floor_ns, base),
                    [EVERY_RANK, ASSUMES[remedy], REACHES, RANKS_RECORD],
                )
            )
    return rows


def _graphed(steps: Sequence[RankStep], ranks: Together) -> Remedied:
    """The step as a graph on every rank, at best and at worst."""
    timings: list[GraphTimings] = [
        graph_timings(one.step, step.residual_ns) for step, one in zip(steps, ranks.ranks, strict=True)
    ]
    least = ranks.replay_ns([one.least for one in timings])
    low = ranks.replay_ns([one.best for one in timings])
    high = ranks.replay_ns([one.worst for one in timings]) + max(ranks.base_ns - ranks.replayed_ns, 0)
    high += max(grown_ns(one.step) for one in ranks.ranks)
    more = [crowded_ns(one.step, own, (low, high)) for one, own in zip(ranks.ranks, timings, strict=True)]
    low, high = low + max(one[0] for one in more), high + max(one[1] for one in more)
    return Remedied(low, max(high, low), least)


def _saved(ranks: Together, ends_of: Callable[[Replayed], Ends | None]) -> Remedied | None:
    """The step less what a remedy saves of it; None where no rank has what it changes."""
    found = [ends_of(one.step) for one in ranks.ranks]
    known = [ends for ends in found if ends is not None]
    if not known:
        return None
    every = [ends or unchanged_ends(one.step) for ends, one in zip(found, ranks.ranks, strict=True)]
    least, best, worst = (ranks.replay_ns([getattr(ends, end) for ends in every]) for end in ("least", "best", "worst"))
    replays = (round(known[0].same * least), best, worst)
    return saved(ranks.base_ns - ranks.replayed_ns, ranks.replayed_ns, replays, known[0].varies)
