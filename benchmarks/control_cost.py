"""What deciding costs: the same calls, once with the knobs chosen by a policy, once with the same knobs set before.

    python benchmarks/control_cost.py --model preset:molmoe-1b --image-size 1344x1008 --pairs 30    # on a GPU
    python benchmarks/control_cost.py --model preset:tiny-vlm --pairs 30                            # on a CPU

Only tiers and blocks are chosen. A late choice of top-k would not hold in the early block, so the calls would not do
the same work. The policy's networks are random, but as large as a trained policy's: what counts is their time. The two
calls of a pair follow each other in a random order. Their difference holds everything: features, both decisions, the
wait for the early block's output, and what the device's queue lost by that. Two more figures are for a text that is new
(features of its words, its bounds), and for a policy that also looks at pixels.
"""

from __future__ import annotations

import argparse
import random
from itertools import pairwise
from pathlib import Path

import numpy as np

from laptime.control.adaptive_model import AdaptiveAnswer, AdaptiveModel
from laptime.control.bounds.bounds import GRID, Bounds
from laptime.control.bounds.lengths import LengthModel
from laptime.control.choices import ChoiceSpace, ModelFacts, Tier
from laptime.control.policies.learned import GrpoPolicy
from laptime.control.policies.network import Network, early_sizes, late_sizes
from laptime.control.policies.policy import Needs
from laptime.control.question import Question
from laptime.control.seen import Budget, Seen
from laptime.control.tables.features import LANGUAGE
from laptime.data.record import TIERS
from laptime.data.stats import median_interval
from laptime.measure.environment import describe
from laptime.measure.session import quiet_collector
from laptime.models.anatomy import find_anatomy
from laptime.models.loading import load_model
from laptime.workload.images import parse_size, synthetic_image
from recorded import record

WIDTH = 48
"""Of the networks' hidden layer."""


class SetBefore:
    """One choice, known before the call: what a person would set by hand."""

    name = "set beforehand"
    needs = Needs()

    def __init__(self, space: ChoiceSpace) -> None:
        self.space = space
        self.number = 0

    def decide(self, seen: Seen, budget: Budget) -> int:
        return self.number


def random_policy(space: ChoiceSpace, hidden: int, seed: int, *, pixels: bool = False) -> GrpoPolicy:
    """Networks of a trained policy's size."""
    needs = Needs(language=True, pixels=pixels, hidden=True)
    draw = np.random.default_rng(seed)

    def network(inputs: int, outputs: int) -> Network:
        sizes = [inputs, WIDTH, outputs]
        shapes = list(pairwise(sizes))
        weights = tuple(draw.normal(0, 1 / np.sqrt(a), (a, b)).astype(np.float32) for a, b in shapes)
        return Network(np.zeros(inputs, np.float32), weights, tuple(np.zeros(b, np.float32) for _, b in shapes))

    return GrpoPolicy(
        space=space,
        needs=needs,
        early=network(early_sizes(space, needs, budget=True).total, space.first),
        late=network(late_sizes(space, needs, hidden, budget=True).total, space.late),
        hidden=hidden,
        name="grpo, pixels too" if pixels else "grpo",
    )


def wide_bounds(space: ChoiceSpace, tokens: int) -> Bounds:
    """Bounds that every choice fits, as large as bounds that were learned from answers of many lengths."""
    groups = len(space.blocks)
    lengths = LengthModel(
        counts=np.arange(1, tokens + 1, dtype=np.int32),
        weights=np.zeros((LANGUAGE, groups, tokens), np.float32),
        bias=np.zeros((groups, tokens), np.float32),
        group=np.arange(len(space), dtype=np.int32) % groups,
        questions=100,
        most=tokens,
    )
    return Bounds(
        space=space,
        model=ModelFacts(),
        confidence=0.95,
        lengths=lengths,
        known_ms=np.full((tokens, len(space)), 100.0),
        median_ms=np.full((tokens, len(space)), 90.0),
        grid_ms=np.tile(np.linspace(50.0, 100.0, GRID), (len(space), 1)),
        within=np.tile(np.linspace(0, 1, GRID, dtype=np.float32), (len(space), tokens, 1)),
        level=np.full(len(space), 0.95),
    )


def _deciding_ms(answer: AdaptiveAnswer) -> float:
    assert answer.sample.decision is not None
    return answer.sample.decision.deciding_ms


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="preset:tiny-vlm")
    parser.add_argument("--image-size", default="672x672")
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--name", default="control_cost")
    asked = parser.parse_args()
    loaded = load_model(asked.model)
    anatomy = find_anatomy(loaded.model)
    count = len(anatomy.layers)
    space = ChoiceSpace(
        tiers=tuple(Tier(name, *TIERS[name]) for name in ("low", "medium")),
        blocks=(count // 2, count),
    )
    width = loaded.model.config.get_text_config().hidden_size
    chooser = random_policy(space, 2 * width, seed=0)
    with_pixels = random_policy(space, 2 * width, seed=0, pixels=True)
    set_before = SetBefore(space)
    adaptive = AdaptiveModel(loaded, chooser, wide_bounds(space, asked.tokens))
    images = [synthetic_image(*parse_size(asked.image_size), seed=i) for i in range(6)]
    order = random.Random(0)
    extra, totals, before, inside, waited, new_text, pixels_too = [], [], [], [], [], [], []
    with quiet_collector():
        for number in range(2):
            adaptive.warm_up(Question("what is shown?", images[number], id=str(number)))
        for number in range(-3, asked.pairs):
            text = f"what is shown in picture {number % len(images)}, asked for time {number}?"
            question = Question(text, images[number % len(images)], id=str(number))
            adaptive.policy = chooser
            first = adaptive.generate(question, budget_ms=1e4)
            set_before.number = first.choice
            answers = {}
            for policy in order.sample([chooser, with_pixels, set_before], 3):
                adaptive.policy = policy
                answers[policy.name] = adaptive.generate(question, budget_ms=1e4)
            if number < 0:
                continue
            chosen, fixed = answers["grpo"], answers["set beforehand"]
            assert chosen.choice == fixed.choice
            decision = chosen.sample.decision
            assert decision is not None
            extra.append(chosen.spent_ms - fixed.sample.stages.total_ms)
            totals.append(chosen.spent_ms)
            before.append(decision.before_ms)
            inside.append(decision.inside_ms)
            waited.append(decision.waited_ms)
            new_text.append(_deciding_ms(first))
            pixels_too.append(_deciding_ms(answers["grpo, pixels too"]))
    deciding = [b + i for b, i in zip(before, inside, strict=True)]
    figures = {
        "model": asked.model,
        "image_size": asked.image_size,
        "tokens": asked.tokens,
        "hidden_features": 2 * width,
        "total_ms": median_interval(totals),
        "deciding_ms": median_interval(deciding),
        "before_ms": median_interval(before),
        "inside_ms": median_interval(inside),
        "waited_ms": median_interval(waited),
        "deciding_new_text_ms": median_interval(new_text),
        "deciding_with_pixels_ms": median_interval(pixels_too),
        "more_than_set_beforehand_ms": median_interval(extra),
        "deciding_share_at_200_ms": median_interval(deciding).value / 200,
    }
    for name, value in figures.items():
        print(f"{name:28} {value}")
    target = record(asked.name, figures, describe(loaded.device))
    print(Path(target).name)


if __name__ == "__main__":
    main()
