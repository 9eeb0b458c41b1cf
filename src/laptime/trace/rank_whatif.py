"""What remedies on every rank would leave of the ranks' step, added to what their traces say side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from msgspec.structs import replace

from laptime.data.finding import Finding
from laptime.trace.busy_words import ms_words
from laptime.trace.given_time import check_given
from laptime.trace.rank_pairs import Paired
from laptime.trace.rank_remedies import remedies, together
from laptime.trace.rank_steps import RankStep, meetings, rank_step
from laptime.trace.ranks import RankWork, align, rank_works, ranks_of
from laptime.trace.ranks_result import RankAnalysis, RanksStep
from laptime.trace.read.rank_files import trace_files
from laptime.trace.read.reading import read_timeline
from laptime.trace.result import WhatIf

MOST = 200_000
"""Steps of more activities on all ranks together are not replayed."""

NARROW = 0.2
"""Of a range whose ends are further from its middle than this, only the end above is said."""

SURE_TO_WIN = 0.97
"""A remedy that may leave more of the step than this is none to recommend."""


def read_ranks_what_if(*paths: str | Path, tpot_ms: float | None = None) -> RankAnalysis:
    """Read the traces of several ranks, set them side by side, and replay a step of all of them together.

    Args:
        paths: a folder, several files, or a .tar or .zip of them.
        tpot_ms: the step's time without the profiler, for what-if.

    Raises:
        LaptimeError: no trace was found, one of them can't be read, or the given time can't be that of the step.
    """
    with trace_files([Path(path) for path in paths]) as files:
        source = Path(paths[0]).name if len(paths) == 1 else f"{len(files)} files"
        analysis = ranks_of(source, files, named=[Path(path) for path in paths])
        return with_what_if(analysis, files, tpot_ms=tpot_ms)


def with_what_if(analysis: RankAnalysis, files: Sequence[Path], *, tpot_ms: float | None = None) -> RankAnalysis:
    """The ranks side by side with what remedies on all of them would leave of a step; or the reason why it isn't said.

    Args:
        analysis: the ranks side by side.
        files: their traces.
        tpot_ms: the step's time without the profiler.

    Raises:
        LaptimeError: the given time can't be that of the step.
    """
    found = _steps(analysis, files)
    steps, refused = ([], found) if isinstance(found, str) else (found[0], "")
    rows: list[WhatIf] = []
    if steps and tpot_ms is not None:
        wall = round(median(step.wall_ns for step in steps))
        check_given("a step", round(tpot_ms * 1e6), wall, "the ranks' steps take")
    replayed = None
    if not isinstance(found, str):
        met = meetings(*found)
        ranks = met if isinstance(met, str) else together(steps, met, tpot_ms)
        if isinstance(ranks, str):
            refused = ranks
        else:
            rows, replayed = remedies(steps, ranks), ranks.replayed_ns
    unsure = _unsure(analysis, steps)
    if unsure:
        rows = [replace(row, assumptions=[*row.assumptions, unsure]) for row in rows]
    step = RanksStep(
        wall_ns=round(median(step.wall_ns for step in steps)) if steps else None,
        untraced_ns=None if tpot_ms is None or not rows else round(tpot_ms * 1e6),
        replay_ns=replayed,
        refused=refused,
    )
    findings = list(analysis.findings)
    if refused:
        message = f"what remedies on all ranks would leave of a step isn't said: {refused}"
        findings.append(Finding(code="ranks-not-replayed", severity="info", message=message))
    headline = analysis.headline if unsure else f"{analysis.headline}{_promise(rows, step)}"
    return replace(analysis, headline=headline, whatif=rows, step=step, findings=findings)


def _steps(analysis: RankAnalysis, files: Sequence[Path]) -> tuple[list[RankStep], list[Paired]] | str:
    """A step of each rank, and the collectives that belong together; or why there are none."""
    if len(analysis.ranks) < 2:
        return "there is one rank only"
    if not analysis.clocks.aligned:
        return analysis.clocks.why
    by_name = {file.name: file for file in files}
    if len(by_name) < len(files):
        return "two files have one name"
    works: dict[tuple[str, int], RankWork] = {}
    steps: dict[tuple[str, int], RankStep | None] = {}
    count = 0
    for name in dict.fromkeys(rank.file for rank in analysis.ranks):
        timeline = read_timeline(by_name[name])
        for work in rank_works(timeline):
            works[name, work.device] = work
            steps[name, work.device] = step = rank_step(timeline, work.device)
            count += 0 if step is None else len(step.names)
    own = [(rank.file, rank.device) for rank in analysis.ranks]
    missing = [rank.rank for rank, key in zip(analysis.ranks, own, strict=True) if steps.get(key) is None]
    if missing:
        return f"rank {missing[0]}'s trace holds no steady step, or not the launches of one"
    if count > MOST:
        return f"the ranks' steps hold {count} kernels and copies together, and {MOST} are the most that is replayed"
    _, _, pairs = align([works[key] for key in own], [rank.rank for rank in analysis.ranks])
    return [step for key in own if (step := steps[key]) is not None], pairs


def _unsure(analysis: RankAnalysis, steps: Sequence[RankStep]) -> str:
    """Why the rows are no promise; empty where nothing speaks against it."""
    if analysis.absent:
        return "the traces of other ranks are not here, and these may wait for them"
    if any(rank.verdict != "ok" for rank in analysis.ranks):
        return "a rank's file does not support every figure"
    return next((f"{step.unsure}: this is said of the ones shown" for step in steps if step.unsure), "")


def _promise(rows: Sequence[WhatIf], step: RanksStep) -> str:
    """What the best remedy on all ranks would leave, as a sentence to add; empty where nothing is promised."""
    base = step.untraced_ns or step.wall_ns
    if not rows or not base:
        return ""
    best = min(rows, key=lambda row: row.step_ns_high)
    if best.step_ns_high > SURE_TO_WIN * base:
        return ". No remedy that laptime knows is sure to win 3 % of the step"
    who = {
        "graph": "A CUDA graph on every rank",
        "compile": "torch.compile on every rank",
        "workers": "Workers in every rank's data loader",
        "overlap": "Pinned copies beside the compute on every rank",
    }[best.remedy]
    low, high = ms_words(best.step_ns_low), ms_words(best.step_ns_high)
    narrow = best.step_ns_high - best.step_ns_low <= NARROW * (best.step_ns_high + best.step_ns_low)
    ends = high if low == high else f"{low} to {high}" if narrow else f"at most {high}"
    return f". {who} could leave {ends} ms of the {ms_words(base)} ms step"
