"""One call of FastModel: what it was given, and which blocks and experts it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from laptime.decoder.prompt import Layout
from laptime.decoder.session import Mark
from laptime.decoder.settings import GenerationSettings


class Setting(NamedTuple):
    """Blocks and experts of one call. active: the blocks that run, ascending. None leaves the model's own.

    top_k: experts of every block, or a number for each block of the whole model (0: a block without experts).
    """

    active: tuple[int, ...] | None = None
    top_k: int | tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class LateSetting:
    """A setting that is chosen in the middle of the prefill.

    early: the block after which `choose` is asked; it and those before it always run. top_k: experts until then.
    choose: from the hidden states (1, positions, hidden) that the early block gave.
    """

    early: int
    top_k: int | tuple[int, ...] | None
    choose: Callable[[torch.Tensor], Setting]


@dataclass(frozen=True, eq=False)
class OneCall:
    """What one call was given, read."""

    input_ids: torch.Tensor
    inputs: Mapping[str, Any]
    settings: GenerationSettings
    layout: Layout
    mark: Mark
