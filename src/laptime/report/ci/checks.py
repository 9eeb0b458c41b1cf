"""A comparison or an audit as checks with outcomes: the one value that Markdown, JUnit XML and annotations show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from laptime.audits.result import AuditFinding, AuditReport
from laptime.comparisons.result import Comparison, StageComparison
from laptime.report.audit.terminal import facts, share_of
from laptime.report.audit.terminal import headline as audit_headline
from laptime.report.compare.terminal import change, headline
from laptime.report.kit.numbers import NOTHING, percent, text
from laptime.report.kit.text import one_line

Outcome = Literal["passed", "failed", "warning", "not judged"]
"""failed is what makes the verb exit with 1; a warning does not."""


@dataclass(frozen=True)
class Check:
    """One line of a job's result. `message` says in a sentence why; `more` is what one reads after it."""

    name: str
    outcome: Outcome
    message: str
    more: str = ""


@dataclass(frozen=True)
class Checks:
    """A result as checks. columns, rows: the figures as a table for people."""

    verb: str
    headline: str
    facts: str
    checks: list[Check]
    columns: list[str]
    rows: list[list[str]]

    def count(self, outcome: Outcome) -> int:
        """How many checks came out so."""
        return sum(check.outcome == outcome for check in self.checks)

    @property
    def failed(self) -> bool:
        """Whether the verb that gave this result exits with 1."""
        return self.count("failed") > 0


def checks_of(result: Any) -> Checks:
    """The checks of an AuditReport or a Comparison. Raises TypeError for other results."""
    if isinstance(result, AuditReport):
        return _audit_checks(result)
    if isinstance(result, Comparison):
        return _comparison_checks(result)
    raise TypeError(f"a {type(result).__name__} has no checks; an audit and a comparison have")


def _audit_checks(report: AuditReport) -> Checks:
    findings: dict[str, list[AuditFinding]] = {}
    for finding in report.findings:
        findings.setdefault(finding.code, []).append(finding)
    checks = [_finding_check(finding) for finding in report.findings]
    for rule in report.rules:
        if rule.could_not_judge is not None:
            checks.append(Check(rule.code, "not judged", one_line(rule.could_not_judge, 300)))
        elif rule.code not in findings:
            checks.append(Check(rule.code, "passed", one_line(rule.checks, 300)))
    rows = [
        [finding.severity, finding.code, share_of(finding), one_line(finding.reason, 300), one_line(finding.mend, 300)]
        for finding in report.findings
    ]
    columns = ["severity", "finding", "how many", "why", "mend"]
    return Checks("audit", audit_headline(report), facts(report), checks, columns, rows)


def _finding_check(finding: AuditFinding) -> Check:
    outcome: Outcome = {"severe": "failed", "warning": "warning"}.get(finding.severity, "passed")  # type: ignore[assignment]
    more = "\n".join(
        [*(one_line(example, 300) for example in finding.examples), f"Mend: {one_line(finding.mend, 400)}"]
    )
    return Check(finding.code, outcome, f"{share_of(finding)}: {one_line(finding.reason, 600)}", more)


def _comparison_checks(comparison: Comparison) -> Checks:
    checks = [_stage_check(comparison, stage) for stage in comparison.stages]
    checks += [
        Check(finding.code, "failed" if finding.severity == "severe" and comparison.verdict == "slower" else "warning",
              one_line(finding.message, 600))
        for finding in comparison.findings
        if finding.severity != "info"
    ]  # fmt: skip
    rows = [list(_figures(stage)) for stage in comparison.stages]
    sides = f"A: {one_line(comparison.a.run, 200)}; B: {one_line(comparison.b.run, 200)}"
    columns = ["stage", "A", "B", "change", f"{percent(comparison.confidence)} interval", "verdict"]
    return Checks("compare", headline(comparison), sides, checks, columns, rows)


def _figures(stage: StageComparison) -> Iterable[str]:
    shown = stage.between or stage.ratio
    known = shown.low is not None and shown.high is not None
    yield from (stage.stage.replace("_", " "), text(stage.a_median_ms, "ms"), text(stage.b_median_ms, "ms"))
    yield change(shown.value)
    yield f"{change(shown.low)} to {change(shown.high)}" if known else NOTHING  # type: ignore[arg-type]
    yield stage.verdict if stage.decides else "too small to decide"


def _stage_check(comparison: Comparison, stage: StageComparison) -> Check:
    name, a, b, changed, interval, verdict = _figures(stage)
    said = f"{name}: {a} to {b}, {changed} ({interval})"
    if not stage.decides:
        return Check(name, "not judged", f"{said}; below 1 % of the call, so it never decides")
    if stage.verdict == "inconclusive":
        return Check(name, "not judged", f"{said}; {comparison.reason or 'the interval is too wide to decide'}")
    return Check(name, "failed" if stage.verdict == "slower" else "passed", f"{said}: {verdict}")
