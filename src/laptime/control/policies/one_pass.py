"""Both decisions of a learnt policy in one pass, for one text. No torch.

A policy that doesn't look at hidden states learns nothing between its two decisions, so both are made before the call.
What the words add to each network's first layer is computed once for a text. The late network then runs for all tiers
beside the early one, in one product. The decisions are those of `decide`, asked twice; only the work is less.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, log, tanh
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.policies.learned import GrpoPolicy, SupervisedPolicy
from laptime.control.policies.network import Network
from laptime.control.policies.policy import Policy, decide_twice
from laptime.control.policies.simple import LogisticPolicy
from laptime.control.seen import Budget, Floats32
from laptime.control.tables.feature_table import FeatureTable
from laptime.control.tables.features import LANGUAGE, LEAST_ROOM, MOST_ROOM, ROOMS, budget_size


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
    if not len(policy.early.weights) == len(policy.late.weights) == 2:
        return None
    return _supervised_pass(policy) if isinstance(policy, SupervisedPolicy) else _grpo_pass(policy)


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

    def of_words(self, language: Floats32) -> TextDecisions:
        scores = self.policy.scores(language)
        return _ranked(self.policy, scores, scores)


class _SupervisedPass(msgspec.Struct, frozen=True, kw_only=True):
    """words (L, h) each, constant (h,) and (tiers, h): the first layers; own (tiers, h, late), bias (tiers, late): the
    late network's second layer for each tier's own choices."""

    policy: SupervisedPolicy
    words: tuple[Floats32, Floats32]
    constant: tuple[Floats32, Floats32]
    own: Floats32
    bias: Floats32

    def of_words(self, language: Floats32) -> TextDecisions:
        first, second = self.constant
        if len(self.words[0]):
            first, second = first + language @ self.words[0], second + language @ self.words[1]
        network = self.policy.early
        early = np.tanh(first) @ network.weights[1] + network.biases[1]
        late = (np.tanh(second)[:, None] @ self.own)[:, 0] + self.bias
        return _ranked(self.policy, early, late.ravel())


def _supervised_pass(policy: SupervisedPolicy) -> _SupervisedPass:
    space, tiers, late = policy.space, policy.space.first, policy.space.late
    words = LANGUAGE if policy.needs.language else 0
    first, second = policy.late.weights
    columns = [slice(tier * late, (tier + 1) * late) for tier in range(tiers)]
    return _SupervisedPass(
        policy=policy,
        words=(policy.early.weights[0][:words], first[tiers : tiers + words]),
        constant=(_constant(policy.early), _constant(policy.late) + first[:tiers]),
        own=np.ascontiguousarray(np.stack([second[:, own] for own in columns])),
        bias=policy.late.biases[1].reshape(tiers, len(space) // tiers),
    )


def _ranked(policy: Policy, early: npt.NDArray[np.floating], late: npt.NDArray[np.floating]) -> _RankedText:
    """Decisions from each choice's logit of being right (choices,), before the vision tower and with its tier."""
    count = policy.space.late
    by_tier: list[list[list[int]]] = [[] for _ in range(policy.space.first)]
    for tier, groups in enumerate(by_tier):
        first = tier * count
        groups += [[first + place for place in equals] for equals in _best_first(late[first : first + count])]
    return _RankedText(_best_first(early), by_tier, count, isinstance(policy, LogisticPolicy))


def _best_first(values: npt.NDArray[np.floating]) -> list[list[int]]:
    """The places of the values in descending order, those of equal ones together."""
    groups: list[list[int]] = []
    before = None
    for place, value in sorted(enumerate(values.tolist()), key=lambda pair: -pair[1]):
        if value == before:
            groups[-1].append(place)
        else:
            groups.append([place])
        before = value
    return groups


class _RankedText(msgspec.Struct, frozen=True):
    """early: the choices, the likeliest to be right first, equals together. late: the same of each tier.

    count: the choices of a tier. by_bound: where nothing fits, the first choice of the lowest bound is taken if that is
    finite, whatever the medians are.
    """

    early: list[list[int]]
    late: list[list[list[int]]]
    count: int
    by_bound: bool

    def decide(self, budget: Budget) -> int:
        ms, bound = budget.ms, budget.bound_ms.tolist()
        first = _likeliest(self.early, bound, ms)
        if first is None:
            lowest = min(bound)
            return bound.index(lowest) if self.by_bound and lowest < inf else budget.fastest
        number = _likeliest(self.late[first // self.count], bound, ms)
        assert number is not None, "the first choice fits, and is of this tier"
        return number


def _likeliest(groups: list[list[int]], bound: list[float], ms: float) -> int | None:
    """The first place that keeps the budget, of equals the cheapest; None if none does."""
    for equals in groups:
        if len(equals) == 1:
            if bound[equals[0]] <= ms:
                return equals[0]
        elif fitting := [place for place in equals if bound[place] <= ms]:
            return min(fitting, key=bound.__getitem__)
    return None
