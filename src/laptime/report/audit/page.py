"""An audit's page: the verdict, each finding worst first with its picture, then every rule and what it looked at."""

from __future__ import annotations

from laptime import __version__
from laptime.audits.result import AuditFinding, AuditReport, RuleRun
from laptime.report.audit.terminal import facts, headline, not_read, samples_words, share_of, to_add
from laptime.report.kit.html import Html, chart, note, section, table, tag
from laptime.report.kit.numbers import count
from laptime.report.kit.page import asset, document
from laptime.report.kit.text import counted, one_line


def audit_page(report: AuditReport) -> str:
    """The whole page as one HTML document."""
    judged = [rule for rule in report.rules if rule.could_not_judge is None]
    unjudged = [rule for rule in report.rules if rule.could_not_judge is not None]
    sections = [_finding(number, finding) for number, finding in enumerate(report.findings)]
    if unjudged:
        sections.append(_unjudged(unjudged))
    if judged:
        sections.append(_judged(judged))
    kind = "severe" if report.severe else "good" if report.clean else "warning"
    return document(
        title=one_line(report.source, 200),
        headline=headline(report),
        meta=[
            samples_words(report),
            counted(report.configs, "configuration"),
            f"{len(judged)} of {counted(len(report.rules), 'rule')} could judge",
            *([not_read(report).removesuffix(".")] if report.columns_not_read else []),
            *([to_add(report).removesuffix(".")] if to_add(report) else []),
        ],
        lead=note(facts(report), kind=kind) if not report.findings else None,
        sections=sections,
        data={"pictures": {_place(n): f.picture for n, f in enumerate(report.findings) if f.picture is not None}},
        scripts=[asset(name) for name in ("kit/charts/scale.js", "kit/charts/tooltip.js", "audit/picture.js")],
        styles=[asset("audit/page.css")],
        footer=[f"laptime {__version__}", report.schema],
    )


def _finding(number: int, finding: AuditFinding) -> Html:
    return section(
        finding.code,
        note(tag("b", f"{finding.severity} "), f"{share_of(finding)}", kind=finding.severity),
        tag("p", one_line(finding.reason, 2000)),
        chart(_place(number), finding.picture.title) if finding.picture is not None else None,
        tag("ul", [tag("li", one_line(example, 400)) for example in finding.examples], class_="examples")
        if finding.examples
        else None,
        tag("p", tag("b", "Mend: "), one_line(finding.mend, 600)),
        id=f"finding-{number}",
    )


def _place(number: int) -> str:
    return f"picture-{number}"


def _unjudged(rules: list[RuleRun]) -> Html:
    rows = [[rule.code, rule.checks, one_line(rule.could_not_judge or "", 300)] for rule in rules]
    return section(
        "Could not judge",
        table(["rule", "looks for", "why not"], rows),
        id="unjudged",
        lead="These rules need something that was not recorded, so their silence means nothing.",
    )


def _judged(rules: list[RuleRun]) -> Html:
    rows = [[rule.code, rule.checks, count(rule.of), "finding" if rule.fired else "fine"] for rule in rules]
    return section("Every rule", table(["rule", "looks for", "looked at", ""], rows, numeric=[2]), id="rules")
