"""Decode by position: rows from the gaps between tokens, and the mean step of an answer of any length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from laptime.estimate.table.positions import CONTEXT, SEGMENTS, TARGET, DecodeByPosition, by_position
from laptime.estimate.total import TotalEstimator
from tests.cli.estimates import ask
from tests.estimate.log_linear import LogLinear


def step_ms(context: Any) -> Any:
    """The law: a step costs 2 ms and a hundredth for each token in the cache."""
    return 2.0 + 0.01 * context


def run_frame(*, tokens: tuple[int, ...] = (2, 8, 64), noise: float = 0.0) -> pl.DataFrame:
    """What a run that marks every token leaves; the gaps hold 0.5 ms of sampling beside the step."""
    rng = np.random.default_rng(0)
    rows = []
    for prompt in (64, 128, 256, 512):
        for n in tokens:
            for repeat in range(3):
                steps = step_ms(prompt + np.arange(n - 1)) * np.exp(noise * rng.standard_normal())
                prefill, other = 3.0 + 0.01 * prompt, 0.5 * (n - 1)
                rows.append(
                    {
                        "config_id": f"{prompt}/{n}", "sample_id": "s", "repeat": repeat, "worker": "0",
                        "vision_ms": 0.0, "prefill_ms": prefill, "decode_ms": float(steps.sum()), "other_ms": other,
                        "total_ms": prefill + float(steps.sum()) + other, "itl_ms": (steps + 0.5).tolist(),
                        "output_tokens": n, "decode_forwards": n - 1, "prompt_tokens": prompt, "image_tokens": 0,
                        "batch": 1, "flags": "", "config.prompt_tokens": prompt, "config.new_tokens": n,
                    }
                )  # fmt: skip
    return pl.DataFrame(rows)


def test_rows_are_stretches_whose_mean_steps_make_the_decode() -> None:
    frame = run_frame()
    found = by_position(frame)
    assert found is not None
    assert len(found) == 4 * 3 * (1 + SEGMENTS + SEGMENTS)
    for (prompt, n), rows in found.filter(pl.col("repeat") == 0).group_by("prompt_tokens", "output_tokens"):
        sizes = [len(part) for part in np.array_split(np.arange(n - 1), min(SEGMENTS, n - 1))]
        decode = sum(size * ms for size, ms in zip(sizes, rows.sort(CONTEXT)[TARGET], strict=True))
        assert decode == pytest.approx(rows["decode_ms"][0])
        assert rows[TARGET].to_numpy() == pytest.approx(step_ms(rows[CONTEXT].to_numpy()), rel=0.03), (prompt, n)


def test_without_gaps_there_are_no_rows() -> None:
    frame = run_frame()
    assert by_position(frame.drop("itl_ms")) is None
    assert by_position(frame.with_columns(pl.lit(None, pl.List(pl.Float64)).alias("itl_ms"))) is None
    assert by_position(frame.with_columns(pl.lit([], pl.List(pl.Float64)).alias("itl_ms"))) is None


class Law(LogLinear):
    """Answers with the law itself."""

    def predict(self, frame: pl.DataFrame) -> Any:
        return step_ms(frame[CONTEXT].to_numpy())


@pytest.mark.parametrize("n", [1, 2, 3, 5, 64, 1000])
def test_the_mean_step_of_an_answer_is_that_of_its_positions(n: int) -> None:
    table = by_position(run_frame(noise=0.05))
    assert table is not None
    made = DecodeByPosition(Law(TARGET, [CONTEXT]).fit(table))
    asked = pl.DataFrame({"prompt_tokens": [100, 300], "output_tokens": [n, n]})
    contexts = np.array([100, 300])[:, None] + np.arange(max(n - 1, 1))
    assert made.predict(asked) == pytest.approx(step_ms(contexts).mean(axis=1))
    assert made.features == ["prompt_tokens", "output_tokens"]
    bound = made.quantile(asked, 0.9)
    assert (made.probability_within(asked, bound) >= 0.9 - 1e-9).all()
    assert (made.probability_within(asked, bound * 0.9) < 0.9).all()
    assert (made.probability_within(asked, bound * 1e-3) == 0).all()
    assert made.quantile(asked, [0.5, 0.9]).shape == (2, 2)


def test_the_worst_stretch_says_how_it_is_supported() -> None:
    table = by_position(run_frame(noise=0.05))
    assert table is not None
    made = DecodeByPosition(LogLinear(TARGET, [CONTEXT]).fit(table))
    asked = pl.DataFrame({"prompt_tokens": [100, 100], "output_tokens": [8, 4000]})
    assert [one.where for one in made.support(asked)] == ["inside", "outside"]


def test_fit_learns_positions_of_a_run_that_marked_every_token(tmp_path: Path, capsys: Any) -> None:
    """A total for an answer eight times as long as any that was measured."""
    run_frame(noise=0.01).write_parquet(tmp_path / "run.parquet")
    code, out, _ = ask(capsys, "fit", tmp_path / "run.parquet", "--out", tmp_path / "est", "--json")
    cards = json.loads(out)["estimators"]
    assert code == 0
    assert CONTEXT in cards[str(tmp_path / "est" / "decode_by_position")]["features"]
    total = TotalEstimator.load(tmp_path / "est")
    asked = pl.DataFrame({"prompt_tokens": [128], "output_tokens": [256], "config.new_tokens": [256]})
    truth = 3 + 1.28 + step_ms(128 + np.arange(255)).sum() + 0.5 * 255
    assert isinstance(total.stages["decode_per_token"], DecodeByPosition)
    assert total.predict(asked)[0] == pytest.approx(truth, rel=0.1)
    spread = TotalEstimator.load(tmp_path / "est", [2, 64])
    assert "output_tokens" not in spread.features
    measured = asked.with_columns(pl.lit(64).alias("config.new_tokens"))
    assert 0.4 < spread.probability_within(measured, 60.0)[0] < 0.6, "only the short answer fits"
