"""Both decisions of a learnt policy in one pass, for one text. No torch.

A policy that doesn't look at hidden states learns nothing between its two decisions, so both are made before the call.
What the words add to each network's first layer is computed once for a text. The late network then runs for all tiers
beside the early one, in one product. The decisions are those of `decide`, asked twice; only the work is less.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, tanh
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.policies.learned import GrpoPolicy, SupervisedPolicy
from laptime.control.policies.network import Network
from laptime.control.policies.policy import Policy, best, decide_twice, of_tier
from laptime.control.policies.simple import LogisticPolicy
from laptime.control.seen import Budget, Floats32, Seen
from laptime.control.tables.feature_table import FeatureTable
from laptime.control.tables.features import LANGUAGE, LEAST_ROOM, MOST_ROOM, ROOMS, budget_size

REMEMBERED = 256
"""The number of sets of choices that fit for which a text remembers its decision."""


class TextDecisions(Protocol):
    """A policy's decisions for one text."""

    def decide(self, budget: Budget) -> int: ...


class OnePass(Protocol):
    """A policy, prepared for texts."""

    def of_words(self, language: Floats32) -> TextDecisions: ...


def one_pass(policy: Policy) -> OnePass | None:
    """The policy, prepared; None for one that has to be asked by `decide`: it sees more than words, or is another kind.

    Networks of one hidden layer are prepared, which is what training makes.
    """
    if isinstance(policy, LogisticPolicy):
        return _LogisticPass(policy)
    if not isinstance(policy, GrpoPolicy | SupervisedPolicy) or policy.needs.hidden or policy.needs.pixels:
        return None
    if isinstance(policy, SupervisedPolicy):
        return _SupervisedPass(policy)
    return _grpo_pass(policy) if len(policy.early.weights) == len(policy.late.weights) == 2 else None


def deciders(policy: Policy, features: FeatureTable) -> Callable[[int], Callable[[Budget], int]]:
    """Gives, for a question of a table, both of the policy's decisions as a function of the budget."""
    prepared = one_pass(policy)
    if prepared is None:
        return lambda row: lambda budget: decide_twice(policy, features, row, budget)
    return lambda row: prepared.of_words(features.language[row]).decide


class _GrpoPass(msgspec.Struct, frozen=True, kw_only=True):
    """Weights of both networks side by side: the early one, then the late one under each tier.

    words (L, 2 h), constant (h + tiers h,): what the words and the tier add to the first layer. room (b, h + tiers h):
    the budget's features into it. second (h + tiers h, e + choices), bias (e + choices,): the second layer. early: e,
    the outputs of the early network: the choices, or in policies of before the tiers. late: the number of late choices.
    """

    tiers: int
    early: int
    late: int
    words: tuple[Floats32, Floats32]
    constant: Floats32
    room: Floats32
    second: Floats32
    bias: Floats32

    def of_words(self, language: Floats32) -> _GrpoText:
        early, late = self.words
        if len(early):
            first = np.concatenate([language @ early, *[language @ late] * self.tiers])
            first += self.constant
            return _GrpoText(self, first)
        return _GrpoText(self, self.constant)


class _GrpoText(msgspec.Struct, frozen=True):
    """first (h + tiers h,): the first layer without the budget."""

    weights: _GrpoPass
    first: Floats32

    def decide(self, budget: Budget) -> int:
        weights, late = self.weights, self.weights.late
        fits, by_tier, room = room_features(budget, late)
        if room is None:
            return budget.fastest
        hidden = room @ weights.room
        hidden += self.first
        np.tanh(hidden, out=hidden)
        logits = (hidden @ weights.second + weights.bias).tolist()
        if weights.early == len(fits):
            tier = highest_of([place for place, fitting in enumerate(fits) if fitting], logits, 0) // late
        else:
            tier = highest_of([tier for tier, count in enumerate(by_tier) if count], logits, 0)
        start = tier * late
        places = [place for place in range(start, start + late) if fits[place]]
        return highest_of(places, logits, weights.early)


def room_features(budget: Budget, late: int) -> tuple[list[bool], list[int], Floats32 | None]:
    """Which choices fit, how many of each tier do, and the budget's features (budget_features); None if none fits.

    late: the number of choices of a tier. For one budget this takes a third of the time of arrays.
    """
    ms, bound = budget.ms, budget.bound_ms.tolist()
    fits = [one <= ms for one in bound]
    by_tier = [sum(fits[start : start + late]) for start in range(0, len(fits), late)]
    if True not in fits:
        return fits, by_tier, None
    room = min(max(log(ms) - log(min(bound)), LEAST_ROOM), MOST_ROOM)
    features = [room / 2, *[tanh(2 * (room - middle)) for middle in ROOMS], *[count / late for count in by_tier]]
    return fits, by_tier, np.array(features, dtype=np.float32)


