"""An audit as a value: its findings, what each rule looked at, and what could not be judged. JSON laptime.audit/1."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from laptime.data.shown import Shown

Severity = Literal["info", "warning", "severe"]

SEVERITIES: tuple[Severity, ...] = ("severe", "warning", "info")
"""Worst first: the order in which findings are shown."""

EXAMPLES = 5
"""How many samples (or configurations) a finding names."""


class AuditPoint(msgspec.Struct, frozen=True):
    """One point of a finding's picture: a label or a number on x, a value on y."""

    x: float | str
    y: float


class AuditPicture(msgspec.Struct, frozen=True, kw_only=True):
    """A small picture of a finding: points, a line through them or bars, with what its axes are called."""

    kind: Literal["points", "bars"]
    title: str
    x: str
    y: str
    points: list[AuditPoint]
    line: list[AuditPoint] = []  # a trend, a limit
    expected: list[AuditPoint] = []  # the same figure as it should be, beside the points


class AuditFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with these measurements: `count` of `of` units (samples, configurations) show it."""

    code: str
    severity: Severity
    count: int
    of: int
    share: float = 0.0  # count / of, always computed from them; 0 when of is 0
    examples: list[str]  # the units by name with the figures that show it, at most EXAMPLES
    reason: str  # what is wrong and how it shows, in a sentence or two
    mend: str  # what to do about it
    unit: str = "sample"  # what count counts
    picture: AuditPicture | None = None

    def __post_init__(self) -> None:
        """Work out the share and keep EXAMPLES of the examples."""
        msgspec.structs.force_setattr(self, "share", self.count / self.of if self.of else 0.0)
        msgspec.structs.force_setattr(self, "examples", self.examples[:EXAMPLES])


class RuleRun(msgspec.Struct, frozen=True, kw_only=True):
    """One rule: how many units it looked at and whether it has a finding; or why it could not judge."""

    code: str
    checks: str  # the question, in a few words
    of: int = 0
    fired: bool = False
    could_not_judge: str | None = None  # "no column started_unix_ms"; None when it judged


class AuditReport(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """All findings, worst first, and every rule. `clean`: no severe and no warning."""

    ROWS: ClassVar[str] = "findings"

    schema: str = "laptime.audit/1"
    source: str
    samples: int
    configs: int
    findings: list[AuditFinding]
    rules: list[RuleRun]
    clean: bool
    warm_ups: int = 0  # of `samples`: the warm-up calls, which no rule takes for samples
    columns_not_read: list[str] = []  # of a table: what no rule knows by its name
    columns_meant: dict[str, str] = {}  # which of these may be a known column that has no value, and which one

    @property
    def judged(self) -> bool:
        """Whether any rule could judge; if not, the absence of findings says nothing (exit code 2)."""
        return any(rule.could_not_judge is None for rule in self.rules)

    @property
    def severe(self) -> bool:
        """Whether a severe finding says that these measurements can't be used as they are (exit code 1)."""
        return any(finding.severity == "severe" for finding in self.findings)
