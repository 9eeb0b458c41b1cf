"""One step of each rank, and which of their collectives are one: what a replay of all ranks together needs."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec.structs import replace

from laptime.trace.analysis import views
from laptime.trace.durations import bounded
from laptime.trace.rank_pairs import Paired
from laptime.trace.read.timeline import GpuTimeline, Int64
from laptime.trace.remedied import Bools, Replayed
from laptime.trace.result import SURE
from laptime.trace.start_up import SOME, first_calls_ns
from laptime.trace.step_changes import step_changes
from laptime.trace.step_costs import step_costs
from laptime.trace.transfers import collectives

UNPAIRED = 0.05
"""The largest share of a step in communication that belongs to none of another rank."""


class RankStep(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The modal step of one rank."""

    step: Replayed
    wall_ns: int
    residual_ns: tuple[int, int]  # between two kernels of a graph
    graphed: bool  # one graph's replay already launches most kernels
    replayed: bool  # replays of graphs do, of one or of several
    names: list[str]  # of its activities
    start_ns: Int64  # when each began, on the rank's clock
    taken_ns: Int64  # and how long it took
    collective: Bools  # which of them are collectives
    unsure: str  # why this step says nothing of others; empty where it does


def rank_step(timeline: GpuTimeline, device: int) -> RankStep | None:
    """The modal step of a device; None where it has none, or its launches are not in the trace."""
    timeline = bounded(timeline)
    (view,) = views(timeline, device=device)
    steps = view.frame.steps
    changes = step_changes(timeline, view.gaps, view.launched, view.frame) if steps.kernels_per_step else None
    costs = step_costs(timeline, view.gaps, view.causes, view.launched, view.frame, changes)
    if changes is None or costs is None or steps.wall_ns is None:
        return None
    unsure = ""
    if steps.confidence < SURE:
        unsure = "the steps are a guess"
    elif steps.uneven:
        unsure = "steps differ"
    elif first_calls_ns(steps.causes) >= SOME * steps.wall_ns:
        unsure = "first calls are made in the step"
    elif costs.carries:
        unsure = "work that began before the step runs in a good part of it"
    rows = changes.graph.rows
    start, end = timeline.activities.start_ns[rows], timeline.activities.end_ns[rows]
    return RankStep(
        step=changes,
        wall_ns=steps.wall_ns,
        residual_ns=costs.residual_ns,
        graphed=costs.graphed,
        replayed=costs.replayed,
        names=[timeline.strings[i] for i in timeline.activities.name[rows].tolist()],
        start_ns=start,
        taken_ns=np.maximum(end - start, 0),
        collective=collectives(timeline, rows),
        unsure=unsure,
    )


class Meeting(msgspec.Struct, frozen=True, eq=False):
    """A rank's step with the times of its transfers, and for each activity the number of the collective that it is."""

    step: Replayed
    meets: list[int]  # -1 where it is none


def meetings(ranks: Sequence[RankStep], pairs: Sequence[Paired]) -> list[Meeting] | str:
    """The steps with their collectives numbered alike on all ranks; or why that can't be.

    A collective lasts as long as on the rank that came last, which didn't wait in it.

    Args:
        ranks: a step of each rank.
        pairs: the collectives of the whole traces that belong together.
    """
    found: list[tuple[Int64, Int64, Int64]] = []  # of each rank's activities: group, place in its traces, transfer
    for place, rank in enumerate(ranks):
        group, column, transfer = (np.full(len(rank.start_ns), -1, dtype=np.int64) for _ in range(3))
        for number, one in enumerate(pairs):
            own = np.flatnonzero(one.members == place)
            if not len(own) or one.start_ns.shape[1] == 0:
                continue
            start = one.start_ns[own[0]]
            at = np.minimum(np.searchsorted(start, rank.start_ns), len(start) - 1)
            here = rank.collective & (start[at] == rank.start_ns) & (group < 0)
            group[here], column[here] = number, at[here]
            transfer[here] = (one.end_ns - one.start_ns).min(axis=0)[at[here]]
        alone = rank.taken_ns[rank.collective & (group < 0)].sum()
        if alone > UNPAIRED * rank.wall_ns:
            return "communication of the step is in no collective that other traces hold, too"
        found.append((group, column, transfer))
    if why := _unlike(found, pairs):
        return why
    numbers: dict[tuple[int, int], int] = {}
    sent: dict[int, list[int]] = {}
    result = []
    for group, column, transfer in found:
        first = {one: int(column[group == one].min()) for one in np.unique(group[group >= 0]).tolist()}
        meets = [
            -1 if one < 0 else numbers.setdefault((one, at - first[one]), len(numbers))
            for one, at in zip(group.tolist(), column.tolist(), strict=True)
        ]
        for meeting, lasts in zip(meets, transfer.tolist(), strict=True):
            sent.setdefault(meeting, []).append(lasts)
        result.append(meets)
    shortest = _beside(ranks)
    return [
        _with_transfers(rank.step, meets, sent, least)
        for rank, meets, least in zip(ranks, result, shortest, strict=True)
    ]


def _beside(ranks: Sequence[RankStep]) -> list[Int64]:
    """How long each activity takes with no collective beside it, as far as the ranks' steps say it.

    A collective that waits takes a part of the device all the while. Where the ranks ran the same kernels, the shortest
    of one place is taken for those with a collective beside them.
    """
    if any(rank.names != ranks[0].names for rank in ranks):
        return [rank.step.graph.duration_ns for rank in ranks]
    least = np.stack([rank.step.graph.duration_ns for rank in ranks]).min(axis=0)
    result = []
    for rank in ranks:
        begins, ends = (np.sort(column[rank.collective]) for column in (rank.start_ns, rank.start_ns + rank.taken_ns))
        under = np.searchsorted(begins, rank.start_ns + rank.taken_ns) > np.searchsorted(ends, rank.start_ns, "right")
        result.append(np.where(under & ~rank.collective, least, rank.step.graph.duration_ns))
    return result


def _unlike(found: Sequence[tuple[Int64, Int64, Int64]], pairs: Sequence[Paired]) -> str:
    """Why the ranks' steps don't hold the same collectives; empty where they do."""
    for number, one in enumerate(pairs):
        columns = [np.sort(column[group == number]) for group, column, _ in (found[place] for place in one.members)]
        count = len(columns[0])
        if any(len(own) != count for own in columns):
            return "the ranks' steps hold unlike numbers of collectives"
        if count == 0:
            continue
        if any(own[-1] - own[0] != count - 1 for own in columns):
            return "the collectives of a step don't follow one another on every rank"
        if any((own[0] - columns[0][0]) % count for own in columns):
            return "the ranks' steps begin at different collectives"
    return ""


def _with_transfers(step: Replayed, meets: list[int], sent: dict[int, list[int]], shortest_ns: Int64) -> Meeting:
    """The step with the shortest transfer of each collective among the ranks' steps; at worst with the longest.

    shortest_ns: how long each other activity takes at best.
    """
    ends = np.array([(min(sent[one]), max(sent[one])) if one >= 0 else (-1, -1) for one in meets], dtype=np.int64)
    paired = ends[:, 0] >= 0
    graph = step.graph
    worst = graph.duration_ns + step.longer_ns
    duration = np.where(paired, ends[:, 0], shortest_ns)
    longer = np.where(paired, ends[:, 1], worst) - duration
    return Meeting(
        replace(step, graph=replace(graph, duration_ns=duration), longer_ns=longer, waiting=1.0, late_ns=0),
        meets,
    )
