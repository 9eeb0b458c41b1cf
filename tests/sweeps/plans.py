"""Sweep configurations and plans for tests, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from laptime.data.record import TIERS
from laptime.sweeps.config import SweepConfig
from laptime.sweeps.config_reading import read_sweep_config
from laptime.sweeps.grid import PlannedModel, configurations
from laptime.sweeps.plan import SweepPlan

FACTS = PlannedModel(is_vlm=True, dtype="float32", attention="sdpa", top_k=4, blocks=8, compiles=False)


def sweep_config_of(folder: Path, text: str) -> SweepConfig:
    """A configuration file of this text, read."""
    file = folder / "sweep.yaml"
    file.write_text(text)
    return read_sweep_config(file)


def plan_of(sweep_config: SweepConfig, *, samples: int = 3, **changes: Any) -> SweepPlan:
    """The plan of a sweep on a model of FACTS."""
    values: dict[str, Any] = {
        "configs": configurations(sweep_config, FACTS, TIERS),
        "samples": [f"{number:04d}" for number in range(samples)],
        "repeats": sweep_config.measure.repeats,
        "rounds": sweep_config.measure.rounds or 3,
        "seed": sweep_config.seed,
        "sweep_config": sweep_config,
    }
    return SweepPlan(**{**values, **changes})
