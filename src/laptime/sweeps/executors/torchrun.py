"""One worker in each process that torchrun starts. Each rank's part of the work is fixed before it begins.

A configuration moves to another rank from round to round, so that a slow GPU can't look like a slow configuration.
Ranks don't talk to each other; each writes its own files in one folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from laptime.data.run_folder import read_info
from laptime.errors import LaptimeError
from laptime.sweeps.config import SweepConfig
from laptime.sweeps.plan import SweepPlan, read_plan
from laptime.sweeps.schedule import Visit, WorkerSetup

FIRST_RANK_PATIENCE_S = 300.0


class Rank(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the processes this one is that torchrun started."""

    rank: int
    world: int
    local_rank: int
    local_world: int
    launch: str  # the same in all processes of one launch
    restarted: bool


def this_rank() -> Rank:
    """Read torchrun's environment variables. Raises LaptimeError where they are missing or wrong."""
    try:
        numbers = {name: int(os.environ[name]) for name in ("RANK", "WORLD_SIZE")}
        local = int(os.environ.get("LOCAL_RANK", "0"))
        local_world = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    except KeyError as error:
        raise LaptimeError(
            f"`executor` torchrun: {error.args[0]} is not set; start it as "
            "torchrun --nproc-per-node 2 -m laptime sweep CONFIG.yaml --executor torchrun"
        ) from None
    except ValueError as error:
        raise LaptimeError(f"`executor` torchrun: RANK and its like must be numbers ({error})") from None
    if not 0 <= numbers["RANK"] < numbers["WORLD_SIZE"]:
        raise LaptimeError(f"`executor` torchrun: RANK {numbers['RANK']} of {numbers['WORLD_SIZE']}: out of range")
    names = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")
    return Rank(
        rank=numbers["RANK"],
        world=numbers["WORLD_SIZE"],
        local_rank=local,
        local_world=local_world,
        launch="/".join(os.environ.get(name, "") for name in names),
        restarted=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0,
    )


def part_of(order: Sequence[Visit], plan: SweepPlan, rank: int, world: int) -> list[Visit]:
    """The visits of one rank. Each rank gets nearly as many in every round, and other configurations than before."""
    index = {configuration.config_id: number for number, configuration in enumerate(plan.configs)}
    return [visit for visit in order if (index[visit.config_id] + visit.round) % world == rank]


def worker_setup(rank: Rank, sweep_config: SweepConfig) -> WorkerSetup:
    """The setup of this rank's worker: a GPU of its own if there are any, else a share of the cores."""
    import torch

    device = sweep_config.device
    gpus = 0 if device == "cpu" else torch.cuda.device_count()
    if device in ("auto", "cuda") and gpus:
        device = f"cuda:{rank.local_rank % gpus}"
    elif device == "auto":
        device = "cpu"
    return WorkerSetup(
        worker=f"rank-{rank.rank}",
        sweep_config=sweep_config,
        device=device,
        share=rank.local_rank,
        shares=rank.local_world,
    )


def wait_for_plan(folder: Path, rank: Rank, *, resume: bool) -> SweepPlan:
    """Wait for the plan that rank 0 of this launch writes. Raises LaptimeError when it doesn't come."""
    until = time.monotonic() + FIRST_RANK_PATIENCE_S
    while time.monotonic() < until:
        plan = read_plan(folder)
        if plan is not None and (resume or read_info(folder).session.get("launch") == rank.launch):
            return plan
        time.sleep(0.1)
    raise LaptimeError(f"{folder}: rank 0 has written no plan there; all ranks need one shared folder")
