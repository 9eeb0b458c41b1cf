"""Rules about what a sample itself was marked with when it was measured: five disturbances, one rule each."""

from __future__ import annotations

from functools import partial

from laptime.audits.measurements import Measurements
from laptime.audits.result import AuditFinding, Severity
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, decimals, key_of, percent
from laptime.data.columns import has_flag
from laptime.data.usable import usable_rows

SEVERE_SHARE = 0.2
"""From here on what is left is a selection: the conditions that disturbed these samples shaped the others too."""

WARNING_SHARE = 0.01

GC_SHARE = 0.01
"""A collection longer than this share of the call shows in its total (the share at which a sample is flagged)."""

REASONS: dict[str, str] = {
    "recompiled": "torch.compile compiled something during the call",
    "allocator-retry": "the device allocator ran out, freed its cache and tried again",
    "foreign-process": "another process used the same device during the call",
    "gc-pause": "Python's garbage collector stopped the host for more than 1 % of the call",
    "throttled": "the GPU lowered its clocks for power or heat",
}

MENDS: dict[str, str] = {
    "recompiled": "Warm up every shape before it is timed, or use a static cache or padded prompts",
    "allocator-retry": "Use a smaller batch or image, or free what else lies in the device's memory",
    "foreign-process": "Measure alone on the device, then measure these samples again",
    "gc-pause": "Call gc.collect() and gc.freeze() before timing, as laptime's sessions do",
    "throttled": "Lock the clocks below the limit (nvidia-smi -lgc), raise the power limit or improve the cooling",
}


def flagged(flag: str, measurements: Measurements) -> RuleOutcome:
    """Samples that carry this flag, warm-up calls apart."""
    from polars import col

    bad = has_flag(flag).fill_null(value=False)
    looked = measurements.has("flags")
    if flag == "throttled" and measurements.has("gpu_throttle"):
        bad, looked = bad | (col("gpu_throttle").fill_null("") != ""), True
    if flag == "gc-pause" and measurements.has("gc_pause_ms"):
        bad, looked = bad | (col("gc_pause_ms") > GC_SHARE * col("total_ms")).fill_null(value=False), True
    if not looked:
        return NotJudged("no column flags")
    environment = measurements.info.environment if measurements.info else None
    if flag == "throttled" and environment and environment.gpu and not measurements.has("gpu_sm_mhz"):
        return NotJudged("no column gpu_sm_mhz: the GPU was not asked for its state")
    rows = measurements.measured
    hit = rows.filter(bad)
    if hit.is_empty():
        return Judged(rows.height)
    share = hit.height / rows.height
    severity: Severity = "severe" if share >= SEVERE_SHARE else "warning" if share >= WARNING_SHARE else "info"
    return Judged(
        rows.height,
        AuditFinding(
            code=flag,
            severity=severity,
            count=hit.height,
            of=rows.height,
            examples=[f"{key_of(row)}: {_figures(flag, row)}" for row in hit.head(5).to_dicts()],
            reason=f"In {percent(share)} of the samples {REASONS[flag]}. "
            + ("No sample is clean, so summaries use flagged ones." if usable_rows(rows)[1] else _left_out(severity)),
            mend=MENDS[flag],
        ),
    )


def _left_out(severity: Severity) -> str:
    if severity != "severe":
        return "Summaries leave them out, where enough others are left."
    return (
        "Summaries leave them out, but what remains is a selection; where too few remain, flagged ones count in all "
        "configurations."
    )


def _figures(flag: str, row: dict[str, object]) -> str:
    total = row.get("total_ms")
    words = [f"total {decimals(total)} ms" if isinstance(total, float) else "no total"]
    if flag == "throttled":
        words += [str(row["gpu_throttle"])] if row.get("gpu_throttle") else []
        words += [f"{row['gpu_sm_mhz']} MHz"] if row.get("gpu_sm_mhz") is not None else []
    pause = row.get("gc_pause_ms")
    if flag == "gc-pause" and isinstance(pause, float):
        words.append(f"{pause:.2f} ms of it collecting")
    return ", ".join(words)


RULES = (
    Rule("throttled", "the GPU at its full clock", (), partial(flagged, "throttled")),
    Rule("recompiled", "nothing compiled while timed", (), partial(flagged, "recompiled")),
    Rule("allocator-retry", "device memory at hand", (), partial(flagged, "allocator-retry")),
    Rule("foreign-process", "the device alone", (), partial(flagged, "foreign-process")),
    Rule("gc-pause", "no garbage collection while timed", (), partial(flagged, "gc-pause")),
)
