"""Several ranks of one run: what each computed, how long it communicated, and who waited for whom.

Clocks of different machines differ. They are aligned by the ends of collectives, which all ranks reach together; where
the ends don't coincide after that, nothing is said about who waited.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from laptime.data.finding import Finding
from laptime.errors import LaptimeError, NoTraceError
from laptime.trace.device_time import COMMUNICATION, COMPUTE, busy_times, compute_beside, kinds
from laptime.trace.durations import bounded
from laptime.trace.gaps import device_gaps
from laptime.trace.integrity import check, why_unsupported
from laptime.trace.kernel_names import short_name
from laptime.trace.rank_absences import absent_ranks, too_many
from laptime.trace.rank_captures import one_capture
from laptime.trace.rank_headline import headline, listed
from laptime.trace.rank_pairs import Collectives, Paired, offsets_of, pair, upper_quartile
from laptime.trace.rank_waits import waits_of
from laptime.trace.ranks_result import Clocks, RankAnalysis, RankTimes
from laptime.trace.read.rank_files import rank_in_name, trace_files
from laptime.trace.read.reading import import_reader, read_timeline
from laptime.trace.read.second_process import available, elsewhere, processors
from laptime.trace.read.timeline import Activity, GpuTimeline, Int32, Int64

TOLERANCE_NS = 20_000
"""Ends of one collective that lie no further apart than this are taken for one instant; or a tenth of its time."""

LEAST_COLLECTIVES = 3
FEWEST = 2
"""Traces among which a file of another kind is left out."""

NO_TRACE, HOST_ONLY = "other-files", "host-only-files"
"""Why a file is left out: the codes of the findings that say so."""


class RankWork(msgspec.Struct, frozen=True, eq=False):
    """One rank's device: its times, and its collectives in the order in which they started."""

    file: str
    rank: int  # -1 where neither the file nor its name says it
    stated: bool  # whether the file itself says it
    device: int
    verdict: str
    refused: str  # why the file could not be read; empty when it was
    other: str  # why it may be left out where others are traces: it is of another kind, or only of the host
    world_size: int | None  # how many ranks the file says that the run has
    start_ns: int
    span_ns: int
    busy_ns: int
    compute_ns: int
    communication_ns: int
    exposed_communication_ns: int
    copy_ns: int
    memset_ns: int
    collective_start_ns: Int64
    collective_end_ns: Int64
    beside_start_ns: Int64  # compute that runs beside a collective: disjoint, by start
    beside_end_ns: Int64
    collectives: list[str]
    groups: list[str]  # of each collective its process group, as the reader keeps it; empty where the file has none


def read_ranks(*paths: str | Path) -> RankAnalysis:
    """Read the traces of several ranks and set them side by side; the files are shared among the processors.

    paths: a folder, several files, or a .tar or .zip of them.

    Raises:
        LaptimeError: no trace was found, or one of them can't be read.

    Example: laptime.show(laptime.read_ranks("traces/"))
    """
    with trace_files([Path(path) for path in paths]) as files:
        source = Path(paths[0]).name if len(paths) == 1 else f"{len(files)} files"
        return ranks_of(source, files, named=[Path(path) for path in paths])


def ranks_of(source: str, files: Sequence[Path], *, named: Sequence[Path] = ()) -> RankAnalysis:
    """The same of files that are found already.

    What is no trace, or holds the host's work alone, is left out where two others are traces, unless it is among those
    that were `named` by themselves.

    Raises:
        LaptimeError: one of the files can't be read.
    """
    works = _read_all(files)
    left_out = [work for work in works if work.other and Path(work.file) not in set(named)]
    traces = [work for work in works if work not in left_out]
    if len(traces) == 1 and left_out and not traces[0].refused:
        others = ", ".join(Path(work.file).name for work in left_out[:4]) + (", …" if len(left_out) > 4 else "")
        alone = traces[0].file
        raise LaptimeError(f"{alone}: the only trace with work of a GPU here (the others: {others}); name it by itself")
    if len(traces) < FEWEST:
        left_out, traces = [], works
    refused = next((work for work in traces if work.refused), None)
    if refused is not None:
        raise LaptimeError(refused.refused)
    traces, several = one_capture(traces)
    analysis = compare_ranks(source, traces)
    if several is not None:
        analysis = msgspec.structs.replace(analysis, findings=[several, *analysis.findings])
    if not left_out:
        return analysis
    return msgspec.structs.replace(analysis, findings=[*_left_out(left_out, len(works)), *analysis.findings])


