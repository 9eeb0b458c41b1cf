"""Batches of training, one for each step: drawn by data workers from the step's number alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from .model import DEPTHS, TILINGS, TOP_KS
from .packing import pack
from .pages import draw_page
from .questions import TYPES, ask

ASKED = (*TYPES, "count", "add", "code", "compare")
"""The questions of a page: one of each type, hard ones twice."""
ROWS = {"low": 3.0, "medium": 1.75, "high": 1.0}
"""Pages a step, in multiples of the batch: a step of any tier takes about as long."""

TOP_K_SHARES = {4: 0.5, 2: 0.35, 1: 0.15}
DEPTH_SHARES = {8: 0.42, 6: 0.2, 4: 0.14, 3: 0.1, 2: 0.14}
"""The share of steps with each number of blocks."""

TRAINED_FROM = {"digit": 4, "count": 4, "chase": 6, "compare": 6, "add": 8}
"""With fewer blocks than that a type isn't trained; reading (all others) is trained at every depth. What takes several
steps of finding and comparing is left to the blocks that are then missing."""


@dataclass(frozen=True)
class Knobs:
    """What a step runs with: an image tier, experts for each token, active blocks."""

    tier: str
    top_k: int
    blocks: int

    def among(self, most: int) -> Knobs:
        """The same share of the experts in a model whose tokens go to at most `most` of them."""
        return replace(self, top_k=self.top_k * most // TOP_KS[-1])


FULL = Knobs("high", TOP_KS[-1], DEPTHS[-1])
LOWEST = Knobs("low", TOP_KS[0], DEPTHS[0])


def draw_knobs(seed: int, step: int) -> Knobs:
    """A third of the steps each tier; top-k and blocks by their shares."""
    tier, k, depth = np.random.default_rng((seed, step)).random(3).tolist()
    return Knobs(tuple(TILINGS)[int(tier * len(TILINGS))], _drawn(TOP_K_SHARES, k), _drawn(DEPTH_SHARES, depth))


def _drawn(shares: dict[int, float], at: float) -> int:
    edges = np.cumsum(list(shares.values()))
    return list(shares)[min(int(np.searchsorted(edges, at, side="right")), len(shares) - 1)]


def make_batch(split: str, first: int, pages: int) -> dict[str, torch.Tensor]:
    """Pages `first` and on of a split, with their labels and packed questions."""
    drawn = [draw_page(split, first + index) for index in range(pages)]
    rows = [
        [ask(kind, page.truth, split, first + index, place) for place, kind in enumerate(ASKED)]
        for index, page in enumerate(drawn)
    ]
    return {
        "pages": torch.from_numpy(np.stack([page.image for page in drawn])),
        "shown": torch.from_numpy(np.stack([page.labels for page in drawn])),
        **pack(rows),
    }


def trained_at(batch: dict[str, torch.Tensor], blocks: int) -> dict[str, torch.Tensor]:
    """The batch with the answers that a step with this number of blocks is trained on."""
    taught = [place for place, kind in enumerate(TYPES) if TRAINED_FROM.get(kind, 0) <= blocks]
    if len(taught) == len(TYPES):
        return batch
    wanted = torch.tensor(taught, device=batch["kinds"].device)
    kept = torch.isin(batch["kinds"][batch["rows"], batch["positions"]], wanted)
    return batch | {name: batch[name][kept] for name in ("rows", "positions")}


class Steps(Dataset[Any]):
    """Step -> (knobs, batch). Pages are never used twice: step n of batch b starts at page 4·b·n."""

    def __init__(self, split: str, batch: int, seed: int, first_step: int = 0, most_experts: int = TOP_KS[-1]) -> None:
        self.split, self.batch, self.seed, self.first_step = split, batch, seed, first_step
        self.most_experts = most_experts

    def __len__(self) -> int:
        return 10_000_000

    def __getitem__(self, step: int) -> tuple[Knobs, dict[str, torch.Tensor]]:
        torch.set_num_threads(1)
        knobs = draw_knobs(self.seed, self.first_step + step).among(self.most_experts)
        first = (self.first_step + step) * 4 * self.batch
        return knobs, make_batch(self.split, first, max(1, int(self.batch * ROWS[knobs.tier])))
