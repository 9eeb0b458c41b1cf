"""Two traces side by side, as a page and in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from laptime import __version__
from laptime.report.kit.html import Html, section, table, tag
from laptime.report.kit.numbers import KEEP_TOGETHER, NOTHING, count, decimals, percent
from laptime.report.kit.page import asset, document
from laptime.report.kit.terminal import Column, columns_table
from laptime.report.kit.text import one_line
from laptime.report.trace.kernel_rows import told_apart
from laptime.report.trace.words import CAUSES, ms_column
from laptime.trace.comparison import Pair, TraceComparison

KERNEL_SUMS_PER_STEP = (
    "Kernel sums: each kernel's mean time in usual steps, times its count in a step; gaps and busy are of one"
    " real step, the one with the median time. So the two differ a little, also where no kernels overlap."
)
"""Why kernel sums are not the busy time of a step."""


def comparison_page(comparison: TraceComparison) -> str:
    """Two traces side by side: kernel sums first, then gaps, then counts, then the kernels that changed."""
    names = {"a": one_line(comparison.a, 120), "b": one_line(comparison.b, 120)}
    short = told_apart(comparison.kernels[:100])
    kernels = [
        [
            one_line(short[row.name], 80),
            row.family,
            ms_column(row.a_ns),
            ms_column(row.b_ns),
            ms_column(row.b_ns - row.a_ns),
            count(row.a_count),
            count(row.b_count),
        ]
        for row in comparison.kernels[:100]
    ]
    per_step = comparison.per == "step"
    return document(
        title=f"{names['a']} and {names['b']}",
        headline=one_line(comparison.headline, 300),
        meta=[f"A: {names['a']}", f"B: {names['b']}", f"per {comparison.per}"],
        sections=[
            _pairs("Kernel sums", comparison.kernel_sums, "kernel-sums", KERNEL_SUMS_PER_STEP * per_step),
            _pairs("Gaps", comparison.gaps, "gaps"),
            _pairs("Counts", comparison.counts, "counts"),
            section(
                "Kernels that changed most",
                table(
                    ["kernel", "family", "A ms", "B ms", "B − A", "A count", "B count"], kernels, numeric=range(2, 7)
                ),
                id="kernels",
            ),
        ],
        scripts=[],
        styles=[asset("trace/page.css")],
        footer=[f"laptime {__version__}", comparison.schema],
    )


def _pairs(title: str, pairs: Sequence[Pair], id: str, remark: str = "") -> Html:
    rows = [_cells(pair) for pair in pairs]
    figures = table(["", "A", "B", "B − A", "B / A"], rows, numeric=[1, 2, 3, 4])
    return section(title, figures, tag("p", remark) if remark else None, id=id)


def comparison_report(comparison: TraceComparison, *, kernels: int = 15) -> RenderableType:
    """Two traces side by side: kernel sums, gaps, counts, then the kernels that changed most.

    kernels: how many kernels are shown.
    """
    per = comparison.per
    return Group(
        Text(f"A {one_line(comparison.a, 120)}\nB {one_line(comparison.b, 120)}"),
        Text(one_line(comparison.headline, 300), style="bold"),
        Text(""),
        _table(f"Kernel sums per {per}", comparison.kernel_sums),
        _table(f"Gaps per {per}", comparison.gaps),
        *([Padding(Text(KERNEL_SUMS_PER_STEP, style="dim"), (0, 0, 1, 1))] if per == "step" else []),
        _table("Counts", comparison.counts),
        _changed_kernels(comparison, kernels),
    )


def _table(title: str, pairs: Sequence[Pair]) -> RenderableType:
    rows = columns_table("", "A", "B", "B − A", "B / A", title=title, numeric=range(1, 5))
    for pair in pairs:
        rows.add_row(*_cells(pair))
    return Group(rows, Text(""))


def _changed_kernels(comparison: TraceComparison, shown: int) -> RenderableType:
    heads = ("A ms", "B ms", "B − A ms", "A count", "B count")
    rows = columns_table(
        "kernel",
        *(Column(head, numeric=True) for head in heads),
        title="Kernels that changed most",
    )
    names = told_apart(comparison.kernels[:shown])
    for kernel in comparison.kernels[:shown]:
        rows.add_row(
            Text(one_line(names[kernel.name], 60)),
            *(ms_column(ns) for ns in (kernel.a_ns, kernel.b_ns, kernel.b_ns - kernel.a_ns)),
            count(kernel.a_count),
            count(kernel.b_count),
        )
    return rows


def _cells(pair: Pair) -> list[str]:
    """Name, A, B, their difference, and B over A with three decimals (a dash where A is 0 or missing)."""
    name = one_line(_pair_name(pair), 60)
    return [name, _figure(pair, pair.a), _figure(pair, pair.b), _difference(pair), decimals(pair.ratio, 3)]


def _pair_name(pair: Pair) -> str:
    """What a figure of a comparison is called; "gaps: CODE" gets the cause's words."""
    name, colon, cause = pair.name.partition(": ")
    return f"{name}: {CAUSES.get(cause, cause)}" if colon else pair.name


def _figure(pair: Pair, value: float | None) -> str:
    """One figure of a comparison in its unit."""
    if value is None:
        return NOTHING
    if pair.unit == "ns":
        return f"{ms_column(value)}{KEEP_TOGETHER}ms"
    return percent(value) if pair.unit == "share" else count(value)


def _difference(pair: Pair) -> str:
    """The difference of a figure in its unit; two shares differ by points of per cent."""
    if pair.unit != "share" or pair.delta is None:
        return _figure(pair, pair.delta)
    return f"{decimals(pair.delta * 100, 1)}{KEEP_TOGETHER}points"
