"""The total from its stages: N - 1 steps, the sum of medians, a bound that holds, and a distribution of tokens."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.errors import LaptimeError
from laptime.estimate.total import TotalEstimator
from tests.estimate.log_linear import LogLinear


def run_table(seed: int = 0, *, together: bool = False) -> pl.DataFrame:
    """Stages with lognormal noise, independent or in step, and totals that add up."""
    rng = np.random.default_rng(seed)
    rows = []
    for prompt in (64, 128, 256, 512):
        for blocks in (8, 12, 16):
            for _ in range(30):
                shared = rng.normal()
                noise = [np.exp(0.1 * (shared if together else rng.normal())) for _ in range(3)]
                n = int(rng.integers(1, 20))
                prefill, step, other = 0.05 * prompt * noise[0], 0.4 * blocks * noise[1], 1.0 * noise[2]
                rows.append((prompt, blocks, n, prefill, step, other, prefill + (n - 1) * step + other))
    names = ["prompt", "blocks", "output_tokens", "prefill_ms", "decode_per_token_ms", "other_ms", "total_ms"]
    return pl.DataFrame(rows, schema=names, orient="row")


def stages(table: pl.DataFrame) -> dict[str, LogLinear]:
    targets = {"prefill": "prefill_ms", "decode_per_token": "decode_per_token_ms", "other": "other_ms"}
    return {name: LogLinear(target, ["prompt", "blocks"]).fit(table) for name, target in targets.items()}


MADE = stages(run_table())
TOTAL = TotalEstimator(MADE)
ASKED = run_table(1)


def test_the_median_is_the_sum_with_one_step_less_than_tokens():
    by_hand = MADE["prefill"].predict(ASKED) + MADE["other"].predict(ASKED)
    by_hand += (ASKED["output_tokens"].to_numpy() - 1) * MADE["decode_per_token"].predict(ASKED)
    assert TOTAL.predict(ASKED) == pytest.approx(by_hand)
    assert np.median(ASKED["total_ms"].to_numpy() / TOTAL.predict(ASKED)) == pytest.approx(1, abs=0.03)
    assert TOTAL.features == ["prompt", "blocks", "output_tokens"]


@pytest.mark.parametrize("together", [False, True])
def test_the_bound_holds_whether_stages_slow_down_together_or_not(together):
    made = TotalEstimator(stages(run_table(2, together=together)))
    fresh = run_table(3, together=together)
    coverage = (fresh["total_ms"].to_numpy() <= made.quantile(fresh, 0.95)).mean()
    assert 0.925 <= coverage <= (0.975 if together else 1.0)


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.sampled_from([0.5, 0.9, 0.95]))
def test_bound_and_probability_agree_for_a_distribution(tokens, q):
    made, row = TotalEstimator(MADE, tokens), ASKED.select("prompt", "blocks").head(1)
    bound = made.quantile(row, q)
    assert made.probability_within(row, bound) >= q - 1e-9
    assert made.probability_within(row, bound * 0.999) < q
    each = [TotalEstimator(MADE, [n]) for n in tokens]
    assert made.probability_within(row, bound) == pytest.approx(
        np.mean([one.probability_within(row, bound) for one in each])
    )
    assert min(one.quantile(row, q) for one in each) - 1e-9 <= bound <= max(one.quantile(row, q) for one in each) + 1e-9


def test_one_number_of_tokens_is_a_distribution_of_one():
    fixed = ASKED.with_columns(pl.lit(7).alias("output_tokens"))
    assert TotalEstimator(MADE, [7]).quantile(fixed, 0.95) == pytest.approx(TOTAL.quantile(fixed, 0.95))
    several = TOTAL.quantile(fixed, [0.5, 0.95])
    assert several[:, 1] == pytest.approx(TOTAL.quantile(fixed, 0.95))
    one = ASKED.with_columns(pl.lit(1).alias("output_tokens"))
    alone = MADE["prefill"].quantile(one, 0.95) + MADE["other"].quantile(one, 0.95)
    assert TOTAL.quantile(one, 0.95) == pytest.approx(alone)


def test_a_stage_that_promises_nothing_makes_the_total_promise_nothing():
    class Abstains(LogLinear):
        def quantile(self, frame, q):
            made = super().quantile(frame, q)
            return np.full_like(made, np.inf)

    silent = Abstains("decode_per_token_ms", ["prompt", "blocks"]).fit(run_table())
    made = TotalEstimator({**MADE, "decode_per_token": silent})
    rows = ASKED.with_columns(pl.Series("output_tokens", [1, 5] * (len(ASKED) // 2)))
    bound = made.quantile(rows, 0.95)
    assert np.isinf(bound[1::2]).all()
    assert np.isfinite(bound[::2]).all(), "one token needs no decode step"
    assert made.probability_within(rows, 1e9)[1] == 0


def test_support_is_the_worst_of_the_stages():
    far = pl.DataFrame({"prompt": [64, 9999], "blocks": [8, 8], "output_tokens": [3, 3]})
    assert [one.where for one in TOTAL.support(far)] == ["inside", "outside"]


def test_bad_input_is_one_line(tmp_path):
    with pytest.raises(LaptimeError, match="Give output_tokens=N, or a distribution"):
        TOTAL.predict(ASKED.drop("output_tokens"))
    with pytest.raises(LaptimeError, match="every count is 1 or more"):
        TOTAL.predict(ASKED.with_columns(pl.lit(0).alias("output_tokens")))
    with pytest.raises(LaptimeError, match="estimator of decode_per_token too"):
        TotalEstimator({"prefill": MADE["prefill"]})
    with pytest.raises(LaptimeError, match="list of counts"):
        TotalEstimator(MADE, [0, 3])
    with pytest.raises(LaptimeError, match="prefill and decode_per_token"):
        TotalEstimator.load(tmp_path)
    with pytest.raises(LaptimeError, match="a budget is above 0"):
        TOTAL.probability_within(ASKED, 0.0)
