"""A policy made ready for calls: what doesn't depend on the input is worked out once, and most of the rest before it.

`decide` is what a policy is: a pure function, asked twice. In a call every step counts, since the model's work has
emptied the host's caches. Both networks look at the budget and the words, so one product with both first layers side by
side serves both decisions, before the call; the late one then adds what the tier and the hidden states bring to its
first layer. On a GPU that product (thousands of hidden numbers, a megabyte of weights) is the device's: `matrix`. No
torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from laptime.control.policies.grpo import GrpoPolicy
from laptime.control.policies.policy import Policy, allowed, likeliest
from laptime.control.seen import Budget, Floats32, Seen
from laptime.control.tables.features import budget_size, one_budget_features
from laptime.errors import LaptimeError


class Opened(NamedTuple):
    """number: the choice of which the tier binds. close: the whole choice, from the hidden states if it looks at any.

    Hidden states are (H,), or their product with the ready policy's matrix, if it has one: (k,).
    """

    number: int
    close: Callable[[Floats32 | None], int]


class Ready(Protocol):
    """matrix (H, k): what hidden states are to be multiplied by before `close`. None: they are taken as they are."""

    matrix: Floats32 | None

    def open(self, seen: Seen, budget: Budget) -> Opened: ...


class Plain:
    """Any policy, asked twice."""

    def __init__(self, policy: Policy) -> None:
        self.matrix: Floats32 | None = None
        self._policy = policy

    def open(self, seen: Seen, budget: Budget) -> Opened:
        """Before the call."""
        policy = self._policy
        number = policy.decide(seen, budget)
        tier = number // policy.space.late

        def close(hidden: Floats32 | None) -> int:
            return policy.decide(msgspec.structs.replace(seen, tier=tier, hidden=hidden), budget)

        return Opened(number, close)


class ReadyGrpo:
    """A GrpoPolicy of one hidden layer: `decide` to the rounding, in about half of the time.

    Raises LaptimeError when something that the policy looks at is not given.
    """

    def __init__(self, policy: GrpoPolicy) -> None:
        space, early, late = policy.space, policy.early, policy.late
        self._space, self._needs = space, policy.needs
        (early_first, self._early_last), (late_first, self._late_last) = early.weights, late.weights
        early_bias, self._early_bias = early.biases
        late_bias, self._late_bias = late.biases
        self._split = early_first.shape[1]
        room, tiers, hidden = budget_size(space), space.first, policy.hidden
        words = len(late.centre) - room - tiers - hidden
        parts = [late_first[:room], late_first[room + tiers : room + tiers + words]]
        parts.append(np.zeros((len(early.centre) - room - words, late_first.shape[1]), np.float32))  # pixels
        biases = [early_bias - early.centre @ early_first, late_bias - late.centre @ late_first]
        both = np.concatenate([early_first, np.concatenate(parts)], axis=1)
        self._first = np.concatenate([both, np.concatenate(biases)[None]]).astype(np.float32)
        self._tiers = late_first[room : room + tiers]
        self.matrix: Floats32 | None = np.ascontiguousarray(late_first[len(late.centre) - hidden :]) if hidden else None

    def open(self, seen: Seen, budget: Budget) -> Opened:
        """Before the call."""
        kept, late = allowed(self._space, budget, None), self._space.late
        room = one_budget_features(budget.ms, budget.bound_ms.tolist(), self._space)
        looked_at = [_given(seen, name) for name in ("language", "pixels") if getattr(self._needs, name)]
        product = np.concatenate([room, *looked_at, _ONE], dtype=np.float32) @ self._first
        logits = np.tanh(product[: self._split]) @ self._early_last + self._early_bias
        tier = likeliest(logits, [True in kept[first : first + late] for first in range(0, len(kept), late)])
        first = tier * late
        so_far, mine = product[self._split :] + self._tiers[tier], kept[first : first + late]

        def close(brought: Floats32 | None) -> int:
            if (brought is None) == self._needs.hidden:
                raise LaptimeError("this policy looks at hidden states and was given none, or the other way round")
            inner = np.tanh(so_far if brought is None else so_far + brought)
            return first + likeliest(inner @ self._late_last + self._late_bias, mine)

        return Opened(first + mine.index(True), close)


def ready(policy: Policy) -> Ready:
    """The quickest way that is known of running a policy."""
    if isinstance(policy, GrpoPolicy) and len(policy.early.weights) == len(policy.late.weights) == 2:
        return ReadyGrpo(policy)
    return Plain(policy)


def _given(seen: Seen, name: str) -> Floats32:
    value: Floats32 | None = getattr(seen, name)
    if value is None:
        raise LaptimeError(f"this policy looks at {name} features, given are none; it is another model's")
    return value


_ONE = np.ones(1, dtype=np.float32)
