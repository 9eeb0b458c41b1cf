"""What a sweep would do, without doing it: its plan, what of it is done, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from laptime.data.record import Scalar
from laptime.data.run_folder import load_run
from laptime.errors import require_torch
from laptime.sweeps.config import SweepConfig
from laptime.sweeps.config_reading import as_sweep_config
from laptime.sweeps.grid import Configuration, combinations
from laptime.sweeps.ledger import read_keys
from laptime.sweeps.opening import check_free_for_sweep
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


def dry_run(config: str | Path | Mapping[str, Any] | SweepConfig, folder: Path, execution: Execution) -> DryRun:
    """Plan a sweep as `laptime.sweeps.run.sweep` would, and raise what it would raise before its first sample.

    The model is asked without its weights, so torch is needed all the same.
    """
    require_torch()
    from laptime.measure.session import STEADY_WINDOW  # needs torch

    sweep_config = as_sweep_config(config)
    check_free_for_sweep(folder, resume=execution.resume)
    ready = prepared(sweep_config)
    plan = (read_plan(folder) if execution.resume else None) or ready.plan
    check_same(folder, plan, sweep_config)
    seen, failed = read_keys(folder)
    done = seen if execution.retry_failures else seen | failed
    left = remaining(visits(plan), done, seen)
    warmups = sweep_config.measure.warmups
    return DryRun(
        folder=str(folder),
        device=ready.device,
        gpus=ready.gpus,
        executor=execution.executor,
        workers=execution.workers,
        model=sweep_config.model,
        knobs=plan.varying,
        common=plan.common,
        configs=plan.configs,
        written=len(combinations(sweep_config)),
        samples=len(plan.samples),
        repeats=plan.repeats,
        rounds=plan.rounds,
        calls=len(plan.configs) * len(plan.samples) * plan.repeats,
        done=sum(repeat >= 0 for _, _, repeat in seen),
        failed=len(failed - seen),
        visits=len(left),
        warmup_calls=(len(left) * min(STEADY_WINDOW, warmups), len(left) * warmups),
        time=estimate_time(
            left,
            warmups=warmups,
            workers=execution.workers,
            size=ready.size,
            cores=None if ready.gpus > 0 else ready.environment.cpu_count,
            samples=load_run(folder).samples if seen else (),
        ),
    )
