"""What can be chosen: the image tier, experts per token and active blocks; and of which model. No torch.

Choices are numbered in C order (tier, top_k, blocks). The tier is chosen before the vision tower runs. top_k and blocks
are chosen together after an early block, as one late choice. A choice's number is `tier * late + late choice`.
"""

from __future__ import annotations

from pathlib import PurePath

import msgspec

from laptime.errors import LaptimeError


class Tier(msgspec.Struct, frozen=True):
    """A range of crops that an image is cut into. `name` is what tables and pages call it."""

    name: str
    low: int
    high: int


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of the knobs. None: the model doesn't have this knob, or the knob is left alone."""

    tier: Tier | None
    top_k: int | None
    blocks: int | None

    def __str__(self) -> str:
        parts = [
            self.tier.name if self.tier else "",
            f"top-{self.top_k}" if self.top_k else "",
            f"{self.blocks} blocks" if self.blocks else "",
        ]
        return ", ".join(part for part in parts if part) or "as it is"


class ChoiceSpace(msgspec.Struct, frozen=True, kw_only=True):
    """The values that each knob may take, ascending in cost. An empty tuple is a knob that is left alone.

    active: which blocks ran when the choices were measured, for each value of `blocks`; empty where they were chosen
    by their position. Whoever runs a choice runs these blocks.
    experts: how many experts each block of the whole model had, for each value of `top_ks`; empty where every block had
    the same number.
    """

    tiers: tuple[Tier, ...] = ()
    top_ks: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()
    active: tuple[tuple[int, ...], ...] = ()
    experts: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        for name, values in (("tiers", self.tiers), ("top_ks", self.top_ks), ("blocks", self.blocks)):
            if len(set(values)) != len(values):
                raise LaptimeError(f"choices: {name} has a value twice; give each once")
        if self.experts and len(self.experts) != len(self.top_ks):
            raise LaptimeError("choices: the experts by block are of other numbers than top_ks; measure the sweep anew")
        if self.active and tuple(map(len, self.active)) != self.blocks:
            raise LaptimeError("choices: the active blocks are of other numbers than blocks; measure the sweep anew")

    @property
    def experts_by_block(self) -> dict[int, tuple[int, ...]]:
        """How many experts each block has, by top-k; without those that have one number for all."""
        return {k: numbers for k, numbers in zip(self.top_ks, self.experts, strict=False) if numbers}

    @property
    def active_blocks(self) -> dict[int, tuple[int, ...]]:
        """Which blocks run, by their number; empty where they are chosen by their position."""
        return dict(zip(self.blocks, self.active, strict=False))

    @property
    def first(self) -> int:
        """The number of choices before the vision tower: the tiers."""
        return max(1, len(self.tiers))

    @property
    def late(self) -> int:
        """The number of choices after the early block: top_k times blocks."""
        return max(1, len(self.top_ks)) * max(1, len(self.blocks))

    def __len__(self) -> int:
        return self.first * self.late

    def choice(self, number: int) -> Choice:
        """The choice of that number. Raises LaptimeError outside 0..len-1."""
        if not 0 <= number < len(self):
            raise LaptimeError(f"choice {number}: there are {len(self)}, numbered from 0")
        tier, late = divmod(number, self.late)
        k, b = divmod(late, max(1, len(self.blocks)))
        return Choice(
            tier=self.tiers[tier] if self.tiers else None,
            top_k=self.top_ks[k] if self.top_ks else None,
            blocks=self.blocks[b] if self.blocks else None,
        )

    def number(self, choice: Choice) -> int:
        """The number of a choice. Raises LaptimeError for one that is not in this space."""
        for number in range(len(self)):
            if self.choice(number) == choice:
                return number
        raise LaptimeError(f"choice ({choice}): not among the {len(self)} choices of this space")


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The model that policies and bounds belong to. A field that is empty or None is not known, and is not compared.

    name: as the sweep's file wrote it; only its last part is compared, so that a folder may move. kind: transformers'
    model_type. blocks, top_k: the model's own. experts: how many there are to choose from.
    """

    name: str = ""
    kind: str = ""
    blocks: int | None = None
    experts: int | None = None
    top_k: int | None = None

    def differences(self, other: ModelFacts) -> list[str]:
        """What both know and don't agree on, in words: "blocks 6 instead of 8" (self's value first)."""
        different = []
        for field, label in (("kind", "kind"), ("blocks", "blocks"), ("experts", "experts"), ("top_k", "top-k")):
            own, others = getattr(self, field), getattr(other, field)
            if own and others and own != others:
                different.append(f"{label} {own} instead of {others}")
        own, others = PurePath(self.name).name, PurePath(other.name).name
        if own and others and own != others:
            different.append(f"name {own} instead of {others}")
        return different
