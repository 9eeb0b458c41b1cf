"""A total of an answer length that no answer had: unknown after one length, beyond and wider after several."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from laptime.estimate.answer_lengths import AnswerLengths
from laptime.estimate.budget import budget
from laptime.estimate.prediction import predict
from laptime.estimate.run_fit import FittedRun, fit_run

SIZES = {"prompt_tokens": 128, "config.blocks": 8}


def run(lengths: tuple[int, ...]) -> FittedRun:
    """A run of twelve configurations, four answers of each length."""
    rng = np.random.default_rng(0)
    rows = []
    for config, (prompt, blocks) in enumerate((p, b) for p in (64, 128, 256, 512) for b in (4, 8, 16)):
        for n in lengths * 4:
            prefill, step, other = np.array([0.05 * prompt, 0.4 * blocks, 1.0]) * np.exp(0.02 * rng.normal(size=3))
            rows.append((f"c{config}", prompt, blocks, n, prefill, step, other, prefill + (n - 1) * step + other))
    names = ["config_id", "prompt_tokens", "config.blocks", "output_tokens"]
    names += ["prefill_ms", "decode_per_token_ms", "other_ms", "total_ms"]
    return fit_run(pl.DataFrame(rows, schema=names, orient="row"))


@pytest.fixture(scope="module")
def one() -> FittedRun:
    return run((16,))


def test_after_one_length_every_other_is_unknown(one: FittedRun) -> None:
    for tokens, known in ((16, True), (500, False), (4, False)):
        asked = {**SIZES, "output_tokens": tokens}
        answer = predict(one.predictor(), asked, budget_ms=1e9)
        assert answer.nothing_known is not known
        assert (answer.answers["support"][0] == "inside") is known
        report = budget(one.predictor(), asked, 1e9)
        assert (report.feasible, report.rules[1].admitted) == ((1, 1) if known else (0, 0)), "no rule guesses it"
    whole = predict(one.targets["total_ms"].estimator, {**SIZES, "output_tokens": 500})
    assert whole.unknown == ["output_tokens is 500, but was always 16 in training"]


def test_of_a_distribution_every_length_is_asked(one: FittedRun) -> None:
    assert predict(one.predictor([16, 16]), SIZES).unknown == [None]
    assert predict(one.predictor([4, 16, 32]), SIZES).unknown == [
        "output_tokens is 4, 32, but was always 16 in training"
    ]


def test_after_several_lengths_longer_ones_are_beyond_and_their_bounds_wider() -> None:
    total = run((8, 16, 32)).predictor()
    asked = pl.DataFrame({name: [value] * 5 for name, value in SIZES.items()})
    asked = asked.with_columns(pl.Series("output_tokens", [4, 12, 32, 38, 500]))
    assert [one.where for one in total.support(asked)] == ["outside", "inside", "inside", "near", "outside"]
    over = total.quantile(asked, 0.95) / total.predict(asked)
    assert over[1] == pytest.approx(over[2], rel=0.02)
    assert over[2] < over[3] < over[4]
    alike = asked.with_columns(pl.lit(500).alias("output_tokens"))
    assert total.quantile(alike, [0.5, 0.95])[0, 1] == pytest.approx(total.quantile(alike, 0.95)[0])


def test_a_step_grows_in_proportion_to_the_cache_at_most() -> None:
    """A cache of 100 + 200 tokens in the middle of the longest answer, 100 + 400 in that of twice its length."""
    prompts = pl.DataFrame({"prompt_tokens": [100]})
    raised = AnswerLengths(10, 400).above(np.array([[800.0]]), prompts)
    assert raised[0, 0] == pytest.approx(np.log(500 / 300), abs=0.05)
    assert raised[0, 0] > np.log(500 / 300)
    assert AnswerLengths(10, 400).above(np.array([[10.0, 399.0]]), prompts).tolist() == [[0.0, 0.0]]
