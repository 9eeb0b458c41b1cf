"""What a rule over another program's result is, and how it says what it found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from laptime.audits.result import AuditFinding, Severity
from laptime.audits.rule import MINUS, Judged, RuleOutcome
from laptime.audits.served.result import ServedRequest, ServedResult

CLOSE = 0.02
"""Two figures of one thing that differ by less are one figure: rounding, and the few events that only one counts."""


@dataclass(frozen=True)
class ServedRule:
    """One rule over another program's result."""

    code: str
    checks: str
    judge: Callable[[ServedResult], RuleOutcome]


def found(
    code: str, severity: Severity, count: int, of: int, examples: Sequence[str], reason: str, mend: str, unit: str
) -> Judged:
    """A rule's answer with a finding."""
    return Judged(
        of,
        AuditFinding(code=code, severity=severity, count=count, of=of, examples=list(examples), reason=reason,
                     mend=mend, unit=unit),
    )  # fmt: skip


def good_of(result: ServedResult) -> list[ServedRequest]:
    """Every request that ended well."""
    return [request for level in result.levels for request in level.good]


def gaps_by_token(request: ServedRequest) -> float:
    """What the program's time per token makes of all gaps between tokens, ms."""
    return (request.per_token_ms or 0.0) * ((request.output_tokens or 1) - 1)


def after_first(request: ServedRequest) -> float:
    """What followed the first token, ms."""
    return (request.total_ms or 0.0) - (request.ttft_ms or 0.0)


def figure(value: float) -> str:
    """A figure in words: four digits, and never an exponent where it is large."""
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}").replace("-", MINUS)
