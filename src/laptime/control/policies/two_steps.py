"""The decisions of a learnt policy that sees more than words, for one text, each with as little work as it needs.

What words and tiers add to each network's first layer is computed once for a text, and what pixels or hidden states
add when they are seen. The decisions are those of `decide`; only the work is less. No torch.
"""

from __future__ import annotations

import msgspec
import numpy as np

from laptime.control.policies.learned import GrpoPolicy, SupervisedPolicy
from laptime.control.policies.network import Network
from laptime.control.policies.one_pass import highest_of, room_features
from laptime.control.policies.policy import Policy, best, fastest, of_tier
from laptime.control.seen import Budget, Floats32
from laptime.control.tables.features import LANGUAGE, budget_size
from laptime.errors import LaptimeError


class _Step(msgspec.Struct, frozen=True, kw_only=True):
    """One network, its first layer cut by inputs: budget (b, h), tier (t, h), words (L, h), seen (s, h).

    constant (h,): the first layer for zeros, and for what is seen at its centre, (s,). A part of width 0 isn't looked
    at.
    """

    network: Network
    budget: Floats32
    tier: Floats32
    words: Floats32
    seen: Floats32
    centre: Floats32
    constant: Floats32

    def of_words(self, language: Floats32) -> Floats32:
        """The first layer without the budget and what is seen, under each tier: (tiers, h), or (1, h) without tiers."""
        first = self.constant + (language @ self.words if len(self.words) else 0.0)
        whole: Floats32 = first + self.tier if len(self.tier) else first[None]
        return whole

    def logits(self, first: Floats32, room: Floats32 | None, seen: Floats32 | None) -> Floats32:
        """The outputs from the first layer of a text. Raises LaptimeError where what is seen has another width."""
        hidden = first.copy()
        if room is not None:
            hidden += room @ self.budget
        if len(self.seen):
            if seen is None or len(seen) != len(self.seen):
                given = "none" if seen is None else len(seen)
                raise LaptimeError(
                    f"this policy looks at {len(self.seen)} features of the image or of hidden states, given are "
                    f"{given}; it is another model's"
                )
            hidden += (seen - self.centre) @ self.seen
        np.tanh(hidden, out=hidden)
        outputs: Floats32 = hidden @ self.network.weights[1]
        outputs += self.network.biases[1]
        return outputs


class TwoSteps(msgspec.Struct, frozen=True):
    """A policy of two networks, prepared."""

    policy: GrpoPolicy | SupervisedPolicy
    early: _Step
    late: _Step

    def of_words(self, language: Floats32) -> TextSteps:
        """Its decisions for one text."""
        return TextSteps(self, self.early.of_words(language)[0], self.late.of_words(language))


class TextSteps(msgspec.Struct, frozen=True):
    """The decisions for one text. early (h,), late (tiers, h): what the words add to the first layers."""

    steps: TwoSteps
    early: Floats32
    late: Floats32

    def before(self, budget: Budget, pixels: Floats32 | None) -> int:
        """The choice before the vision tower: its tier counts."""
        policy, step = self.steps.policy, self.steps.early
        if isinstance(policy, SupervisedPolicy):
            fits = budget.fits
            right = step.logits(self.early, None, pixels)
            return best(right, fits, budget.bound_ms) if fits.any() else budget.fastest
        fitting, by_tier, room = room_features(budget, policy.space.late)
        if room is None:
            return budget.fastest
        logits = step.logits(self.early, room, pixels).tolist()
        if len(logits) == len(fitting):
            return highest_of([place for place, fits_it in enumerate(fitting) if fits_it], logits, 0)
        tier = highest_of([tier for tier, count in enumerate(by_tier) if count], logits, 0)
        return tier * policy.space.late + fitting[tier * policy.space.late :].index(True)

    def after(self, budget: Budget, tier: int, hidden: Floats32 | None) -> int:
        """The choice after the early block, of this tier."""
        policy, step = self.steps.policy, self.steps.late
        space, first = policy.space, tier * policy.space.late
        if isinstance(policy, SupervisedPolicy):
            fits = budget.fits & of_tier(space, tier)
            right = step.logits(self.late[tier], None, hidden)
            return best(right, fits, budget.bound_ms) if fits.any() else fastest(space, budget, tier)
        fitting, by_tier, room = room_features(budget, space.late)
        if room is None or not by_tier[tier]:
            return fastest(space, budget, tier)
        logits = step.logits(self.late[tier], room, hidden).tolist()
        places = [place for place in range(first, first + space.late) if fitting[place]]
        return highest_of(places, logits, 0 if len(logits) == len(fitting) else -first)


def two_steps(policy: Policy) -> TwoSteps | None:
    """The policy, prepared; None for another kind than networks of one hidden layer."""
    if not isinstance(policy, GrpoPolicy | SupervisedPolicy):
        return None
    if len(policy.early.weights) != 2 or len(policy.late.weights) != 2:
        return None
    budget = budget_size(policy.space) if isinstance(policy, GrpoPolicy) else 0
    words = LANGUAGE if policy.needs.language else 0
    return TwoSteps(
        policy,
        _step(policy.early, budget, 0, words),
        _step(policy.late, budget, policy.space.first, words),
    )


def _step(network: Network, budget: int, tiers: int, words: int) -> _Step:
    first, centre = network.weights[0], network.centre
    at = np.cumsum([budget, tiers, words])
    known = int(at[-1])
    return _Step(
        network=network,
        budget=first[:budget],
        tier=first[budget : at[1]],
        words=first[at[1] : known],
        seen=first[known:],
        centre=centre[known:],
        constant=network.biases[0] - centre[:known] @ first[:known],
    )
