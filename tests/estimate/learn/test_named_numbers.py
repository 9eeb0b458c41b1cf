"""Numbers that are names: between two of them nothing is interpolated."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

import laptime
from laptime.data.stats import Floats
from laptime.estimate.prediction import predict

SIZES = [1, 2, 4, 8, 16, 32]


def table(factors: dict[float, float]) -> pl.DataFrame:
    """Times of models by their numbers: a factor each, times a smooth law of two sizes, with 2 % noise."""
    rng = np.random.default_rng(0)
    rows = [
        {"model": model, "batch": batch, "prompt": prompt, "ms": factor * (5 + batch * prompt / 200)}
        for model, factor in factors.items()
        for batch in SIZES
        for prompt in (64, 256, 512)
    ]
    frame = pl.DataFrame(rows)
    return frame.with_columns(ms=frame["ms"] * np.exp(rng.normal(0, 0.02, len(frame))))


def fitted(factors: dict[float, float]) -> laptime.Estimator:
    return laptime.Estimator(target="ms", features=["model", "batch", "prompt"]).fit(table(factors))


def ask(*models: float) -> pl.DataFrame:
    return pl.DataFrame({"model": models, "batch": [4] * len(models), "prompt": [256] * len(models)})


@pytest.fixture(scope="module")
def names() -> laptime.Estimator:
    return fitted({7: 3, 13: 1, 34: 9, 70: 2})


def bounds(estimator: laptime.Estimator, asked: pl.DataFrame) -> Floats:
    return estimator.quantile(asked, 0.95)


def test_a_number_between_names_is_not_inside_and_has_no_bound(names: laptime.Estimator) -> None:
    asked = ask(20, 13)
    assert [(one.where, one.question) for one in names.support(asked)] == [("outside", "level"), ("inside", "inside")]
    assert np.isinf(bounds(names, asked)[0])
    assert bounds(names, asked)[1] < 1.2 * names.predict(asked)[1]
    assert "model 20 was never measured" in str(names.bases(asked)[0])
    assert any("don't follow the numbers of model" in note for note in names.card.notes)


def test_between_sizes_it_is_interpolated_as_before() -> None:
    sizes = fitted({7: 1, 13: 1.8, 34: 4.9, 70: 10})
    smooth = fitted({k: 2 + np.cos(k / 3) for k in range(1, 13)})  # rises and falls, but slowly from one to the next
    for estimator, asked in ((sizes, ask(20)), (smooth, ask(6.5))):
        assert [one.where for one in estimator.support(asked)] == ["inside"]
        assert np.isfinite(bounds(estimator, asked)).all()
        assert not estimator.fitted.named


def test_it_answers_alike_after_loading_and_refuses_names_that_lie(names: laptime.Estimator, tmp_path: Path) -> None:
    names.save(tmp_path / "est")
    loaded = laptime.Estimator.load(tmp_path / "est")
    asked = ask(7.0, 20.0, 33.5, 70.0, 100.0)
    assert loaded.support(asked) == names.support(asked)
    assert (bounds(loaded, asked) == bounds(names, asked)).all()
    manifest = tmp_path / "est" / "estimator.json"
    for lie in ([{"column": 3, "values": [1, 2]}], [{"column": 0, "values": [2, 1]}], [{"column": 0, "values": []}]):
        changed = msgspec.json.decode(manifest.read_bytes()) | {"named": lie}
        manifest.write_bytes(msgspec.json.encode(changed))
        with pytest.raises(laptime.LaptimeError, match="columns of names"):
            laptime.Estimator.load(tmp_path / "est")


def test_budget_and_predict_say_what_was_left_out(names: laptime.Estimator) -> None:
    asked = {"model": [20], "batch": [4], "prompt": [256]}
    answer = laptime.budget(names, asked, 1e6).answers[0]
    assert not answer.within
    assert answer.bound_ms is None
    assert "model 20 was never measured: 4 others were held out" in (answer.basis or "")
    assert predict(names, asked).answers["basis"][0] == answer.basis
