"""How long a sweep is thought to take."""

import pytest

from laptime.sweeps.dry_run import estimate_time
from laptime.sweeps.plan import ModelSize
from laptime.sweeps.schedule import visits
from tests.samples import sample
from tests.sweeps.plans import plan_of, sweep_config_of

SIZE = ModelSize(
    dense_weights=10**8, expert_weights=0, vision_weights=0, experts=0, blocks=8, prompt_widths={}
)  # fmt: skip


def estimate(plan, **changes):
    values = {"warmups": 10, "workers": 1, "size": SIZE, "cores": 2, "samples": ()}
    return estimate_time(visits(plan), **{**values, **changes})


def test_what_was_measured_decides_and_is_said(tmp_path):
    plan = plan_of(sweep_config_of(tmp_path, "model: m\nknobs: {blocks: [4, 8]}\n"), samples=5)
    measured = [sample(n, config=c.config) for n, c in enumerate(plan.configs)]  # 100 and 101 ms
    learned = estimate(plan, samples=measured)
    calls = 2 * 5 * 3 + 6 * 4  # pairs, and six visits of four warm-up calls
    assert learned.seconds == pytest.approx(8 + calls * 0.1005)
    assert "2 samples" in learned.basis
    assert estimate(plan, samples=measured, workers=2).seconds == pytest.approx(8 + calls * 0.1005 / 2)


def test_a_rough_guess_grows_with_the_work_and_says_that_it_is_one(tmp_path):
    def seconds(knobs, **changes):
        return estimate(plan_of(sweep_config_of(tmp_path, f"model: m\nknobs: {{{knobs}}}\n")), **changes)

    short, long = seconds("new_tokens: 4"), seconds("new_tokens: 400")
    assert short.low_s < short.seconds < short.high_s
    assert long.seconds > 10 * short.seconds / 8
    assert "rough" in short.basis
    assert seconds("new_tokens: 400", cores=None).seconds < long.seconds
    assert seconds("blocks: 4").seconds < seconds("blocks: 8").seconds
    assert estimate_time([], warmups=1, workers=4, size=SIZE, cores=2, samples=()).seconds == 0
