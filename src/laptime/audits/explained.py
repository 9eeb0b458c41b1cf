"""Which findings explain what other rules see: a cache of prompts is no drift of the clock."""

from __future__ import annotations

import msgspec

from laptime.audits.result import SEVERITIES, AuditFinding, RuleRun

EXPLAINS: dict[str, tuple[str, ...]] = {
    "zero-decode": ("slow-stretch", "bimodal"),
    "mixed-units": (
        "clock-drift",
        "cold-start",
        "bimodal",
        "rank-skew",
        "faster-than-a-launch",
        "slow-stretch",
        "gaps-in-bursts",
        "lost-decimal-point",
    ),
    "longer-than-their-run": ("overlapping-calls",),
    "faster-than-a-launch": ("launches-timed", "gaps-in-bursts"),
    "coarse-timer": ("subtracted-decode", "bimodal", "cold-start", "overlapping-calls"),
    "prefix-cache-hits": ("clock-drift", "cold-start", "bimodal"),
    "copied-rows": ("bimodal", "overlapping-calls", "cold-start", "tokens-not-decode"),
    "running-total": (
        "ended-at-once",
        "residual-too-large",
        "overlapping-calls",
        "stages-miss-total",
        "clock-drift",
        "slow-stretch",
    ),
    "tokens-with-prompt": ("faster-than-a-launch", "forwards-mismatch", "gaps-not-decode", "per-token-not-decode"),
    "prefill-holds-decode": ("launches-timed", "faster-than-a-launch"),
    "stage-in-other-unit": ("stages-miss-total", "stage-sum-exceeds-total", "residual-too-large", "ttft-below-prefill"),
    "timeouts-as-times": ("bimodal", "cold-start", "residual-too-large"),
    "stages-miss-total": ("bimodal",),
    "inputs-changed": ("bimodal",),
    "first-calls-slow": ("bimodal", "clock-drift", "cold-start", "slow-stretch"),
    "mixed-start-times": ("shards-apart", "overlapping-calls", "longer-than-their-run"),
    "slow-stretch": ("bimodal",),
    "summary-rows": ("overlapping-calls", "clock-set-back", "missing-samples", "bimodal", "cold-start"),
    "running-mean": ("overlapping-calls", "cold-start", "clock-drift", "slow-stretch", "bimodal", "residual-too-large"),
    "shared-totals": ("overlapping-calls", "residual-too-large", "bimodal", "timeouts-as-times"),
    "lost-decimal-point": ("overlapping-calls", "bimodal", "cold-start", "timeouts-as-times", "slow-stretch"),
    "whole-seconds-lost": (
        "ended-at-once",
        "timeouts-as-times",
        "stage-sum-exceeds-total",
        "stages-miss-total",
        "bimodal",
    ),
    "stage-sum-exceeds-total": ("ttft-holds-decode",),
    "ended-at-once": (
        "residual-too-large",
        "clock-drift",
        "cold-start",
        "bimodal",
        "slow-stretch",
        "lengths-vary",
        "tokens-not-decode",
        "lost-decimal-point",
        "prefix-cache-hits",
    ),
    "smoothed-times": (
        "overlapping-calls",
        "clock-drift",
        "cold-start",
        "slow-stretch",
        "bimodal",
        "tokens-not-decode",
    ),
    "half-precision": (
        "stage-sum-exceeds-total",
        "stages-miss-total",
        "copied-rows",
        "shared-totals",
        "coarse-timer",
        "bimodal",
    ),
    "ttft-not-seen": ("ttft-below-prefill",),
    "not-streamed": ("ttft-holds-decode",),
    "gaps-not-decode": ("ttft-holds-decode",),
}
"""What a finding of these rules makes other rules see: they are not reported beside it; it is as severe as they are."""


def explained(findings: list[AuditFinding], runs: list[RuleRun]) -> tuple[list[AuditFinding], list[RuleRun]]:
    """Without findings that another one explains: a cache of prompts is no drift of the clock.

    What explains a worse finding is as bad itself, so that no audit becomes milder by it.
    """
    fired = {finding.code: finding for finding in findings}
    why = {seen: code for code, others in EXPLAINS.items() if code in fired for seen in others if seen in fired}
    kept = []
    for finding in findings:
        if finding.code in why:
            continue
        hidden = [fired[seen].severity for seen, code in why.items() if code == finding.code]
        worst = min([finding.severity, *hidden], key=SEVERITIES.index)
        kept.append(msgspec.structs.replace(finding, severity=worst))
    told = [
        RuleRun(code=run.code, checks=run.checks, could_not_judge=f"{why[run.code]} explains what it sees")
        if run.code in why
        else run
        for run in runs
    ]
    return kept, told
