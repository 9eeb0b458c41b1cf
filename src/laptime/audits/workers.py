"""A rule about workers: the same work must take as long on each, and no configuration may be one worker's alone."""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING

from laptime.audits.measurements import Measurements
from laptime.audits.ranks import ERROR, poisson_tail, shift, signed_shift
from laptime.audits.result import EXAMPLES, AuditFinding, AuditPicture, AuditPoint
from laptime.audits.rule import Judged, Rule, RuleOutcome, counted, key_of, percent, signed_percent

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

SKEW = 0.02
"""From here on a worker's speed is as large as the effects that a comparison looks for."""

SEVERE_SKEW = 0.1

FEWEST = 6
"""Samples of work that others did too, below which a worker is not judged."""

MANY_WORKS = 20
"""With this many works that a worker shares with others, the differences work by work are tested as a sample."""

ALONE = 4
"""Samples of a configuration from which it is worth asking why one worker did them all."""


def rank_skew(measurements: Measurements) -> RuleOutcome:
    """A worker that is slower than the others on the same work, or configurations that are one worker's alone."""
    from polars import col

    rows = measurements.used
    if rows["worker"].null_count():  # a filter copies: with a million samples, as much as everything read so far
        rows = rows.filter(col("worker").is_not_null())
    workers = rows["worker"].unique().sort().to_list()
    if len(workers) < 2:
        return Judged(rows.height)
    per_config = rows.group_by("config_id", maintain_order=True).agg(
        n=col("row").len(), workers=col("worker").n_unique(), worker=col("worker").first()
    )
    shared = rows
    if (per_config["workers"] == 1).any():
        of_many = per_config.filter(col("workers") > 1).select("config_id")
        shared = rows.join(of_many, on="config_id", nulls_equal=True)
    alone = per_config.filter(col("workers") == 1, col("n") >= ALONE)
    chance = float((len(workers) ** (1.0 - alone["n"].cast(float))).sum())
    confounded = alone.height > 0 and per_config.height > 1 and poisson_tail(alone.height, chance) <= ERROR / 10
    slower = _compared(shared, workers)
    skewed = {name: by for name, (by, p) in slower.items() if p <= ERROR / len(workers) and abs(by) >= log(1 + SKEW)}
    if not skewed and not confounded:
        return Judged(rows.height)
    return Judged(rows.height, _finding(measurements, rows, shared, skewed, alone if confounded else None, slower))


def _compared(shared: polars.DataFrame, workers: list[str]) -> dict[str, tuple[float, float]]:
    """Worker -> how much slower (log) it is on the work that others did too, and how likely chance does as much."""
    from polars import col

    slower: dict[str, tuple[float, float]] = {}
    shared = shared.select("worker", "work", "deviation")
    for worker in workers:
        own, others = shared.filter(col("worker") == worker), shared.filter(col("worker") != worker)
        if own.height < FEWEST or others.height < FEWEST:
            continue
        slower[worker] = _slower(own, others)
    return slower


def _slower(own: polars.DataFrame, others: polars.DataFrame) -> tuple[float, float]:
    """By how much (log), and how likely chance does as much: work by work where there are many works, else together.

    Of three samples of one work the median is as much this worker's as the others'; a difference within a work isn't.
    """
    from polars import col

    median = col("deviation").median()
    both = own.group_by("work").agg(own=median).join(others.group_by("work").agg(others=median), on="work")
    if both.height >= MANY_WORKS:
        return signed_shift((both["own"] - both["others"]).to_numpy())
    return shift(own["deviation"].to_numpy(), others["deviation"].to_numpy())


def _finding(
    measurements: Measurements,
    rows: polars.DataFrame,
    shared: polars.DataFrame,
    skewed: dict[str, float],
    alone: polars.DataFrame | None,
    slower: dict[str, tuple[float, float]],
) -> AuditFinding:
    from polars import col

    parts, examples, count = [], [], 0
    slow = {worker: by for worker, by in skewed.items() if by > 0} or skewed
    if skewed:
        by_skew = sorted(skewed.items(), key=lambda pair: -pair[1])[:EXAMPLES]
        listed = ", ".join(
            f"worker {w} is {percent(abs(exp(by) - 1))} {'slower' if by > 0 else 'faster'}" for w, by in by_skew
        )
        parts.append(
            f"On the same work {listed} than the others (medians; chance does as much in less than 1 % of runs)"
        )
        count = shared.filter(col("worker").is_in(list(slow))).height
        examples += _typical(shared, max(slow, key=lambda name: abs(slow[name])))
    if alone is not None:
        parts.append(
            f"{counted(alone.height, 'configuration')} were measured by one worker alone, so what sets them apart may "
            "be the worker"
        )
        count = max(count, int(alone["n"].sum()))
        examples += [
            f"{measurements.shown_config(row['config_id'])}: all {row['n']:,} on worker {row['worker']}"
            for row in alone.head(2).to_dicts()
        ]
    largest = max((abs(by) for by in skewed.values()), default=0.0)
    return AuditFinding(
        code="rank-skew",
        severity="severe" if largest >= log(1 + SEVERE_SKEW) else "warning",
        count=count,
        of=rows.height,
        examples=examples,
        reason=f"{'. '.join(parts)}.",
        mend="Spread every configuration over all workers (laptime sweep does), lock their clocks, check their GPUs",
        picture=_picture(slower) if skewed else None,
    )


def _typical(shared: polars.DataFrame, worker: str) -> list[str]:
    """Samples of one worker that differ from the others' samples of the same work as most of its samples do."""
    from polars import col

    of_others = shared.filter(col("worker") != worker).group_by("work").agg(usual=col("deviation").median())
    own = shared.filter(col("worker") == worker).join(of_others, on="work")
    own = own.with_columns(by=col("deviation") - col("usual"))
    middle = own.sort((col("by") - col("by").median()).abs(), "row").head(EXAMPLES)
    return [
        f"worker {worker}, {key_of(row)}: {row['total_ms']:.2f} ms, {signed_percent(exp(row['by']) - 1)} against the "
        "others' of the same work"
        for row in middle.to_dicts()
    ]


def _picture(slower: dict[str, tuple[float, float]]) -> AuditPicture:
    """The figures that the finding names, of every worker."""
    return AuditPicture(
        kind="bars",
        title="Each worker's total against the others', on the same work",
        x="worker",
        y="% slower (below 0: faster)",
        points=[AuditPoint(name, round((exp(by) - 1) * 100, 4)) for name, (by, _) in list(slower.items())[:64]],
    )


RULES = (Rule("rank-skew", "workers equally fast, configurations spread over them", ("worker", "total_ms"), rank_skew),)
