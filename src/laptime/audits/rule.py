"""What a rule is: a code, a question, the columns that it needs, and one function that answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laptime.audits.measurements import Measurements
from laptime.audits.result import EXAMPLES, SEVERITIES, AuditFinding, RuleRun

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

MINUS = "−"


@dataclass(frozen=True)
class Judged:
    """The rule looked at `of` units. finding: what is wrong with them, None if nothing is."""

    of: int
    finding: AuditFinding | None = None


@dataclass(frozen=True)
class NotJudged:
    """The rule could not look, and why."""

    why: str


RuleOutcome = Judged | NotJudged


@dataclass(frozen=True)
class Rule:
    """One rule. Without a value in each column of `needs` it says so and doesn't ask `judge`.

    asks_samples: it judges samples, so that without any it can't; else it judges what stands beside them.
    """

    code: str
    checks: str
    needs: tuple[str, ...]
    judge: Callable[[Measurements], RuleOutcome]
    asks_samples: bool = True

    def look(self, measurements: Measurements) -> RuleOutcome:
        """The rule's answer for these measurements."""
        missing = [name for name in self.needs if not measurements.has(name)]
        if missing:
            empty = [name for name in missing if name in measurements.frame.columns]
            what = "no usable value in column" if len(empty) == len(missing) else "no column"
            return NotJudged(f"{what} {', '.join(missing)}")
        return self.judge(measurements)


Asked = tuple[str, str, RuleOutcome]
"""A rule's code, what it checks, and its answer."""


def collected(answers: Iterable[Asked]) -> tuple[list[AuditFinding], list[RuleRun]]:
    """The findings of rules that were asked, and every rule with whether it could judge and fired."""
    findings: list[AuditFinding] = []
    runs: list[RuleRun] = []
    for code, checks, outcome in answers:
        if isinstance(outcome, NotJudged):
            runs.append(RuleRun(code=code, checks=checks, could_not_judge=outcome.why))
            continue
        if outcome.finding is not None:
            findings.append(outcome.finding)
        runs.append(RuleRun(code=code, checks=checks, of=outcome.of, fired=outcome.finding is not None))
    return findings, runs


def worst_first(findings: list[AuditFinding]) -> list[AuditFinding]:
    """The findings, the severest first; equal ones in their order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def worst_rows(rows: polars.DataFrame, by: polars.Expr) -> list[dict[str, Any]]:
    """The first few rows by this figure, largest first; equal ones in the order of the file."""
    return rows.sort(by, "row", descending=[True, False]).head(EXAMPLES).to_dicts()


def key_of(row: dict[str, Any]) -> str:
    """A sample's name in an example: configuration/sample/repeat, or its row where the key was not recorded."""
    if row.get("sample_id") is None:
        return f"row {row['row'] + 1}"
    parts = [row.get("config_id"), row["sample_id"], row.get("repeat")]
    return "/".join(str(part) for part in parts if part is not None)


def counted(count: int, noun: str) -> str:
    """1 sample, 2 samples."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(share: float) -> str:
    """A share as per cent, as fine as it needs: 22.85 %, 0.3 %."""
    return f"{share * 100:.4g} %".replace("-", MINUS)


def signed_percent(share: float, digits: int = 3) -> str:
    """A relative difference with its sign: +4.2 %, −12.5 %."""
    return f"{share * 100:+.{digits}g} %".replace("-", MINUS)


def decimals(value: float | None) -> str:
    """A number with two decimals: 12.50, −0.04; a dash for None."""
    return "–" if value is None else f"{value:.2f}".replace("-", MINUS)
