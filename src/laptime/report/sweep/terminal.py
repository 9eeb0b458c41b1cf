"""A sweep in a terminal: what each knob buys, a table of the configurations, failures, one line of the audit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from laptime.audits.result import AuditReport
from laptime.report.audit.terminal import audit_line
from laptime.report.kit.numbers import KEEP_TOGETHER, NOTHING, count, interval_ends, percent, ratio, ratio_ends, text
from laptime.report.kit.terminal import Column, columns_table, with_remarks
from laptime.report.kit.text import counted, one_line, shortened
from laptime.report.sweep.view import FailedConfig, SweepView
from laptime.report.sweep.words import (
    by_strength,
    config_text,
    drift_words,
    grade_words,
    headline,
    interaction_words,
    knob_title,
    level_text,
    samples_words,
    surely_differs,
    visit_words,
)
from laptime.sweeps.summary.result import ConfigRow, SweepSummary

CONFIGS_SHOWN = 12
EFFECTS_SHOWN = 6
FAILED_SHOWN = 5
LEVEL_LIMIT = 16
KNOB_COLUMNS = 6


def sweep_report(view: SweepView, *, configs: int = CONFIGS_SHOWN) -> RenderableType:
    """The end of a sweep. `configs`: most rows of the table; the fastest and the accuracy front come first."""
    summary = view.summary
    parts: list[RenderableType] = [Text(headline(summary), style="bold")]
    effects = effect_table(summary)
    if effects is not None:
        parts.append(effects)
    if any(row.samples for row in summary.rows):
        parts.append(config_table(summary, configs))
    parts += [Padding(line, (0, 0, 0, 1)) for line in _remarks(view)]
    return Group(*parts)


def effect_table(summary: SweepSummary) -> Table | None:
    """One row for each level: its ratio of the total against the base, with the interval. Strong knobs come first."""
    effects = by_strength(summary)[:EFFECTS_SHOWN]
    if not effects:
        return None
    table = columns_table(
        Column("knob", narrow="cut", max_width=22),
        Column("value", narrow="cut", max_width=LEVEL_LIMIT),
        Column("total", numeric=True),
        Column(f"95{KEEP_TOGETHER}% interval", numeric=True),
        Column("against", narrow="cut", max_width=LEVEL_LIMIT),
    )
    for effect in effects:
        for i, level in enumerate(effect.levels):
            sure = surely_differs(level.ratio)
            style = "" if not sure else "green" if level.ratio.value < 1 else "yellow"
            table.add_row(
                Text(knob_title(effect.knob) if i == 0 else ""),
                Text(level_text(level.value)),
                Text(ratio(level.ratio.value), style=f"bold {style}".strip()),
                Text(ratio_ends(level.ratio), style="" if sure else "dim"),
                Text(level_text(effect.base), style="dim"),
                end_section=i == len(effect.levels) - 1,
            )
    return table


def config_table(summary: SweepSummary, limit: int) -> RenderableType:
    """Configurations by their total: all of a few, else the front (or the fastest) and the slowest."""
    shown, left = _chosen_rows(summary, limit)
    front = set(summary.pareto)
    scored = any(row.accuracy for row in summary.rows)
    knobs = list(summary.knobs) if len(summary.knobs) <= KNOB_COLUMNS else []
    table = columns_table(
        *([_knob_column(knob, summary) for knob in knobs] or [Column("configuration", narrow="fold", min_width=20)]),
        *(Column(head, numeric=True) for head in ("total", f"95{KEEP_TOGETHER}%\ninterval")),
        *([Column("accuracy", numeric=True)] if scored else []),
    )
    for row in shown:
        total = row.stages.get("total")
        named = [level_text(row.config.get(knob)) for knob in knobs] or [config_text(row.config, summary)]
        table.add_row(
            *(Text(shortened(name, 160)) for name in named),
            Text(text(total.value if total else None, "ms"), style="bold"),
            Text(interval_ends(total, "ms")),
            *([_accuracy(row, on_front=row.config_id in front)] if scored else []),
        )
    notes = [f"{counted(left, 'more configuration')}: `laptime report` shows them all."] if left else []
    notes += ["● on the front: nothing else is faster and at least as accurate."] if scored else []
    return with_remarks(table, [Text(line, style="dim") for line in notes])


def _knob_column(knob: str, summary: SweepSummary) -> Column:
    """A column as wide as its longest word."""
    title = one_line(knob_title(knob), 20)
    words = [*title.split(), *(level_text(value)[:LEVEL_LIMIT] for value in summary.knobs[knob])]
    return Column(title, narrow="fold", min_width=max(map(len, words)), max_width=LEVEL_LIMIT)


def _chosen_rows(summary: SweepSummary, limit: int) -> tuple[list[ConfigRow], int]:
    """At most `limit` rows: the front, then the fastest, and the slowest as the last; and how many are left."""
    measured = [row for row in summary.rows if "total" in row.stages]
    by_total = sorted(measured, key=lambda row: row.stages["total"].value)
    if len(by_total) <= limit:
        return by_total, 0
    front = set(summary.pareto)
    order = [*(row for row in by_total if row.config_id in front), *(r for r in by_total if r.config_id not in front)]
    ids = {row.config_id for row in order[: limit - 1]} | {by_total[-1].config_id}
    return [row for row in by_total if row.config_id in ids], len(by_total) - len(ids)


def _accuracy(row: ConfigRow, *, on_front: bool) -> Text:
    if row.accuracy is None:
        return Text(NOTHING)
    return Text(f"{percent(row.accuracy.value)} {'●' if on_front else ' '}", style="green" if on_front else "")


def _remarks(view: SweepView) -> Iterable[Text]:
    rows = view.summary.rows
    yield Text(f"{counted(len(rows), 'configuration')}, {samples_words(rows)}.")
    if flagged := grade_words(view.summary):
        yield Text(flagged, style="yellow")
    for caution in view.cautions:
        yield Text(one_line(caution, 400), style="yellow")
    for interaction in [one for one in view.summary.interactions if one.stage == "total"][:2]:
        yield Text(f"{interaction_words(interaction)}.")
    if visits := visit_words(view.summary):
        yield Text(visits[0], style="yellow" if visits[1] else "")
    if view.rounds != 1 and (words := drift_words(view.summary)):
        yield Text(f"{words}.")
    yield from _failures(view.failed, view.summary)
    if view.audit is not None:
        yield Text(one_line(audit_line(view.audit), 400), style=_audit_style(view.audit))


def _failures(failed: Sequence[FailedConfig], summary: SweepSummary) -> Iterable[Text]:
    """Each error once, with the number of samples that failed by it and their configurations."""
    took: dict[str, list[tuple[int, str]]] = {}
    for one in failed:
        for error, times in one.errors.items():
            took.setdefault(error, []).append((times, config_text(one.config, summary)))
    if took:
        total = sum(one.failures for one in failed)
        yield Text(f"{counted(total, 'sample')} failed, in {counted(len(failed), 'configuration')}:", style="red")
    for error, places in list(took.items())[:FAILED_SHOWN]:
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        yield Text(f"  {count(sum(n for n, _ in places))} × {one_line(error, 140)}")
        yield Text(f"    {places[0][1]}{more}", style="dim")
    if len(took) > FAILED_SHOWN:
        yield Text(f"  and {counted(len(took) - FAILED_SHOWN, 'other reason')}")


def _audit_style(report: AuditReport) -> str:
    return "green" if report.clean else "bold red" if report.severe else "yellow"
