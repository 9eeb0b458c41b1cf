"""`laptime sweep --dry-run` in a terminal: what would be measured, and how long it may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from laptime.report.kit.text import counted, one_line
from laptime.report.sweep.words import knob_title, level_text

if TYPE_CHECKING:
    from laptime.sweeps.dry_run import DryRun

CONFIGS_SHOWN = 30


def sweep_plan_report(plan: DryRun) -> RenderableType:
    """The plan: knobs, numbers of calls, time; then the configurations, as many as one screen takes."""
    varying = " · ".join(
        f"{knob_title(name)} {', '.join(level_text(value) for value in values)}" for name, values in plan.knobs.items()
    )
    equal = plan.written - len(plan.configs)
    lines = [
        Text(one_line(f"{plan.model} on {plan.device}", 200), style="bold"),
        Text(f"knobs: {varying or 'none varies'}"),
        Text(
            f"{counted(len(plan.configs), 'configuration')} × {counted(plan.samples, 'sample')} × "
            f"{counted(plan.repeats, 'repeat')} = {counted(plan.calls, 'call')}, in {counted(plan.rounds, 'round')}"
        ),
    ]
    if equal > 0:
        lines.append(
            Text(f"{counted(equal, 'combination')} of the file come out equal to others, and are measured once")
        )
    if plan.done or plan.failed:
        lines.append(Text(f"{plan.folder} holds {plan.done} of them, {plan.failed} failed"))
    low, high = plan.warmup_calls
    lines += [
        Text(f"{counted(plan.visits, 'visit')} to make, with {low} to {high} warm-up calls"),
        Text(
            f"about {duration(plan.time.seconds)} with {counted(plan.workers, 'worker')}, between "
            f"{duration(plan.time.low_s)} and {duration(plan.time.high_s)}: {plan.time.basis}"
        ),
    ]
    return Group(*lines, _configs(plan))


def duration(seconds: float) -> str:
    """Seconds as a person says them: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _configs(plan: DryRun) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("configuration", no_wrap=True)
    for name in plan.knobs:
        table.add_column(knob_title(name), justify="right")
    for one in plan.configs[:CONFIGS_SHOWN]:
        table.add_row(one.config_id, *(level_text(one.config.get(name)) for name in plan.knobs))
    more = len(plan.configs) - CONFIGS_SHOWN
    return Group(table, Text(f"and {counted(more, 'more configuration')}")) if more > 0 else table
