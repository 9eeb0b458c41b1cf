"""Rules about what must be the same for all samples that are compared: the cache policy and the environment."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

from laptime.audits.measurements import Measurements
from laptime.audits.result import AuditFinding
from laptime.audits.rule import Judged, NotJudged, Rule, RuleOutcome, counted
from laptime.data.columns import KNOB
from laptime.data.record import Environment, WorkerStart
from laptime.data.usable import BUSY_CORES, UNSEEN_BELOW_MS

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

CACHE_POLICY = f"{KNOB}cache_policy"

HARMLESS = frozenset({"laptime", "python", "platform", "memory_bytes", "git_commit", "git_dirty", "gpu_count"})
"""Facts of an environment that seldom change a time on the device."""


def mixed_cache_policy(measurements: Measurements) -> RuleOutcome:
    """Emptying the allocator's cache before some calls only: their allocations are slower, their neighbours' aren't.

    Where every configuration was measured under every policy it is a knob like any other.
    """
    from polars import col

    rows = measurements.measured
    policies = rows[CACHE_POLICY].fill_null("not recorded")
    kinds = policies.unique().sort().to_list()
    if len(kinds) == 1:
        return Judged(rows.height)
    rest = [n for n in rows.columns if n.startswith(KNOB) and n != CACHE_POLICY]
    policy_of = rows.with_columns(policy=policies, rest=_as_one(rest))
    per_config = policy_of.group_by("rest").agg(kinds=col("policy").n_unique(), n=col("row").len())
    crossed = per_config.filter(col("kinds") == len(kinds)).height == per_config.height
    counts = policies.value_counts().sort("count")
    rarest = counts.row(0)[0]
    shown = [
        f"{measurements.shown_config(row['config_id'])}: {row['policy']} in {counted(row['n'], 'sample')}"
        for row in policy_of.group_by("config_id", "policy", maintain_order=True).agg(n=col("row").len()).to_dicts()
    ]
    counts_by_policy = ", ".join(f"{name} in {n:,}" for name, n in counts.sort("count", descending=True).iter_rows())
    reason = f"Samples were measured under {len(kinds)} cache policies: {counts_by_policy}. "
    if crossed:
        reason += "Every configuration was measured under each, so compare within a policy."
    else:
        reason += "Which configuration had which differs, so part of any difference between them is the allocator's."
    return Judged(
        rows.height,
        AuditFinding(
            code="mixed-cache-policy",
            severity="info" if crossed else "severe",
            count=int((policies == rarest).sum()),
            of=rows.height,
            examples=shown,
            reason=reason,
            mend="Measure everything under one cache policy, keep or empty",
        ),
    )


def mixed_environment(measurements: Measurements) -> RuleOutcome:
    """One run, one environment: GPU, driver, torch, threads, whatever else changes times."""
    known = _environments(measurements)
    if known is None:
        return NotJudged("no record of the environment: needs a run folder (run.json, worker-*.jsonl)")
    starts, unknown = known
    if unknown:
        return NotJudged(f"no worker-*.jsonl for {counted(len(unknown), 'worker')}: {', '.join(unknown[:5])}")
    facts = [_facts(start.environment) for start in starts]
    differing = sorted({name for f in facts for name in f if f[name] != facts[0].get(name)})
    if not differing:
        return Judged(len(starts))
    matter = [name for name in differing if name not in HARMLESS]
    kinds: dict[str, list[str]] = defaultdict(list)
    for start, fact in zip(starts, facts, strict=True):
        kinds[", ".join(f"{name} {fact.get(name)}" for name in (matter or differing))].append(start.worker)
    largest = max(len(workers) for workers in kinds.values())
    names = ", ".join(matter or differing)
    return Judged(
        len(starts),
        AuditFinding(
            code="mixed-environment",
            severity="severe" if matter else "info",
            count=len(starts) - largest,
            of=len(starts),
            unit="worker start",
            examples=[
                f"{'worker' if len(set(w)) == 1 else 'workers'} {', '.join(dict.fromkeys(w))}: {k}"
                for k, w in kinds.items()
            ],
            reason=f"The environment was not the same throughout: {names} differ. "
            + (
                "A difference between configurations may be a difference between machines."
                if matter
                else "These seldom change a time on the device."
            ),
            mend="Measure on equal machines with equal software, or audit and compare each environment apart",
        ),
    )


def busy_machine(measurements: Measurements) -> RuleOutcome:
    """Other processes on the CPU while short calls were measured, which no flag can show."""
    from polars import col

    known = [end.foreign_cores for end in measurements.sessions if end.foreign_cores is not None]
    if not known:
        return NotJudged("no session tells how many cores other processes used: only a run on a CPU does")
    busy = [cores for cores in known if cores >= BUSY_CORES]
    rows = measurements.measured
    short = rows.filter((col("total_ms") < UNSEEN_BELOW_MS).fill_null(value=False)).height
    if not busy or not short:
        return Judged(len(known))
    return Judged(
        len(known),
        AuditFinding(
            code="busy-machine",
            severity="warning",
            count=len(busy),
            of=len(known),
            unit="session",
            examples=[f"a session with {cores:.2f} cores used by other processes on average" for cores in busy],
            reason=f"Other processes used up to {max(busy):.2f} cores on average during the measuring. "
            f"{short:,} of {counted(rows.height, 'sample')} took less than 0.1 s, and such a call can't be flagged "
            "for it by itself. So nobody knows which times are too long.",
            mend="Measure again on a quiet machine; to compare two variants on a busy one, measure them in turns "
            "(laptime compare --run A --against B)",
        ),
    )


def _environments(measurements: Measurements) -> tuple[list[WorkerStart], list[str]] | None:
    """Each worker's starts, and the workers with samples of which none is recorded."""
    if measurements.info is None:
        return None
    if measurements.workers:
        seen = {str(name) for name in measurements.frame["worker"].drop_nulls().unique()}
        return measurements.workers, sorted(seen - {start.worker for start in measurements.workers})
    only = WorkerStart(
        worker="0",
        started_unix_ms=measurements.info.created_unix_ms,
        host="",
        environment=measurements.info.environment,
    )
    names = sorted(str(name) for name in measurements.frame["worker"].drop_nulls().unique())
    return [only], names if len(names) > 1 else []


def _facts(environment: Environment) -> dict[str, object]:
    """What an environment is, but for which of several equal devices a worker had."""
    facts: dict[str, object] = msgspec.to_builtins(environment)
    facts["device"] = (environment.device or "").split(":")[0]
    variables: dict[str, str] = facts.pop("variables")  # type: ignore[assignment]
    return facts | {name: value for name, value in variables.items() if name != "CUDA_VISIBLE_DEVICES"}


def _as_one(names: list[str]) -> polars.Expr:
    from polars import col, concat_str, lit

    if not names:
        return lit("")
    return concat_str([col(name).cast(str).fill_null("–") for name in names], separator="\x1f")


RULES = (
    Rule("mixed-cache-policy", "one cache policy", (CACHE_POLICY,), mixed_cache_policy),
    Rule("mixed-environment", "one environment", (), mixed_environment),
    Rule("busy-machine", "the CPU alone, for short calls", (), busy_machine),
)
