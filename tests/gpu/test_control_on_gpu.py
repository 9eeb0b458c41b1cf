"""A policy's look at hidden states, taken on the device: what it decides is what it would decide on the host."""

from itertools import pairwise

import numpy as np
import pytest

from laptime.control.adaptive_model import AdaptiveModel
from laptime.control.policies.learned import GrpoPolicy
from laptime.control.policies.network import Network, early_sizes, late_sizes
from laptime.control.policies.policy import Needs
from laptime.control.policies.ready import ReadyGrpo, ready
from tests.control.adaptive import SPACE, Told, bounds_of, question
from tests.workload.families import loaded

NEEDS = Needs(language=True, hidden=True)
WIDTH = 8


def a_policy(hidden, seed):
    """Random weights that look at the hidden states above all."""
    rng = np.random.default_rng(seed)

    def network(inputs, outputs):
        shapes = list(pairwise((inputs, WIDTH, outputs)))
        weights = tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)
        centre = rng.normal(size=inputs).astype(np.float32)
        return Network(centre, weights, tuple(np.zeros(out, np.float32) for _, out in shapes))

    early, late = early_sizes(SPACE, NEEDS, budget=True).total, late_sizes(SPACE, NEEDS, hidden, budget=True).total
    return GrpoPolicy(
        space=SPACE, needs=NEEDS, early=network(early, SPACE.first), late=network(late, SPACE.late), hidden=hidden
    )


@pytest.fixture(scope="module")
def tiny():
    made = loaded("llava_next")
    made.model.to("cuda")
    return made


def test_a_decision_from_products_on_the_device_is_the_policys_own(tiny):
    hidden = 2 * tiny.model.config.get_text_config().hidden_size
    bounds = bounds_of([60_000.0] * len(SPACE))
    chosen = []
    for seed in range(12):
        policy = a_policy(hidden, seed)
        assert isinstance(ready(policy), ReadyGrpo)
        raw = Told(policy.decide, hidden=True)
        adaptive = AdaptiveModel(tiny, policy, bounds)
        assert adaptive.policy is policy
        mine = adaptive.generate(question(seed), budget_ms=60_000)
        adaptive.policy = raw
        other = adaptive.generate(question(seed), budget_ms=60_000)
        assert raw.seen[-1].hidden.shape == (hidden,)
        assert mine.choice == other.choice
        assert mine.text == other.text
        chosen.append(mine.choice)
    assert len(set(chosen)) > 2  # hidden states and questions make a difference
