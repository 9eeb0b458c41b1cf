"""What a sweep would do, without doing it: its plan, what of it is done, and how long the rest may take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import msgspec

from laptime.data.record import Sample, Scalar
from laptime.data.run_folder import load_run
from laptime.data.shown import Shown
from laptime.errors import require_torch
from laptime.sweeps.config import SweepConfig
from laptime.sweeps.config_reading import as_sweep_config
from laptime.sweeps.grid import Configuration, combinations, settings_of
from laptime.sweeps.ledger import read_keys
from laptime.sweeps.opening import check_free_for_sweep
from laptime.sweeps.plan import ModelSize, check_same, read_plan
from laptime.sweeps.run import Execution, prepared
from laptime.sweeps.schedule import Visit, remaining, visits


class DryRun(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """The plan of a sweep, what of it is done, and how long the rest may take."""

    ROWS: ClassVar[str] = "configs"

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
    ready = prepared(sweep_config, with_weights=False)
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


START_S = 8.0
"""What a worker's start takes: imports, and loading the model."""
WARMUPS = 4
"""Calls of an ordinary warm-up; three is the fewest."""
ROUGH_FACTOR = 4.0
"""By how much the rough model may be wrong, in either direction."""
LEARNED_FACTOR = 1.3


class Machine(msgspec.Struct, frozen=True):
    """What one device does in a second, roughly, and what one layer costs the host in every forward."""

    flops: float
    bytes_per_s: float
    layer_s: float


GPU = Machine(150e12, 2e12, 0.8e-3)
CPU_CORE = Machine(20e9, 5e9, 0.4e-3)


class TimeEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of a sweep, between `low_s` and `high_s`; `basis` says where the estimate comes from."""

    seconds: float
    low_s: float
    high_s: float
    basis: str


def estimate_time(
    left: Sequence[Visit],
    *,
    warmups: int,
    workers: int,
    size: ModelSize,
    cores: int | None,
    samples: Iterable[Sample],
) -> TimeEstimate:
    """Seconds to make the visits that are left.

    size: of the model, for the rough estimate. cores: of the processor; None on a GPU. samples: what the run holds.
    """
    measured: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        if sample.repeat >= 0:
            measured[sample.config_id].append(sample.stages.total_ms / 1e3)
    calls = [(visit, len(visit.pairs) + min(WARMUPS, warmups)) for visit in left]
    if measured:
        known = {config: median(values) for config, values in measured.items()}
        typical = median(known.values())
        seconds = sum(known.get(visit.config_id, typical) * count for visit, count in calls)
        basis = f"from the {sum(map(len, measured.values()))} samples that the run holds"
        factor = LEARNED_FACTOR
    else:
        machine = GPU if cores is None else CPU_CORE
        scale = 1.0 if cores is None else max(1, cores // workers)
        seconds = sum(_rough_s(visit, size, machine, scale) * count for visit, count in calls)
        basis = (
            "a rough guess from the model's size and what such a device usually does, not from this machine; "
            "the first round will know better"
        )
        factor = ROUGH_FACTOR
    seconds = seconds / max(1, min(workers, len(left))) + (START_S if left else 0.0)
    return TimeEstimate(seconds=seconds, low_s=seconds / factor, high_s=seconds * factor, basis=basis)


def _rough_s(visit: Visit, size: ModelSize, machine: Machine, scale: float) -> float:
    """Seconds of one call.

    They are the multiplications of the prompt, then for every token the larger of two: reading the weights, or
    launching the layers.
    """
    settings = settings_of(visit.config)
    blocks = settings.blocks or size.blocks
    share = blocks / size.blocks
    experts = size.expert_weights * (settings.top_k or 1) / max(1, size.experts)
    active = (size.dense_weights + experts) * share
    width = size.prompt_widths.get(visit.config_id, settings.prompt_tokens or 1)
    item_bytes = 4 if settings.dtype == "float32" else 2
    compute_s = 2 * (active + size.vision_weights) * width * settings.batch / (machine.flops * scale)
    read_s = active * item_bytes / (machine.bytes_per_s * scale)
    return compute_s + settings.new_tokens * max(read_s, blocks * machine.layer_s)
