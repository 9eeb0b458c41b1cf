"""Several ranks side by side, in a terminal and on a page."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from laptime import __version__
from laptime.report.kit.html import Child, Html, chart, definitions, section, table, tag
from laptime.report.kit.numbers import KEEP_TOGETHER, NOTHING, count, text
from laptime.report.kit.page import asset, document
from laptime.report.kit.terminal import Column, columns_table, with_remarks
from laptime.report.kit.text import counted, one_line
from laptime.report.trace import words
from laptime.report.trace.terminal import whatif_table
from laptime.trace.ranks_result import RankAnalysis, RankTimes

HEADS = ("rank", "compute", "exposed", "copies", "idle", "span", "waited", "last", "waits for")
SHOWN = 512
"""Ranks that a table holds; the JSON has all."""

NAMED = 8
"""Ranks that a sentence names."""


def ranks_report(analysis: RankAnalysis) -> RenderableType:
    """The point, then one line for each rank."""
    rows = columns_table(
        *(Column(head, numeric=True) for head in HEADS[:-1]), Column(HEADS[-1], narrow="cut"), title="Ranks, in ms"
    )
    for rank in analysis.ranks[:SHOWN]:
        rows.add_row(*_cells(rank))
    notes = [Text(f"  {f.severity}: {words.finding_text(f)} [{f.code}]", style="dim") for f in analysis.findings]
    return Group(
        Text(f"{one_line(analysis.source, 120)} ({counted(len(analysis.ranks), 'rank')})"),
        *notes,
        Text(""),
        Text(one_line(analysis.headline, 600), style="bold"),
        Text(""),
        with_remarks(rows, [Text(line, style="dim") for line in _remarks(analysis)]),
        *(
            [whatif_table(analysis.whatif), *(Text(line, style="dim") for line in _step(analysis))]
            if analysis.whatif
            else []
        ),
    )


def ranks_page(analysis: RankAnalysis) -> str:
    """The same as a page, with a bar for each rank, all to one scale."""
    findings: Child = (
        definitions([(f"{f.severity}: {f.code}", words.finding_text(f)) for f in analysis.findings])
        if analysis.findings
        else None
    )
    return document(
        title=one_line(analysis.source, 200),
        headline=one_line(analysis.headline, 600),
        meta=[counted(len(analysis.ranks), "rank")],
        lead=chart("rank-bars", "Each rank's time: compute, exposed communication, copies, idle"),
        sections=[_rank_section(analysis, findings), *([_whatif_section(analysis)] if analysis.whatif else [])],
        data=[
            {
                "rank": rank.rank,
                "span": rank.span_ns,
                "compute": rank.compute_ns,
                "communication": rank.exposed_communication_ns,
                "copy": rank.copy_ns + rank.memset_ns,
                "idle": rank.idle_ns,
            }
            for rank in analysis.ranks[:SHOWN]
        ],
        scripts=[asset("kit/charts/scale.js"), asset("kit/charts/tooltip.js"), asset("trace/ranks.js")],
        styles=[asset("trace/page.css")],
        footer=[f"laptime {__version__}", analysis.schema],
    )


def _rank_section(analysis: RankAnalysis, findings: Child) -> Html:
    rows = [[*_cells(rank), one_line(rank.file, 80)] for rank in analysis.ranks[:SHOWN]]
    return section(
        "Ranks, in ms",
        table([*HEADS, "file"], rows, numeric=range(len(HEADS) - 1)),
        [tag("p", line) for line in _remarks(analysis)],
        findings,
        id="ranks-section",
    )


def _whatif_section(analysis: RankAnalysis) -> Html:
    rows = [
        [row.remedy, words.step_range(row), words.speedup_range(row), words.floor_ms(row)] for row in analysis.whatif
    ]
    assumed = [tag("li", tag("b", whom), ": ", "; ".join(said)) for whom, said in words.notes(analysis.whatif)]
    return section(
        "What if",
        table(["remedy", "step ms", "speed-up", "floor ms"], rows, numeric=range(1, 4)),
        tag("ul", assumed, class_="assumptions"),
        [tag("p", line) for line in _step(analysis)],
        id="whatif-section",
        lead="How long a step of all ranks would take with each remedy on every rank.",
    )


def _step(analysis: RankAnalysis) -> list[str]:
    """The step that the ranges start from, and how often such ranges held."""
    step = analysis.step
    if step is None or step.replay_ns is None or not analysis.whatif:
        return []
    traced = f"The ranks' step takes {words.ms_column(step.wall_ns)}{KEEP_TOGETHER}ms as it was traced (median)"
    given = (
        "" if step.untraced_ns is None else f", {words.ms_column(step.untraced_ns)}{KEEP_TOGETHER}ms untraced as given"
    )
    replayed = f"{traced}{given}; replayed together {words.ms_column(step.replay_ns)}{KEEP_TOGETHER}ms."
    return [replayed, words.record(analysis.whatif)]


def _cells(rank: RankTimes) -> list[str]:
    first = rank.waited_for[:1] if rank.waited_for else []
    return [
        str(rank.rank),
        words.ms_column(rank.compute_ns),
        words.ms_column(rank.exposed_communication_ns),
        words.ms_column(rank.copy_ns + rank.memset_ns),
        words.ms_column(rank.idle_ns),
        words.ms_column(rank.span_ns),
        words.ms_column(rank.waited_ns),
        NOTHING if rank.last_in is None else count(rank.last_in),
        ", ".join(f"{row.rank} ({text(row.total_ns, 'ns')})" for row in first) or NOTHING,
    ]


def _remarks(analysis: RankAnalysis) -> list[str]:
    lines = [
        "Compute, exposed communication, copies and idle sum to the span, which is each rank's own. Exposed: with no"
        " compute beside it. Copies: only copies or memsets ran."
    ]
    clocks = analysis.clocks
    if clocks.aligned:
        spread = text(clocks.spread_ns, "ns").replace(" ", KEEP_TOGETHER)
        lines.append(
            "Waited: in a collective, before the last rank had started it too. The clocks are aligned by the ends of"
            f" collectives; three of four lie within {spread} of each other. Last: collectives that it started last."
        )
        hidden = {rank.rank: (rank.waited_ns or 0) - (rank.exposed_waited_ns or 0) for rank in analysis.ranks}
        if beside := [rank for rank, ns in hidden.items() if ns > 0]:
            most = text(max(hidden.values()), "ns").replace(" ", KEEP_TOGETHER)
            much = f"up to {most} each" if len(beside) > 1 else most
            whose = "each rank" if len(beside) == len(analysis.ranks) > 1 else _named(beside)
            much = much.removesuffix(" each") if whose == "each rank" else much
            lines.append(f"Of what {whose} waited, {much} had compute beside it; exposed time lacks that.")
    else:
        lines.append(f"Who waited for whom is not known: {clocks.why}.")
    return lines


def _named(ranks: Sequence[int]) -> str:
    """Some ranks in a sentence: rank 3; ranks 0, 1 and 3."""
    shown = [str(rank) for rank in ranks[:NAMED]]
    if len(shown) == 1:
        return f"rank {shown[0]}"
    more = f"{len(ranks) - NAMED} more" if len(ranks) > NAMED else shown.pop()
    return f"ranks {', '.join(shown)} and {more}"
