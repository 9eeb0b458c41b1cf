"""All rules over another program's result: the same AuditReport as of laptime's own samples."""

from __future__ import annotations

from laptime.audits.result import SEVERITIES, AuditFinding, AuditReport, RuleRun
from laptime.audits.rule import NotJudged
from laptime.audits.served.result import ServedResult
from laptime.audits.served.rules import RULES


def audit_served(result: ServedResult) -> AuditReport:
    """Ask every rule. Findings come worst first; a rule that lacks what it needs says so."""
    findings: list[AuditFinding] = []
    runs: list[RuleRun] = []
    for rule in RULES:
        outcome = rule.judge(result)
        if isinstance(outcome, NotJudged):
            runs.append(RuleRun(code=rule.code, checks=rule.checks, could_not_judge=outcome.why))
            continue
        if outcome.finding is not None:
            findings.append(outcome.finding)
        runs.append(RuleRun(code=rule.code, checks=rule.checks, of=outcome.of, fired=outcome.finding is not None))
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    kept = sum(len(level.requests) for level in result.levels)
    counted = sum((level.finished or 0) + (level.failed or 0) for level in result.levels)
    return AuditReport(
        source=f"{result.source} ({result.program})",
        samples=kept or counted,
        configs=len(result.levels),
        findings=findings,
        rules=runs,
        clean=all(finding.severity == "info" for finding in findings),
    )
