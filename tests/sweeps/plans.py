"""Campaigns and plans for tests, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from laptime.data.record import TIERS
from laptime.sweeps.config import Campaign
from laptime.sweeps.config_reading import read_campaign
from laptime.sweeps.plan import ModelFacts, SweepPlan, configurations

FACTS = ModelFacts(is_vlm=True, dtype="float32", attention="sdpa", top_k=4, blocks=8, compiles=False)


def campaign_of(folder: Path, text: str) -> Campaign:
    """A configuration file of this text, read."""
    file = folder / "sweep.yaml"
    file.write_text(text)
    return read_campaign(file)


def plan_of(campaign: Campaign, *, samples: int = 3, **changes: Any) -> SweepPlan:
    """The plan of a campaign on a model of FACTS."""
    values: dict[str, Any] = {
        "configs": configurations(campaign, FACTS, TIERS),
        "samples": [f"{number:04d}" for number in range(samples)],
        "repeats": campaign.measure.repeats,
        "rounds": campaign.measure.rounds or 3,
        "seed": campaign.seed,
        "campaign": campaign,
    }
    return SweepPlan(**{**values, **changes})
