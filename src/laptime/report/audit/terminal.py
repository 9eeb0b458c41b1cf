"""An audit in a terminal: the verdict in one line, each finding worst first, then what could not be judged."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from laptime.audits.result import SEVERITIES, AuditFinding, AuditReport, Severity
from laptime.report.kit.html import Html, note, tag
from laptime.report.kit.numbers import count, percent
from laptime.report.kit.text import counted, one_line

NAMED = 12
"""How many columns that no rule knows are named."""

STYLES: dict[Severity, str] = {"info": "dim", "warning": "yellow", "severe": "bold red"}


def audit_report(report: AuditReport) -> RenderableType:
    """The whole audit."""
    lines: list[RenderableType] = [Text(headline(report), style=_style(report)), Text(facts(report), style="dim")]
    if report.columns_not_read:
        lines.append(Text(not_read(report), style="dim"))
    if needed := to_add(report):
        lines.append(Text(needed, style=STYLES["warning"]))
    for finding in report.findings:
        lines += ["", *_finding(finding)]
    if unjudged := [rule for rule in report.rules if rule.could_not_judge]:
        lines += ["", Text(not_judged(report, len(unjudged)), style="dim")]
    return Group(*lines)


def headline(report: AuditReport) -> str:
    """The answer in one sentence."""
    if not report.samples:
        return "There are no samples to judge."
    judged = sum(rule.could_not_judge is None for rule in report.rules)
    if not judged:
        return f"Nothing could be judged: {report.rules[0].could_not_judge}."
    if not report.findings:
        return f"No rule of {judged} found anything wrong with these measurements."
    by_severity = _by_severity(report)
    if report.severe:
        return f"These measurements can't be used as they are: {by_severity}."
    if report.clean:
        return f"Nothing to mend: {by_severity}."
    return f"These measurements can be used, with care: {by_severity}."


def _by_severity(report: AuditReport) -> str:
    """How many findings there are of each severity: 1 severe, 2 warnings, 1 info."""
    counts = ((name, sum(one.severity == name for one in report.findings)) for name in SEVERITIES)
    return ", ".join(counted(n, name) if name == "warning" else f"{count(n)} {name}" for name, n in counts if n)


def facts(report: AuditReport) -> str:
    """What was audited, and how much of it could be judged."""
    judged = sum(rule.could_not_judge is None for rule in report.rules)
    return (
        f"{one_line(report.source, 200)}: {samples_words(report)}, "
        f"{counted(report.configs, 'configuration')}; {judged} of {counted(len(report.rules), 'rule')} could judge"
    )


def not_read(report: AuditReport) -> str:
    """Which columns of a table no rule knows: one that means a known thing has another name there."""
    names = [one_line(name, 60) for name in report.columns_not_read]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    said = f"No rule knows the {'column' if len(names) == 1 else 'columns'} {', '.join(names[:NAMED])}{more}."
    meant = [f"{one_line(name, 60)} to {known}" for name, known in list(report.columns_meant.items())[:NAMED]]
    return f"{said} Rename {', '.join(meant)}, if that is what it holds." if meant else said


def to_add(report: AuditReport) -> str:
    """That most rules need the total, where the measurements have none; else empty."""
    lacking = [rule for rule in report.rules if "total_ms" in _lacking(rule.could_not_judge or "")]
    return f"Add total_ms, the time of the whole call: without it {count(len(lacking))} rules can't judge." * bool(
        lacking
    )


def not_judged(report: AuditReport, unjudged: int) -> str:
    """That some rules lack what they need, and where each of them stands with its reason."""
    return (
        f"Could not judge: {unjudged} of {counted(len(report.rules), 'rule')}, which need what was not recorded, so "
        "their silence means nothing. --html or --json (in Python report.rules) names each with its reason."
    )


def _lacking(reason: str) -> list[str]:
    """The columns without a value for lack of which a rule can't judge."""
    before, _, columns = reason.partition("no usable value in column ")
    return [] if before else columns.split(", ")


def samples_words(report: AuditReport) -> str:
    """How many samples were audited, and the warm-up calls apart: they are none."""
    words = counted(report.samples - report.warm_ups, "sample")
    return f"{words} and {counted(report.warm_ups, 'warm-up call')}" if report.warm_ups else words


def share_of(finding: AuditFinding) -> str:
    """How many of how many: 457 of 2000 samples (22.9 %)."""
    return f"{count(finding.count)} of {counted(finding.of, one_line(finding.unit, 60))} ({percent(finding.share)})"


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


EXAMPLES_SHOWN = 3


def audit_notes(report: AuditReport) -> Html:
    """One line if nothing is to mend; else a line for each finding, which opens. Severe ones are open already."""
    judged = sum(rule.could_not_judge is None for rule in report.rules)
    findings = sorted(report.findings, key=lambda finding: SEVERITIES.index(finding.severity))
    outcome = "remarks only" if findings else "found nothing"
    return tag(
        "div",
        note(f"✓ Audit clean: {counted(judged, 'rule')} {outcome}.", kind="good") if report.clean else None,
        [_finding_audit_notes(finding) for finding in findings],
        class_="audit",
    )


def audit_line(report: AuditReport) -> str:
    """The whole audit in a line: clean, or how many findings of which severity and the worst of them."""
    judged = sum(rule.could_not_judge is None for rule in report.rules)
    if report.clean:
        return f"Audit clean: {counted(judged, 'rule')} found nothing to mend."
    worst = min(report.findings, key=lambda finding: SEVERITIES.index(finding.severity))
    return f"Audit: {_by_severity(report)}. {finding_line(worst)}. {one_line(worst.mend, 200)}"


def finding_line(finding: AuditFinding) -> str:
    """A finding in a line: its code, how many of how many, and the share."""
    return one_line(f"{finding.code}: {share_of(finding)}", 200)


def _finding_audit_notes(finding: AuditFinding) -> Html:
    examples = [tag("li", one_line(example, 200)) for example in finding.examples[:EXAMPLES_SHOWN]]
    return tag(
        "details",
        tag("summary", tag("b", f"{finding.severity}: "), finding_line(finding)),
        tag("p", one_line(finding.reason, 600)),
        tag("p", tag("b", "Mend: "), one_line(finding.mend, 600)) if finding.mend else None,
        tag("ul", examples) if examples else None,
        class_=finding.severity,
        open=finding.severity == "severe",
    )
