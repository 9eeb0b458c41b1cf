"""One call's decisions: made before the vision tower and after the early block, and recorded in the call's sample."""

from __future__ import annotations

import math
from time import perf_counter_ns
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch

from laptime.control.choices import Choice
from laptime.control.policies.one_pass import TextDecisions
from laptime.control.policies.policy import Policy
from laptime.control.policies.two_steps import TextSteps
from laptime.control.seen import Budget, Seen
from laptime.control.tables.collection import hidden_features
from laptime.data.record import Decision
from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.models.knob_switch import LateKnobs

UNKNOWN_COST = ("cache_implementation", "prefill_chunk_size", "assistant_model", "custom_generate", "num_beams")
"""Arguments of generate() that are refused: with them a call takes another time than the bounds were made from."""


class Sight(NamedTuple):
    """What a policy is given before a call.

    own_bound_ms (choices,): each choice's bound without correction and leeway, from which a stream of requests learns.
    times: the leeway (Room.times) that `budget` was made with. decisions: the policy's decisions for these words; None
    where it is asked by `decide`. looked_ms: until `budget` was made, which is taken off it already.
    """

    seen: Seen
    budget: Budget
    own_bound_ms: Floats
    times: float
    decisions: TextDecisions | TextSteps | None = None
    looked_ms: float = 0.0


class Call:
    """The decisions of one call.

    number: the choice so far. before_ms: deciding before the call. waited_ms: until the early block's output was on the
    host. inside_ms: deciding after that.
    """

    def __init__(self, policy: Policy, sight: Sight, began_ns: int) -> None:
        self.policy = policy
        self.sight = sight
        self.waited_ms = 0.0
        self.inside_ms = 0.0
        self.number = self._decided_before()
        self.before_ms = (perf_counter_ns() - began_ns) / 1e6

    def _decided_before(self) -> int:
        """The choice before the call; the final one where nothing more will be known later."""
        sight, policy, prepared = self.sight, self.policy, self.sight.decisions
        late = policy.space.late
        if isinstance(prepared, TextSteps):
            number = prepared.before(sight.budget, sight.seen.pixels)
            return number if policy.needs.hidden else prepared.after(sight.budget, number // late, None)
        if prepared is not None:
            return prepared.decide(sight.budget)
        number = policy.decide(sight.seen, sight.budget)
        if policy.needs.hidden:
            return number
        return policy.decide(msgspec.structs.replace(sight.seen, tier=number // late), sight.budget)

    @property
    def _tier(self) -> int:
        return self.number // self.policy.space.late

    @property
    def choice(self) -> Choice:
        """The setting of the knobs so far."""
        return self.policy.space.choice(self.number)

    @property
    def knobs(self) -> LateKnobs:
        """Top-k and blocks of the choice so far."""
        choice = self.choice
        return LateKnobs(choice.top_k, choice.blocks)

    @property
    def deciding_ms(self) -> float:
        """The host's time for deciding, without the wait for the early block."""
        return self.before_ms + self.inside_ms

    def decide_late(self, hidden: torch.Tensor) -> LateKnobs:
        """Top-k and blocks, from the early block's output (rows, positions, width)."""
        entered = perf_counter_ns()
        features = hidden_features(hidden)[0]
        arrived = perf_counter_ns()
        prepared, budget = self.sight.decisions, self.sight.budget
        if isinstance(prepared, TextSteps):
            self.number = prepared.after(budget, self._tier, features)
        else:
            seen = msgspec.structs.replace(self.sight.seen, tier=self._tier, hidden=features)
            self.number = self.policy.decide(seen, budget)
        self.waited_ms = (arrived - entered) / 1e6
        knobs = self.knobs
        self.inside_ms = (perf_counter_ns() - arrived) / 1e6
        return knobs

    def decision(self, budget_ms: float, confidence: float) -> Decision:
        """The record of this call. budget_ms: as the user gave it. confidence: of the bounds without leeway."""
        choice, bound = self.choice, float(self.sight.budget.bound_ms[self.number])
        return Decision(
            policy=self.policy.name,
            budget_ms=budget_ms,
            bound_ms=bound if bound < float("inf") else None,
            factor=self.sight.budget.factor,
            tier=None if choice.tier is None else choice.tier.name,
            top_k=choice.top_k,
            blocks=choice.blocks,
            before_ms=self.before_ms,
            waited_ms=self.waited_ms,
            inside_ms=self.inside_ms,
            confidence=1 - (1 - confidence) * self.sight.times,
        )


def check_asked(budget_ms: Any, max_new_tokens: Any, options: dict[str, Any]) -> None:
    """Raise LaptimeError for a budget or limit that is none, and for options whose time no bound knows."""
    if isinstance(budget_ms, bool) or not isinstance(budget_ms, int | float | np.number):
        raise LaptimeError(f"budget {budget_ms!r}: write a time in milliseconds above 0")
    if not (math.isfinite(budget_ms) and budget_ms > 0):
        raise LaptimeError(f"budget {budget_ms} ms: write a time in milliseconds above 0")
    if max_new_tokens is not None and (not isinstance(max_new_tokens, int) or max_new_tokens < 1):
        raise LaptimeError(f"max_new_tokens {max_new_tokens!r}: write a whole number from 1 on")
    for name in UNKNOWN_COST:
        if options.get(name) not in (None, 1):
            raise LaptimeError(f"{name}={options[name]!r}: no bound knows what that takes; leave it out")
