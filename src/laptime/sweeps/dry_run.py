"""`laptime sweep --dry-run`: everything a sweep would do, without doing it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from laptime.data.record import Scalar
from laptime.data.run_folder import load_run
from laptime.data.run_folder_writing import check_free
from laptime.measure.session import STEADY_WINDOW
from laptime.sweeps.config import Campaign
from laptime.sweeps.grid import Configuration, combinations
from laptime.sweeps.ledger import read_keys
from laptime.sweeps.plan import check_same, read_plan
from laptime.sweeps.run import Execution, prepared
from laptime.sweeps.schedule import remaining, visits
from laptime.sweeps.time_estimate import TimeEstimate, estimate_time


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of a sweep, what of it is done, and how long the rest may take."""

    schema: str = "laptime.sweep-plan/1"
    folder: str
    device: str
    gpus: int
    executor: str
    workers: int
    model: str
    knobs: dict[str, list[Scalar]]  # those that vary
    common: dict[str, Scalar]  # what all configurations share
    configs: list[Configuration]
    written: int  # combinations in the file; more than configs when some come out equal
    samples: int
    repeats: int
    rounds: int
    calls: int  # measured generate() calls of the whole sweep
    done: int
    failed: int
    visits: int  # still to make
    warmup_calls: tuple[int, int]  # of these visits, fewest and most
    time: TimeEstimate


def dry_run(campaign: Campaign, folder: Path, execution: Execution) -> DryRun:
    """Plan the sweep as `sweep` would. Raises what `sweep` would raise before its first sample."""
    check_free(folder, resume=execution.resume)
    ready = prepared(campaign)
    plan = (read_plan(folder) if execution.resume else None) or ready.plan
    check_same(folder, plan, campaign)
    seen, failed = read_keys(folder)
    done = seen if execution.retry_failures else seen | failed
    left = remaining(visits(plan), done, seen)
    fewest = min(STEADY_WINDOW, campaign.measure.warmups)
    return DryRun(
        folder=str(folder),
        device=ready.device,
        gpus=ready.gpus,
        executor=execution.executor,
        workers=execution.workers,
        model=campaign.model,
        knobs=plan.varying,
        common=plan.common,
        configs=plan.configs,
        written=len(combinations(campaign)),
        samples=len(plan.samples),
        repeats=plan.repeats,
        rounds=plan.rounds,
        calls=len(plan.configs) * len(plan.samples) * plan.repeats,
        done=sum(repeat >= 0 for _, _, repeat in seen),
        failed=len(failed - seen),
        visits=len(left),
        warmup_calls=(len(left) * fewest, len(left) * campaign.measure.warmups),
        time=estimate_time(
            left,
            warmups=campaign.measure.warmups,
            workers=execution.workers,
            size=ready.size,
            on_gpu=ready.gpus > 0,
            cores=ready.environment.cpu_count,
            samples=load_run(folder).samples if seen else (),
        ),
    )
