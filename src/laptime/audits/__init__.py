"""Which of these measurements are not valid, and why? A frame in, an `AuditReport` out."""

from laptime.audits.audit import RULES, audit, audit_measurements
from laptime.audits.measurements import Measurements, measurements_of, read_measurements
from laptime.audits.result import AuditFinding, AuditReport, RuleRun

__all__ = [
    "RULES",
    "AuditFinding",
    "AuditReport",
    "Measurements",
    "RuleRun",
    "audit",
    "audit_measurements",
    "measurements_of",
    "read_measurements",
]
