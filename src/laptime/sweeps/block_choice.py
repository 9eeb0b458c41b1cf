"""Which blocks a sweep's configurations run where they leave blocks out, and what that does to the model's output.

A model that loses the blocks right before its last may be ruined where it would hardly change without the least
important ones. So importance is measured, on the sweep's own inputs, unless the configuration names a file or asks for
`position`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from laptime.errors import LaptimeError
from laptime.models.anatomy import find_anatomy
from laptime.models.block_importance import (
    measure_importance,
    most_important,
    next_token_agreement,
    read_active,
    read_importance,
)
from laptime.models.knobs import ModelKnobs, applied, check_knobs
from laptime.models.loading import PRESET_PREFIX, Loaded, load_model
from laptime.sweeps.config import SweepConfig
from laptime.sweeps.grid import SweepSettings
from laptime.sweeps.questions import SweepQuestions, on_device

MEASURED = "measured"
POSITION = "position"
INPUTS = 8
"""How many of the sweep's inputs importance is measured on."""


class BlockChoice(NamedTuple):
    """Which blocks run, for each number of them.

    source: "measured", or the first 8 hex digits of the file's SHA-256. agreement: the share of positions, 0 to 1, at
    which the most probable next token is the whole model's; empty where it was not measured.
    """

    source: str
    active: dict[int, tuple[int, ...]]
    agreement: dict[int, float]


def importance_source(sweep_config: SweepConfig) -> str:
    """Where a sweep's importance comes from: "measured", "position", or the path of a file.

    Without a word in the configuration it is measured, but for presets: their weights are random numbers.
    """
    if sweep_config.importance is not None:
        return sweep_config.importance
    return POSITION if sweep_config.model.startswith(PRESET_PREFIX) else MEASURED


def fewer_blocks(sweep_config: SweepConfig, count: int) -> list[int]:
    """The numbers of blocks, below the model's own `count`, that the sweep asks for."""
    asked = [*sweep_config.knobs.blocks, *(extra.get("blocks") for extra in sweep_config.include)]
    return sorted({blocks for blocks in asked if blocks is not None and blocks < count})


def choice_by_file(model: object, path: str, numbers: Sequence[int]) -> BlockChoice:
    """The blocks that a file names for these numbers (a search wrote it), else the most important by its importance.

    Raises LaptimeError for a file that doesn't fit the model.
    """
    importance = read_importance(path, blocks=len(find_anatomy(model).layers))
    source = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:8]
    active = most_important(model, importance, numbers)
    for count, blocks in read_active(path).items():
        if count in active:
            try:
                check_knobs(model, ModelKnobs(blocks=count, active=blocks))
            except LaptimeError as error:
                raise LaptimeError(f"{path}: {error}") from None
            active[count] = blocks
    return BlockChoice(source, active, {})


def measured_choice(
    sweep_config: SweepConfig,
    settings: SweepSettings,
    questions: SweepQuestions,
    device: torch.device,
    numbers: Sequence[int],
) -> BlockChoice:
    """The most important blocks by a measurement on the sweep's first inputs. It loads the model's weights.

    Raises LaptimeError when the model can't be loaded, or can't take any of these inputs.
    """
    loaded = load_model(
        sweep_config.model,
        dtype=settings.dtype,
        device=str(device),
        trust_remote_code=sweep_config.trust_remote_code,
        seed=sweep_config.seed,
    )
    with applied(loaded.model, ModelKnobs(crops=settings.crops)):
        inputs = _inputs(loaded, settings, questions)
        active = most_important(loaded.model, measure_importance(loaded.model, inputs), numbers)
        agreement = next_token_agreement(loaded.model, inputs, active)
    return BlockChoice(MEASURED, active, agreement)


def _inputs(loaded: Loaded, settings: SweepSettings, questions: SweepQuestions) -> list[Mapping[str, torch.Tensor]]:
    return [on_device(loaded, questions.inputs(loaded, settings, name)) for name in questions.ids[:INPUTS]]
