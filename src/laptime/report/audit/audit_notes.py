"""An audit's findings on top of a page: the worst first, each folded with its reason, its mend and its examples."""

from __future__ import annotations

from laptime.audits.result import SEVERITIES, AuditFinding, AuditReport
from laptime.report.audit.terminal import share_of
from laptime.report.kit.html import Html, note, tag
from laptime.report.kit.text import counted, one_line

EXAMPLES_SHOWN = 3


def audit_notes(report: AuditReport) -> Html:
    """One quiet line when nothing is to mend; a line a finding, to be opened. Severe ones are open."""
    judged = sum(rule.could_not_judge is None for rule in report.rules)
    findings = sorted(report.findings, key=lambda finding: SEVERITIES.index(finding.severity))
    found = "remarks only" if findings else "found nothing"
    return tag(
        "div",
        note(f"✓ Audit clean: {counted(judged, 'rule')} {found}.", kind="good") if report.clean else None,
        [_finding(finding) for finding in findings],
        class_="audit",
    )


def audit_line(report: AuditReport) -> str:
    """The whole audit in a line: clean, or how many findings of which severity and the worst of them."""
    judged = sum(rule.could_not_judge is None for rule in report.rules)
    if report.clean:
        return f"Audit clean: {counted(judged, 'rule')} found nothing to mend."
    counts = {name: sum(finding.severity == name for finding in report.findings) for name in SEVERITIES}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    worst = min(report.findings, key=lambda finding: SEVERITIES.index(finding.severity))
    return f"Audit: {told}. {finding_line(worst)}. {one_line(worst.mend, 200)}"


def finding_line(finding: AuditFinding) -> str:
    """A finding in a line: its code, how many of how many, and the share."""
    return one_line(f"{finding.code}: {share_of(finding)}", 200)


def _finding(finding: AuditFinding) -> Html:
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