def highest_of(places: list[int], logits: list[float], offset: int) -> int:
    """The place of the highest logit, the first one among equals."""
    found, value = places[0], logits[offset + places[0]]
    for place in places[1:]:
        if logits[offset + place] > value:
            found, value = place, logits[offset + place]
    return found


def _grpo_pass(policy: GrpoPolicy) -> _GrpoPass:
    space, tiers, late = policy.space, policy.space.first, policy.space.late
    budget, words = budget_size(space), LANGUAGE if policy.needs.language else 0
    early_first, late_first = policy.early.weights[0], policy.late.weights[0]
    after_tier = budget + tiers
    tier_rows = late_first[budget:after_tier]
    widths = early_first.shape[1], late_first.shape[1]
    early = policy.early.weights[1].shape[1]
    whole = policy.late.weights[1].shape[1] == len(space)
    second = np.zeros((widths[0] + tiers * widths[1], early + len(space)), dtype=np.float32)
    second[: widths[0], :early] = policy.early.weights[1]
    bias = [policy.early.biases[1]]
    for tier in range(tiers):
        rows = slice(widths[0] + tier * widths[1], widths[0] + (tier + 1) * widths[1])
        own = slice(tier * late, (tier + 1) * late) if whole else slice(None)
        second[rows, early + tier * late : early + (tier + 1) * late] = policy.late.weights[1][:, own]
        bias.append(policy.late.biases[1][own])
    of_late = _constant(policy.late)
    return _GrpoPass(
        tiers=tiers,
        early=early,
        late=late,
        words=(early_first[budget : budget + words], late_first[after_tier : after_tier + words]),
        constant=np.concatenate([_constant(policy.early), *(of_late + row for row in tier_rows)]),
        room=np.concatenate([early_first[:budget], *[late_first[:budget]] * tiers], axis=1),
        second=second,
        bias=np.concatenate(bias),
    )


def _constant(network: Network) -> Floats32:
    """The first layer for an input of zeros."""
    constant: Floats32 = network.biases[0] - network.centre @ network.weights[0]
    return constant


class _LogisticPass(msgspec.Struct, frozen=True):
    policy: LogisticPolicy

    def of_words(self, language: Floats32) -> _ScoredText:
        scores = self.policy.scores(language)
        return _ScoredText(self.policy, language, scores, scores, {} if _all_differ(scores) else None)


class _SupervisedPass(msgspec.Struct, frozen=True):
    policy: SupervisedPolicy

    def of_words(self, language: Floats32) -> _ScoredText:
        policy, space = self.policy, self.policy.space
        words = language if policy.needs.language else language[:0]
        tiers = np.eye(space.first, dtype=np.float32)
        whole = policy.late.forward(np.concatenate([tiers, np.repeat(words[None], space.first, axis=0)], axis=1))
        by_tier = whole.reshape(space.first, space.first, space.late)
        own = np.concatenate([by_tier[tier, tier] for tier in range(space.first)])
        early = policy.early.forward(words)
        return _ScoredText(policy, language, early, own, {} if _all_differ(early) and _all_differ(own) else None)


def _all_differ(values: npt.NDArray[np.floating]) -> bool:
    return len(set(values.tolist())) == len(values)


class _ScoredText(msgspec.Struct, frozen=True):
    """early, late (choices,): each choice's logit of being right, before the vision tower and with its tier.

    decided: the choice for each set of choices that fit; None where two are equally good, so that their costs decide.
    """

    policy: Policy
    language: Floats32
    early: npt.NDArray[np.floating]
    late: npt.NDArray[np.floating]
    decided: dict[bytes, int] | None

    def decide(self, budget: Budget) -> int:
        fits = budget.bound_ms <= budget.ms
        key = fits.tobytes()
        if self.decided is not None and (known := self.decided.get(key)) is not None:
            return known
        space = self.policy.space
        if not fits.any():
            seen = Seen(language=self.language)
            tier = self.policy.decide(seen, budget) // space.late
            return self.policy.decide(msgspec.structs.replace(seen, tier=tier), budget)
        tier = best(self.early, fits, budget.bound_ms) // space.late
        number = best(self.late, fits & of_tier(space, tier), budget.bound_ms)
        if self.decided is not None and len(self.decided) < REMEMBERED:
            self.decided[key] = number
        return number
