"""A training that goes on over several calls: everything that the next call needs, in a folder of safetensors and JSON.

The weights in float32, the optimiser's moments, the patch reader, the step and the time that was spent. Nothing is
pickled. The folder is written under another name first, so that a call that is killed leaves the last one whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from .master_weights import MasterWeights

FOLDER = "checkpoint"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Reached:
    """How far a training is. steps: done; seconds: spent; over: nothing is left to do."""

    steps: int
    seconds: float
    pages: int
    entries: list[dict[str, Any]]
    arguments: dict[str, Any]
    over: bool = False


def write_checkpoint(out: Path, weights: MasterWeights, reached: Reached) -> None:
    """Write the state of a training below its folder; of one that is over, how it ended alone."""
    folder, new, old = out / FOLDER, out / f"{FOLDER}.new", out / f"{FOLDER}.old"
    for place in (new, old):
        shutil.rmtree(place, ignore_errors=True)
    new.mkdir(parents=True)
    if not reached.over:
        tensors = {}
        for number, master in enumerate(weights.masters):
            tensors[f"{number}.weight"] = master.detach()
            for name in MOMENTS:
                if name in weights.optimiser.state[master]:
                    tensors[f"{number}.{name}"] = torch.as_tensor(weights.optimiser.state[master][name])
        save_file({name: value.to("cpu").contiguous() for name, value in tensors.items()}, new / "state.safetensors")
    (new / "reached.json").write_text(json.dumps(vars(reached)) + "\n")
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def read_reached(out: Path, arguments: Mapping[str, Any], free: Sequence[str]) -> Reached | None:
    """How far the training in this folder is; None where there is none. It ends the program for other arguments.

    free: the names of arguments that may change from call to call.
    """
    file = out / FOLDER / "reached.json"
    if not file.exists():
        return None
    reached = Reached(**json.loads(file.read_text()))
    other = [name for name, value in arguments.items() if name not in free and reached.arguments.get(name) != value]
    if other:
        raise SystemExit(
            f"{out / FOLDER}: was begun with another {', '.join(other)}; give the same, or begin in another folder"
        )
    return reached


def read_weights(out: Path, weights: MasterWeights) -> None:
    """Put a checkpoint's weights and moments into a trainer's."""
    state = load_file(out / FOLDER / "state.safetensors")
    with torch.no_grad():
        for number, (live, master) in enumerate(zip(weights.live, weights.masters, strict=True)):
            master.copy_(state[f"{number}.weight"])
            live.copy_(master)
            kept = {name: state[f"{number}.{name}"] for name in MOMENTS if f"{number}.{name}" in state}
            if kept:
                weights.optimiser.state[master] = {
                    name: value.to(master.device) if name != "step" or master.is_cuda else value
                    for name, value in kept.items()
                }
