"""An audit in a terminal: the verdict in one line, each finding worst first, then what could not be judged."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from laptime.audits.result import SEVERITIES, AuditFinding, AuditReport, Severity
from laptime.report.kit.numbers import percent
from laptime.report.kit.text import counted, one_line

STYLES: dict[Severity, str] = {"info": "dim", "warning": "yellow", "severe": "bold red"}


def audit_report(report: AuditReport) -> RenderableType:
    """The whole audit."""
    lines: list[RenderableType] = [Text(headline(report), style=_style(report)), Text(facts(report), style="dim")]
    for finding in report.findings:
        lines += ["", *_finding(finding)]
    if unjudged := [rule for rule in report.rules if rule.could_not_judge]:
        lines += ["", Text("Could not judge:", style="bold")]
        told = ((one_line(rule.code, 60), one_line(rule.could_not_judge or "", 200)) for rule in unjudged)
        lines += [Text(f"  {code}: {why}") for code, why in told]
    return Group(*lines)


def headline(report: AuditReport) -> str:
    """The answer in one sentence."""
    if not report.samples:
        return "There are no samples to judge."
    judged = sum(rule.could_not_judge is None for rule in report.rules)
    if not report.findings:
        return f"No rule of {judged} found anything wrong with these measurements."
    counts = ((name, sum(f.severity == name for f in report.findings)) for name in SEVERITIES)
    said = ", ".join(f"{count} {name}" for name, count in counts if count)
    if report.severe:
        return f"These measurements can't be used as they are: {said}."
    return f"These measurements can be used, with care: {said}." if not report.clean else f"Nothing to mend: {said}."


def facts(report: AuditReport) -> str:
    """What was audited, and how much of it could be judged."""
    judged = sum(rule.could_not_judge is None for rule in report.rules)
    return (
        f"{one_line(report.source, 200)}: {counted(report.samples, 'sample')}, "
        f"{counted(report.configs, 'configuration')}; {judged} of {counted(len(report.rules), 'rule')} could judge"
    )


def share_of(finding: AuditFinding) -> str:
    """How many of how many: 457 of 2000 samples (22.9 %)."""
    return f"{finding.count} of {counted(finding.of, one_line(finding.unit, 60))} ({percent(finding.share)})"


def _style(report: AuditReport) -> str:
    return STYLES["severe"] if report.severe else "green" if report.clean else STYLES["warning"]


def _finding(finding: AuditFinding) -> Iterable[RenderableType]:
    head = Text(f"{finding.severity} ", style=STYLES[finding.severity])
    head.append(one_line(finding.code, 60), style="bold")
    head.append(f"  {share_of(finding)}")
    yield head
    yield Padding(Text(one_line(finding.reason, 1200)), (0, 0, 0, 2))
    for example in finding.examples:
        yield Padding(Text(f"· {one_line(example, 300)}", style="dim"), (0, 0, 0, 2))
    yield Padding(Text(f"Mend: {one_line(finding.mend, 400)}"), (0, 0, 0, 2))
