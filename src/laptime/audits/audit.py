"""All rules over one set of measurements: an AuditReport, and nothing that passes silently."""

from __future__ import annotations

from pathlib import Path

from laptime.audits import (
    arithmetic,
    closing,
    completeness,
    conditions,
    contradictions,
    copies,
    counting,
    flagged,
    launches,
    lengths,
    limits,
    lost_digits,
    modes,
    not_measured,
    order,
    per_token,
    recording,
    requests,
    same_input,
    starts,
    stopwatch,
    stretches,
    summarised,
    units,
    worked_on,
    workers,
)
from laptime.audits.explained import explained
from laptime.audits.measurements import WORKED_OUT, Measurements, read_measurements
from laptime.audits.result import AuditReport
from laptime.audits.rule import NotJudged, Rule, collected, worst_first
from laptime.audits.served.reading import read_served
from laptime.audits.served.rules import audit_served
from laptime.data.columns import KNOB, ORDER

RULES: tuple[Rule, ...] = (
    *arithmetic.RULES,
    *closing.RULES,
    *per_token.RULES,
    *counting.RULES,
    *contradictions.RULES,
    *lengths.RULES,
    *launches.RULES,
    *units.RULES,
    *lost_digits.RULES,
    *limits.RULES,
    *stopwatch.RULES,
    *copies.RULES,
    *summarised.RULES,
    *recording.RULES,
    *not_measured.RULES,
    *worked_on.RULES,
    *same_input.RULES,
    *starts.RULES,
    *order.RULES,
    *stretches.RULES,
    *conditions.RULES,
    *flagged.RULES,
    *completeness.RULES,
    *requests.RULES,
    *workers.RULES,
    *modes.RULES,
)
"""Every rule, in the order in which they are listed."""

KNOWN = frozenset({*ORDER, *WORKED_OUT})
"""Columns that rules may read; knobs besides."""


def audit(path: str | Path) -> AuditReport:
    """Audit a run folder, a Parquet or CSV table, the older JSON files, or a result of another program.

    Raises LaptimeError for anything else.
    """
    served = read_served(Path(path))
    return audit_measurements(read_measurements(path)) if served is None else audit_served(served)


def audit_measurements(measurements: Measurements) -> AuditReport:
    """Ask every rule. Findings come worst first; a rule that lacks what it needs says so in `rules`."""
    nothing = _nothing_to_judge(measurements)
    findings, runs = collected(
        (
            rule.code,
            rule.checks,
            NotJudged(nothing) if nothing is not None and rule.asks_samples else rule.look(measurements),
        )
        for rule in RULES
    )
    findings, runs = explained(findings, runs)
    not_read = [name for name in measurements.frame.columns if name not in KNOWN and not name.startswith(KNOB)]
    return AuditReport(
        source=measurements.source,
        samples=measurements.frame.height,
        configs=measurements.configs,
        findings=worst_first(findings),
        rules=runs,
        clean=all(finding.severity == "info" for finding in findings),
        warm_ups=measurements.frame.height - measurements.measured.height,
        columns_not_read=not_read,
        columns_meant=_meant(not_read, [name for name in ORDER if not measurements.has(name)]),
    )


def _meant(names: list[str], lacking: list[str]) -> dict[str, str]:
    """Names that only lack the end of a known column's that has no value: sample for sample_id."""
    bare = {name.removesuffix("_id").removesuffix("_ms"): name for name in reversed(lacking)}
    plain = {name: name.strip().lower().replace(" ", "_").replace("-", "_") for name in names}
    return {name: bare[known] for name, known in plain.items() if known in bare}


def _nothing_to_judge(measurements: Measurements) -> str | None:
    """Why no rule can judge; None if rules can."""
    if not measurements.frame.height:
        return "no samples"
    return None if measurements.measured.height else "only warm-up calls (repeat below 0)"
