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


def of_numbers(factors: list[float], batches: list[int], *, calls: int = 1) -> laptime.Estimator:
    """Fitted on the numbers 0, 2, 4, ... with a factor each."""
    rng = np.random.default_rng(0)
    rows = [
        {"id": 2 * i, "batch": batch, "ms": factor * batch**0.8 * np.exp(rng.normal(0, 0.02))}
        for i, factor in enumerate(factors)
        for batch in batches
        for _ in range(calls)
    ]
    return laptime.Estimator(target="ms", features=["id", "batch"]).fit(pl.DataFrame(rows))


def supported(estimator: laptime.Estimator, numbers: list[int]) -> set[str]:
    asked = pl.DataFrame({"id": numbers, "batch": [4] * len(numbers)})
    found = {one.where for one in estimator.support(asked)}
    assert found == {"inside"} or np.isinf(bounds(estimator, asked)).all()
    return found


@pytest.mark.parametrize(
    "factors",
    [[9, 1, 4], [72, 21, 6.7, 9], [72, 21, 6.7, 7.2, 24], np.random.default_rng(1).lognormal(3, 1, 70).tolist()],
    ids=["three", "four, that fall and rise", "five, that fall and rise", "seventy"],
)
def test_few_and_many_names_are_names_too(factors: list[float]) -> None:
    few = len(factors) < 6
    estimator = of_numbers(factors, [1, 2, 4, 8, 16] if few else [1, 4, 8], calls=2 if few else 1)
    assert supported(estimator, list(range(1, 2 * len(factors) - 1, 2))) == {"outside"}
    assert supported(estimator, [2 * i for i in range(len(factors))]) == {"inside"}


def test_where_too_few_rows_are_left_to_test_numbers_a_note_says_so() -> None:
    notes = of_numbers([9, 1, 4], [1, 2, 4, 8], calls=2).card.notes
    assert any("rise and fall with the numbers of id, and there are too few rows to leave one out" in n for n in notes)


@pytest.mark.parametrize("count", [3, 4, 70])
def test_few_and_many_sizes_whose_times_rise_or_fall_throughout_are_interpolated(count: int) -> None:
    batches, calls = ([1, 2, 4, 8, 16], 2) if count < 6 else ([1, 4, 8], 1)
    for factors in ([5.0 + i for i in range(count)], [5 + 300 / (10 + i) for i in range(count)], [7.0] * count):
        estimator = of_numbers(factors, batches, calls=calls)
        assert supported(estimator, [1, 3]) == {"inside"}
        assert not estimator.fitted.named


def test_a_dip_of_less_than_a_tenth_makes_no_names_of_three_sizes() -> None:
    assert supported(of_numbers([10, 7, 7.4], [1, 2, 4, 8, 16], calls=2), [1, 3]) == {"inside"}


def test_each_of_two_columns_of_names_is_found() -> None:
    rng = np.random.default_rng(2)
    of_a, of_b = [72, 21, 6.7, 7.2, 24, 35], [8, 19, 7, 14, 27, 5]
    rows = [
        {"a": 2 * i, "b": 2 * j, "batch": batch, "ms": of_a[i] * of_b[j] * batch**0.5 * np.exp(rng.normal(0, 0.02))}
        for i in range(6)
        for j in range(6)
        for batch in (1, 4)
    ]
    estimator = laptime.Estimator(target="ms", features=["a", "b", "batch"]).fit(pl.DataFrame(rows))
    asked = pl.DataFrame({"a": [1, 2, 5, 2], "b": [2, 5, 5, 2], "batch": [4] * 4})
    assert [one.question for one in estimator.support(asked)] == ["level", "level", "level", "inside"]
    assert np.isinf(bounds(estimator, asked)).tolist() == [True, True, True, False]
