"""What stands before and after a sweep, in a terminal: the plan of `--dry-run`, and the result of a merge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from laptime.report.kit.numbers import count, duration
from laptime.report.kit.terminal import Column, columns_table
from laptime.report.kit.text import counted, one_line
from laptime.report.sweep.words import knob_title, level_text

if TYPE_CHECKING:
    from laptime.sweeps.dry_run import DryRun
    from laptime.sweeps.merge import MergeReport

PLANNED_SHOWN = 30
"""A plan shows at most this many configurations: one screen."""


def sweep_plan_report(plan: DryRun) -> RenderableType:
    """The plan: knobs, numbers of calls and time, then the configurations."""
    equal = plan.written - len(plan.configs)
    varying = " · ".join(
        f"{knob_title(name)} {', '.join(level_text(value) for value in values)}" for name, values in plan.knobs.items()
    )
    lines = [
        Text(one_line(f"{plan.model} on {plan.device}", 200), style="bold"),
        Text(f"knobs: {varying or 'none varies'}"),
        Text(
            f"{counted(len(plan.configs), 'configuration')} × {counted(plan.samples, 'sample')} × "
            f"{counted(plan.repeats, 'repeat')} = {counted(plan.calls, 'call')}, in {counted(plan.rounds, 'round')}"
        ),
    ]
    if equal > 0:
        verb = "is" if equal == 1 else "are"
        lines.append(
            Text(f"{counted(equal, 'combination')} of the file {verb} equal to another one and measured once with it")
        )
    if plan.done or plan.failed:
        lines.append(Text(f"{plan.folder} holds {count(plan.done)} of them; {count(plan.failed)} failed"))
    low, high = plan.warmup_calls
    lines += [
        Text(f"{counted(plan.visits, 'visit')} to make, with {count(low)} to {count(high)} warm-up calls"),
        Text(
            f"about {duration(plan.time.seconds)} with {counted(plan.workers, 'worker')}, between "
            f"{duration(plan.time.low_s)} and {duration(plan.time.high_s)}: {plan.time.basis}"
        ),
    ]
    return Group(*lines, _configs(plan))


def _configs(plan: DryRun) -> RenderableType:
    table = columns_table(
        Column("configuration", narrow="keep"), *(Column(knob_title(name), numeric=True) for name in plan.knobs)
    )
    for one in plan.configs[:PLANNED_SHOWN]:
        table.add_row(one.config_id, *(Text(level_text(one.config.get(name))) for name in plan.knobs))
    more = len(plan.configs) - PLANNED_SHOWN
    return Group(table, Text(f"and {counted(more, 'more configuration')}")) if more > 0 else table


def merge_report(merged: MergeReport) -> RenderableType:
    """How many records a merged run has, and which samples its parts disagree about."""
    missing = f"; {count(merged.missing)} of the plan are missing" if merged.missing else ""
    lines = [
        Text(
            f"{merged.out}: {counted(merged.samples, 'sample')} and {counted(merged.failures, 'failure')} from "
            f"{counted(len(merged.runs), 'run')}, {count(merged.overlap)} in several of them{missing}"
        )
    ]
    if merged.conflicts:
        one = merged.examples[0]
        lines.append(
            Text(
                f"{counted(merged.conflicts, 'key')} with different samples; the one that was measured first was kept: "
                f"e.g. configuration {one.config_id}, sample {one.sample_id}, repeat {one.repeat} "
                f"(kept from {one.kept}, not {one.left})"
            )
        )
    return Group(*lines)
