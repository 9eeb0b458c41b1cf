"""A policy that looks at hidden states of a model on a GPU decides on what the early block gave there."""

from itertools import pairwise

import numpy as np
import pytest

from laptime.control.adaptive_model import AdaptiveModel
from laptime.control.policies.learned import GrpoPolicy
from laptime.control.policies.network import Network, early_sizes, late_sizes
from laptime.control.policies.policy import Needs
from laptime.control.tables.collection import collect_features
from tests.control.adaptive import SPACE, Scripted, bounds_of, question
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
    model = loaded("llava_next")
    model.model.to("cuda")
    return model


def test_a_late_decision_is_the_policys_own_on_the_devices_hidden_states(tiny):
    hidden = 2 * tiny.model.config.get_text_config().hidden_size
    bounds = bounds_of([60_000.0] * len(SPACE))
    chosen = []
    for seed in range(12):
        policy = a_policy(hidden, seed)
        recorded = Scripted(policy.decide, hidden=True)
        answer = AdaptiveModel(tiny, policy, bounds).generate(question(seed), budget_ms=70_000)
        again = AdaptiveModel(tiny, recorded, bounds).generate(question(seed), budget_ms=70_000)
        late = recorded.seen[-1]
        assert late.hidden.shape == (hidden,)
        collected = collect_features(tiny, [question(seed)], SPACE).hidden[0, late.tier]
        np.testing.assert_allclose(late.hidden, collected, atol=1e-3)
        assert answer.choice == again.choice == policy.decide(late, recorded.budgets[-1])
        assert answer.text == again.text
        chosen.append(answer.choice)
    assert len(set(chosen)) > 2  # hidden states and questions make a difference