def _left_out(works: Sequence[RankWork], among: int) -> Iterator[Finding]:
    """Says which files were left out, and why."""
    lacks = "no work of a GPU (an engine's front end has none), and"
    for code, one, several in (
        (NO_TRACE, "is no trace, and", "are no trace, and"),
        (HOST_ONLY, f"holds {lacks} is", f"hold {lacks} are"),
    ):
        own = [Path(work.file).name for work in works if work.other == code]
        if own:
            names = ", ".join(own[:4]) + (", …" if len(own) > 4 else "")
            message = f"{len(own)} of {among} files {one if len(own) == 1 else several} left out: {names}"
            yield Finding(code=code, severity="warning" if code == NO_TRACE else "info", message=message)


def _read_all(files: Sequence[Path]) -> list[RankWork]:
    """Every file's work, in the order of the files; each further process takes its share of them."""
    processes = min(processors(), len(files)) if available() else 1
    works: list[RankWork] = []
    import_reader(files[0])
    with ExitStack() as running:
        fetches = [
            running.enter_context(elsewhere(partial(_read_some, files[i::processes]), RankWork))
            for i in range(1, processes)
        ]
        parts = [_read_some(files[::processes])]
        for i, fetch in enumerate(fetches, start=1):
            fetched = fetch()
            parts.append(_read_some(files[i::processes]) if fetched is None else fetched)
    for part in parts:
        works += part
    order = {str(file): place for place, file in enumerate(files)}
    return sorted(works, key=lambda work: (order[work.file], work.device))


def _read_some(files: Sequence[Path]) -> list[RankWork]:
    return [work for file in files for work in _read_one(file)]


def _read_one(file: Path) -> list[RankWork]:
    try:
        return rank_works(read_timeline(file, details=False))
    except LaptimeError as error:
        return [_nothing(str(file), str(error), other=NO_TRACE if isinstance(error, NoTraceError) else "")]


def rank_works(timeline: GpuTimeline) -> list[RankWork]:
    """The work of each device of a timeline; one without times where the trace has no device work."""
    file, timeline = timeline.source.file, bounded(timeline)
    checked = check(timeline)
    if checked.verdict == "unsupported":
        host_only = HOST_ONLY * ({finding.code for finding in checked.findings} == {"no-device-activity"})
        other = host_only if len(timeline.ranges.start_ns) and not len(timeline.calls.start_ns) else ""
        return [_nothing(file, f"{file}: {why_unsupported(checked)}", other=other)]
    rank = timeline.source.rank
    if rank is None:
        rank = rank_in_name(Path(file).name)
    all_gaps = device_gaps(timeline.activities)
    works = []
    for gaps in all_gaps:
        busy = {row.kind: row for row in busy_times(timeline, gaps)}
        activities = timeline.activities
        kind = kinds(timeline, gaps.rows)
        own = gaps.rows[kind == COMMUNICATION]
        own = own[activities.kind[own] == Activity.KERNEL]
        beside = compute_beside(timeline, gaps.rows[kind == COMPUTE], own)
        communication = busy.get("communication")
        works.append(
            RankWork(
                file=file,
                rank=-1 if rank is None or len(all_gaps) > 1 else rank,
                stated=timeline.source.rank is not None,
                device=gaps.device,
                verdict=checked.verdict,
                refused="",
                other="",
                world_size=timeline.source.world_size if len(all_gaps) == 1 else None,
                start_ns=gaps.start_ns,
                span_ns=gaps.span_ns,
                busy_ns=gaps.busy_ns,
                compute_ns=busy["compute"].busy_ns if "compute" in busy else 0,
                communication_ns=communication.busy_ns if communication else 0,
                exposed_communication_ns=communication.exposed_ns if communication else 0,
                copy_ns=busy["copy"].share_ns if "copy" in busy else 0,
                memset_ns=busy["memset"].share_ns if "memset" in busy else 0,
                collective_start_ns=activities.start_ns[own],
                collective_end_ns=activities.end_ns[own],
                beside_start_ns=beside[0],
                beside_end_ns=beside[1],
                collectives=[short_name(timeline.strings[i]) for i in activities.name[own].tolist()],
                groups=_groups(timeline, own),
            )
        )
    return works


def _groups(timeline: GpuTimeline, rows: Int32) -> list[str]:
    """The process group of each collective; none unless the file has it of all."""
    if len(timeline.activities.group) == 0:
        return []
    group = timeline.activities.group[rows]
    return [timeline.groups[i] for i in group.tolist()] if (group >= 0).all() else []


def _nothing(file: str, refused: str, *, other: str = "") -> RankWork:
    empty = np.zeros(0, dtype=np.int64)
    return RankWork(
        file,
        -1,
        False,
        -1,
        "unsupported",
        refused,
        other,
        None,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        empty,
        empty,
        empty,
        empty,
        [],
        [],
    )


