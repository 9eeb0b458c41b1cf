"""What can be chosen: image tier, experts a token, active blocks. No torch.

Choices are numbered in C order (tier, top_k, blocks). The tier is chosen before the vision tower runs; top_k and
blocks, together one of `late`, after an early block: so a choice's number is `tier * late + late choice`.
"""

from __future__ import annotations

import msgspec

from laptime.errors import LaptimeError


class Tier(msgspec.Struct, frozen=True):
    """A range of crops that an image is cut into. `name` is what tables and pages call it."""

    name: str
    low: int
    high: int


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of the knobs. None: the model doesn't have this knob, or it is left alone."""

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
    """The values that each knob may take, ascending in cost; an empty tuple is a knob that is left alone."""

    tiers: tuple[Tier, ...] = ()
    top_ks: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, values in (("tiers", self.tiers), ("top_ks", self.top_ks), ("blocks", self.blocks)):
            if len(set(values)) != len(values):
                raise LaptimeError(f"choices: {name} has a value twice; give each once")

    @property
    def first(self) -> int:
        """How many choices there are before the vision tower: the tiers."""
        return max(1, len(self.tiers))

    @property
    def late(self) -> int:
        """How many choices there are after the early block: top_k times blocks."""
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
        for place in range(len(self)):
            if self.choice(place) == choice:
                return place
        raise LaptimeError(f"choice ({choice}): not among the {len(self)} choices of this space")
