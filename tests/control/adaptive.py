"""A tiny LLaVA-NeXT with experts, bounds made up for it, and policies that return what a test wants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from laptime.control.adaptive_model import AdaptiveModel
from laptime.control.bounds.bounds import GRID, Bounds
from laptime.control.bounds.lengths import LengthModel
from laptime.control.choices import ChoiceSpace, ModelFacts, Tier
from laptime.control.policies.policy import Needs
from laptime.control.question import Question
from laptime.control.seen import Budget, Seen
from laptime.control.tables.features import LANGUAGE
from laptime.estimate.online import Online
from laptime.workload.datasets import inputs_from_question
from tests.workload.families import loaded

SPACE = ChoiceSpace(tiers=(Tier("one", 1, 1), Tier("four", 4, 4)), top_ks=(1, 3), blocks=(2, 3))
TOKENS = 4


class Scripted:
    """Returns what `choose` says of what is seen."""

    name = "scripted"
    space = SPACE

    def __init__(self, choose: Callable[[Seen, Budget], int], *, hidden: bool) -> None:
        self.choose = choose
        self.needs = Needs(language=True, pixels=True, hidden=hidden)
        self.seen: list[Seen] = []
        self.budgets: list[Budget] = []

    def decide(self, seen: Seen, budget: Budget) -> int:
        self.seen.append(seen)
        self.budgets.append(budget)
        return self.choose(seen, budget)


def fixed(number: int, *, hidden: bool) -> Scripted:
    """Always the same choice."""
    return Scripted(lambda seen, budget: number, hidden=hidden)


def bounds_of(bound_ms: list[float], *, facts: ModelFacts | None = None, space: ChoiceSpace = SPACE) -> Bounds:
    """Bounds (choices,) that hold for any number of tokens up to TOKENS, which every answer needs."""
    bound = np.array(bound_ms, dtype=np.float64)
    median = 0.8 * bound
    within = np.full((len(space), 1, GRID), 0.6, dtype=np.float32)
    within[:, :, -1] = 1.0
    lengths = LengthModel(
        counts=np.array([TOKENS], dtype=np.int32),
        weights=np.zeros((LANGUAGE, 1, 1), dtype=np.float32),
        bias=np.zeros((1, 1), dtype=np.float32),
        group=np.zeros(len(space), dtype=np.int32),
        questions=100,
        most=TOKENS,
    )
    return Bounds(
        space=space,
        model=facts or ModelFacts(),
        confidence=0.95,
        lengths=lengths,
        known_ms=np.tile(bound, (TOKENS, 1)),
        median_ms=np.tile(median, (TOKENS, 1)),
        grid_ms=np.linspace(median, bound, GRID, axis=1),
        within=within,
        level=np.full(len(space), 0.95),
    )


def adaptive(
    policy: Scripted,
    bound_ms: list[float] | None = None,
    online: Online | bool = False,
    facts: ModelFacts | None = None,
    fast: bool | None = None,
) -> AdaptiveModel:
    """The tiny model with the policy; without bounds every choice is known to take a minute at most."""
    bounds = bounds_of(bound_ms if bound_ms is not None else [60_000.0] * len(SPACE), facts=facts)
    tiny = loaded("llava_next")
    one = question()
    inputs = inputs_from_question(tiny, one.text, one.image, "here")
    tiny.model.generate(**inputs.kwargs, max_new_tokens=2)  # a model's first call leaves things of transformers' on it
    return AdaptiveModel(tiny, policy, bounds, online=online, fast=fast)


def question(seed: int = 0) -> Question:
    """A small square picture and a few words."""
    pixels = np.random.default_rng(seed).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    return Question("what is it?", Image.fromarray(pixels), id=f"picture-{seed}")