def compare_ranks(source: str, works: Sequence[RankWork]) -> RankAnalysis:
    """The ranks of one run side by side."""
    findings, apart = [], False
    numbers = [work.rank for work in works]
    absent = absent_ranks(works)
    if -1 in numbers or len(set(numbers)) < len(numbers):
        if any(number >= 0 for number in numbers):
            message = (
                "the files don't state a rank each, or state one twice: they are numbered in the order of their names"
            )
            findings.append(Finding(code="ranks-numbered", severity="warning", message=message))
        elif apart := len({work.file for work in works}) > 1 and not any(work.collectives for work in works):
            message = "no file says which rank it is, and none holds a collective: they may be traces of separate runs"
            findings.append(Finding(code="ranks-apart", severity="warning", message=message))
        numbers = list(range(len(works)))
    unsupported = [number for number, work in zip(numbers, works, strict=True) if work.verdict != "ok"]
    if unsupported:
        many = len(unsupported) > 1
        which = f"files of ranks {listed(unsupported)} don't" if many else f"file of rank {unsupported[0]} doesn't"
        message = f"the {which} support every figure; look at each by itself: laptime trace FILE"
        findings.append(Finding(code="partial-ranks", severity="warning", message=message))
    findings += [*too_many(works), *absent.findings()]
    pairs = sorted(zip(numbers, works, strict=True), key=lambda pair: pair[0])
    numbers, works = [number for number, _ in pairs], [work for _, work in pairs]
    clocks, offsets, paired = align(works, numbers)
    waits = waits_of(works, paired, offsets, clocks.spread_ns or 0) if clocks.aligned else None
    ranks = []
    for i, (number, work) in enumerate(pairs):
        waited = None if waits is None else waits.of(i, numbers)
        ranks.append(
            RankTimes(
                rank=number,
                file=Path(work.file).name,
                device=work.device,
                verdict=work.verdict,
                start_ns=work.start_ns,
                span_ns=work.span_ns,
                busy_ns=work.busy_ns,
                idle_ns=work.span_ns - work.busy_ns,
                compute_ns=work.compute_ns,
                communication_ns=work.communication_ns,
                exposed_communication_ns=work.exposed_communication_ns,
                copy_ns=work.copy_ns,
                memset_ns=work.memset_ns,
                collectives=len(work.collectives),
                waited_ns=None if waited is None else sum(row.total_ns for row in waited),
                exposed_waited_ns=None if waited is None else sum(row.exposed_ns for row in waited),
                waited_for=waited,
                last_in=None if waits is None else int(waits.last[i]),
                paired=None if waits is None else int(waits.paired[i]),
            )
        )
    spans = [work.span_ns for work in works]
    slow = None if waits is None else waits.straggler(spans)
    straggler = None if slow is None else numbers[slow]
    return RankAnalysis(
        headline=headline(
            ranks, clocks, straggler, unsure=waits is not None and waits.unsure(spans), apart=apart, absent=absent
        ),
        source=source,
        ranks=ranks,
        straggler=straggler,
        absent=absent.count,
        clocks=clocks,
        findings=findings,
    )


def align(works: Sequence[RankWork], numbers: Sequence[int]) -> tuple[Clocks, Int64, list[Paired]]:
    """Align the ranks' clocks by the ends of collectives: whether that holds, each clock's lead over the first one's,
    and the collectives that belong together.
    """
    nothing = np.zeros(len(works), dtype=np.int64)

    def refused(why: str) -> tuple[Clocks, Int64, list[Paired]]:
        return Clocks(aligned=False, why=why, spread_ns=None, offsets_ns=[]), nothing, []

    if len(works) < 2:
        return refused("there is one rank only")
    pairs, why = pair(
        [
            Collectives(number, work.collectives, work.groups, work.collective_start_ns, work.collective_end_ns)
            for number, work in zip(numbers, works, strict=True)
        ]
    )
    if why:
        return refused(why)
    found = sum(one.end_ns.shape[1] for one in pairs)
    pairs = [timed for one in pairs if (timed := one.timed()).end_ns.shape[1]]
    left = sum(one.end_ns.shape[1] for one in pairs)
    if left < found and left < max(LEAST_COLLECTIVES, found / 2):
        return refused("collectives are recorded to last no time")
    if left < LEAST_COLLECTIVES:
        return refused("there are too few collectives to align the clocks by")
    offsets = offsets_of(len(works), pairs)
    if offsets is None:
        return refused("no collective connects all ranks: their process groups don't share one")
    spreads, longest = [], []
    for one in pairs:
        aligned = one.end_ns[:, one.together] - offsets[one.members][:, None]
        spreads.append(aligned.max(axis=0) - aligned.min(axis=0))
        longest.append((one.end_ns - one.start_ns)[:, one.together].max(axis=0))
    usual = int(upper_quartile(np.concatenate(spreads)))
    if usual > max(TOLERANCE_NS, int(np.median(np.concatenate(longest))) // 10):
        return refused("collectives don't end together on all ranks")
    return Clocks(aligned=True, why="", spread_ns=usual, offsets_ns=offsets.tolist()), offsets, pairs
