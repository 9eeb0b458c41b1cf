"""Rules about what is there: every sample once, none missing, enough of each configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laptime.audits.measurements import Measurements
from laptime.audits.result import EXAMPLES, AuditFinding, AuditPicture, AuditPoint, Severity
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted, key_of, percent, signed_percent
from laptime.data.columns import KEY

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

FEWEST = 6
"""Samples below which no 95 % interval of a median exists (laptime.data.stats.median_interval)."""

GRID_FILL = 0.5
"""Below this the combinations that were seen are no grid with holes, but something else."""

SEVERE_MISSING = 0.1

CUT_OFF = 12
"""So many of the most unusual calls in a row that are fast ones: chance does it once in 4,096 runs."""

CUT_SHARE = 0.02
"""Of the planned samples: with fewer missing, what is left is hardly a selection."""


def duplicate_sample(measurements: Measurements) -> RuleOutcome:
    """One key (configuration, sample, repeat), one sample."""
    from polars import col

    rows = measurements.frame
    keys = rows.select("row", "total_ms", *KEY)
    if keys.select(KEY).n_unique() == rows.height:
        return Judged(rows.height)
    groups = (
        keys.group_by(KEY)
        .agg(n=col("row").len(), row=col("row").first(), totals=col("total_ms").head(3))
        .filter(col("n") > 1)
    )
    surplus = int(groups["n"].sum()) - groups.height
    shown = groups.sort("n", "row", descending=[True, False]).head(EXAMPLES).to_dicts()
    return Judged(
        rows.height,
        AuditFinding(
            code="duplicate-sample",
            severity="severe",
            count=surplus,
            of=rows.height,
            examples=[f"{key_of(row)}: {row['n']} times, totals {_totals(row['totals'])} ms" for row in shown],
            reason=f"{counted(groups.height, 'key')} (configuration, sample, repeat) "
            f"{'stands' if groups.height == 1 else 'stand'} for more than one sample: {counted(surplus, 'sample')} too "
            "many. They weigh twice in every median, or one of them is something else.",
            mend="Merge with laptime merge, which keeps one and names conflicts; number repeats",
        ),
    )


def missing_samples(measurements: Measurements) -> RuleOutcome:
    """Every planned key measured; without a plan, every combination of what was seen."""
    import polars
    from polars import col

    seen = measurements.measured.select(col("config_id"), col("sample_id"), col("repeat").fill_null(0)).unique()
    plan = measurements.plan
    if plan is None and measurements.has("config.load"):
        return NotJudged("requests to a server: each load asks questions of its own")
    if plan is None and (fewer := _lost_since(measurements, seen)) is not None:
        return fewer
    configs = polars.Series([c.config_id for c in plan.configs]) if plan else seen["config_id"].unique().sort()
    samples = polars.Series(plan.samples) if plan else seen["sample_id"].unique().sort()
    repeats = range(plan.repeats) if plan else range(int(seen["repeat"].max() or 0) + 1)  # type: ignore[arg-type]
    expected = len(configs) * len(samples) * len(repeats)
    if expected == 0:
        return NotJudged("nothing was planned or measured")
    if not plan and seen.height / expected < GRID_FILL:
        return NotJudged(
            f"no plan.json, and the {counted(seen.height, 'key')} are no grid of {len(configs)} configurations × "
            f"{len(samples)} samples × {len(repeats)} repeats"
        )
    inside = seen  # without a plan the grid is made of what was seen; an id may be null there
    if plan:
        inside = seen.filter(col("config_id").is_in(configs.implode()), col("sample_id").is_in(samples.implode()),
                             col("repeat") < len(repeats))  # fmt: skip
    missing = expected - inside.height
    if missing <= 0:
        return Judged(expected)
    grid = (
        polars.DataFrame({"config_id": configs.cast(polars.String)})
        .join(polars.DataFrame({"sample_id": samples.cast(polars.String)}), how="cross")
        .join(polars.DataFrame({"repeat": polars.Series(list(repeats), dtype=polars.Int64)}), how="cross")
    )
    lost = grid.join(inside, on=KEY, how="anti", nulls_equal=True, maintain_order="left")
    by_config = (
        lost.group_by("config_id", maintain_order=True)
        .agg(n=col("repeat").len(), sample_id=col("sample_id").first(), repeat=col("repeat").first())
        .sort("n", descending=True, maintain_order=True)
    )
    failed = sum(1 for key in lost.iter_rows() if key in measurements.failed) if measurements.failed else 0
    share = missing / expected
    severity: Severity = "severe" if share >= SEVERE_MISSING else "warning"
    examples = [
        f"{measurements.shown_config(row['config_id'])}: {row['n']:,} missing, first {row['sample_id']}/{row['repeat']}"
        for row in by_config.head(EXAMPLES).to_dicts()
    ]
    return Judged(
        expected,
        AuditFinding(
            code="missing-samples",
            severity=severity,
            count=missing,
            of=expected,
            examples=examples,
            reason=f"{missing:,} of {expected:,} {'planned' if plan else 'expected'} samples "
            f"({percent(share)}) are not there, in {counted(by_config.height, 'configuration')}"
            + (f"; {failed:,} of them failed (failures-*.jsonl)" if failed else "")
            + ". Configurations are compared over different inputs then.",
            mend="laptime sweep --resume measures what is missing; else compare only samples that all have",
        ),
    )


def _lost_since(measurements: Measurements, seen: polars.DataFrame) -> Judged | None:
    """What is said where fewer samples are there than the sessions counted when they ended; else None.

    Only whole passes are counted, so that a session that was cut within one has lost nothing.
    """
    counted_then = sum((end.inputs or 0) * end.repeats for end in measurements.sessions)
    failed = len(measurements.failed.difference(seen.iter_rows()))
    lost = counted_then - measurements.measured.height - failed
    if lost <= 0:
        return None
    share = lost / counted_then
    return Judged(
        counted_then,
        AuditFinding(
            code="missing-samples",
            severity="severe" if share >= SEVERE_MISSING else "warning",
            count=lost,
            of=counted_then,
            examples=[],
            reason=f"{lost:,} of {counted(counted_then, 'sample')} ({percent(share)}) that were measured when the run "
            "ended are not there any more: their lines were lost or taken out of samples-*.jsonl. What is left may be "
            "a selection.",
            mend="Copy the run folder again from where it was measured, or measure again",
        ),
    )


def slow_calls_dropped(measurements: Measurements) -> RuleOutcome:
    """Missing samples where the times that are left end sharply above, and not below.

    Calls that are slower than usual by something are as frequent as those that are faster by as much, or more frequent:
    a machine is disturbed more often than it is helped. Among the calls that lie farthest from the median of their work
    one after the other is slow or fast; if all of the first CUT_OFF are fast, slow ones were taken out.
    """
    import numpy as np

    missing = missing_samples(measurements)
    if isinstance(missing, NotJudged):
        return missing
    used = measurements.used
    share = missing.finding.count / missing.of if missing.finding is not None else 0.0
    if share < CUT_SHARE:
        return Judged(used.height)
    away = used["deviation"].to_numpy()
    far = np.argsort(-np.abs(away), kind="stable")
    slow = np.flatnonzero(away[far] > 0)
    fast_first = int(slow[0]) if len(slow) else 0
    if fast_first < CUT_OFF:
        return Judged(used.height)
    fastest = used.sort("deviation", "row").head(2).to_dicts()
    slowest = used.sort("deviation", "row", descending=[True, False]).head(2).to_dicts()
    return Judged(
        used.height,
        AuditFinding(
            code="slow-calls-dropped",
            severity="severe",
            count=missing.finding.count if missing.finding is not None else 0,
            of=missing.of,
            examples=[
                f"{key_of(row)}: {row['total_ms']:.2f} ms, {signed_percent(np.expm1(row['deviation']))} of its like"
                for row in [*slowest, *fastest]
            ],
            reason=f"{percent(share)} of the samples are missing, and of those that are left the {fast_first:,} that "
            "lie farthest from the median of their work are all fast ones (at most "
            f"{signed_percent(np.expm1(away.max()))}, at least {signed_percent(np.expm1(away.min()))}): slow calls "
            "were probably left out, so means and high percentiles are too low. A timeout, a filter of outliers, or a "
            "machine that was faster for a while where samples are missing by chance would each look so.",
            mend="Keep every call, and flag what was disturbed; count what ended in a timeout as late",
        ),
    )


def too_few_repeats(measurements: Measurements) -> RuleOutcome:
    """Enough usable samples in each configuration for an interval of its median."""
    from polars import col

    counts = (
        measurements.measured.select("config_id")
        .unique(maintain_order=True)
        .join(measurements.used.group_by("config_id").len(), on="config_id", how="left", nulls_equal=True)
        .with_columns(col("len").fill_null(0))
    )
    bad = counts.filter(col("len") < FEWEST).sort("len", maintain_order=True)
    if bad.is_empty():
        return Judged(counts.height)
    by_count = counts.group_by("len").agg(n=col("config_id").len()).sort("len")
    return Judged(
        counts.height,
        AuditFinding(
            code="too-few-repeats",
            severity="warning",
            count=bad.height,
            of=counts.height,
            unit="configuration",
            examples=[
                f"{measurements.shown_config(name)}: {counted(n, 'usable sample')}"
                for name, n in bad.head(EXAMPLES).iter_rows()
            ],
            reason=f"{bad.height:,} of {counted(counts.height, 'configuration')} have fewer than {FEWEST} usable "
            "samples, the least for which a 95 % interval of the median exists. Such medians may be chance.",
            mend=f"Measure more samples or repeats, at least {FEWEST} of each configuration",
            picture=_counts(by_count) if by_count.height > 1 else None,
        ),
    )


def _totals(values: list[float | None]) -> str:
    return ", ".join("–" if value is None else f"{value:.2f}" for value in values)


def _counts(by_count: polars.DataFrame) -> AuditPicture:
    return AuditPicture(
        kind="bars",
        title="Usable samples of a configuration",
        x="usable samples",
        y="configurations",
        points=[AuditPoint(str(n), float(configs)) for n, configs in by_count.head(30).iter_rows()],
    )


RULES = (
    Rule("duplicate-sample", "every key once", ("sample_id",), duplicate_sample),
    Rule("missing-samples", "every planned sample there", ("sample_id",), missing_samples),
    Rule("slow-calls-dropped", "slow calls kept", ("sample_id", "total_ms"), slow_calls_dropped),
    Rule("too-few-repeats", f"{FEWEST} usable samples of each configuration", ("total_ms",), too_few_repeats),
)
