"""The Estimator through its public door: learn a small table, ask about rows that were never run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

import laptime
from laptime.errors import LaptimeError
from tests.estimate.latency_table import FEATURES, latency_table


@pytest.fixture(scope="module")
def fitted() -> laptime.Estimator:
    return made().fit(latency_table())


def made(**changes: object) -> laptime.Estimator:
    arguments = {"target": "ms", "features": FEATURES, "categorical": ["gpu"], "group": ["config"]}
    return laptime.Estimator(**(arguments | changes))  # type: ignore[arg-type]


def larger(batch: int) -> pl.DataFrame:
    """Rows whose batch no training row had."""
    return latency_table(configs=9).with_columns(batch=pl.lit(batch, pl.Int64))


def test_unseen_configurations_are_predicted_to_their_noise(fitted: laptime.Estimator) -> None:
    other = latency_table(configs=60, seed=1, noise=0.0)
    asked = other.filter([one.where == "inside" for one in fitted.support(other)])
    assert len(asked) > 60
    error = np.abs(fitted.predict(asked) / asked["ms"].to_numpy() - 1)
    assert np.median(error) < 0.02
    assert error.mean() < 0.04


def test_the_bound_covers_what_it_says_on_new_configurations(fitted: laptime.Estimator) -> None:
    other = latency_table(configs=150, seed=2)
    covered = np.mean(other["ms"].to_numpy() <= fitted.quantile(other, 0.9))
    assert 0.8 <= covered <= 0.99  # of 300 rows, around 0.9


def test_bounds_and_probabilities_are_inverse_functions(fitted: laptime.Estimator) -> None:
    """Inside and outside the domain, for every level: P(T <= bound(q)) >= q, and just below the bound it is not."""
    rows = pl.concat(
        [latency_table(configs=30, seed=3), latency_table(configs=9).with_columns(batch=pl.lit(4096, pl.Int64))]
    )
    levels = np.linspace(0.02, 0.97, 39)
    bounds = fitted.quantile(rows, levels)
    assert bounds.shape == (len(rows), len(levels))
    assert (bounds[:, 1:] >= bounds[:, :-1]).all()
    assert np.isfinite(bounds).mean() > 0.5
    for column, level in enumerate(levels):
        given = np.isfinite(bounds[:, column])
        some, budget = rows.filter(pl.Series(given)), bounds[given, column]
        assert (fitted.probability_within(some, budget) >= level - 1e-12).all()
        assert (fitted.probability_within(some, budget * (1 - 1e-6)) < level).all()


def test_a_larger_budget_is_never_less_probable(fitted: laptime.Estimator) -> None:
    row = latency_table(configs=4, seed=4).head(1)
    budgets = np.geomspace(1, 1000, 200)
    shares = fitted.probability_within(pl.concat([row] * 200), budgets)
    assert (np.diff(shares) >= 0).all()
    assert shares[0] == 0 < shares[-1] < 1


def test_beyond_the_sizes_it_says_so_and_widens(fitted: laptime.Estimator) -> None:
    rows = pl.DataFrame({"batch": [16, 64, 512], "context": [1024, 2100, 8000], "gpu": ["fast"] * 3})
    support = fitted.support(rows)
    assert [one.where for one in support] == ["inside", "near", "outside"]
    assert [one.question for one in support] == ["inside", "beyond", "beyond"]
    assert support[2].distance > support[1].distance > 0
    width = fitted.quantile(rows, 0.9) / fitted.predict(rows)
    assert width[2] > width[1] > width[0]


def test_an_unseen_level_is_bounded_by_held_out_levels(fitted: laptime.Estimator) -> None:
    rows = latency_table(configs=12).with_columns(gpu=pl.lit("next year's"))
    assert {one.question for one in fitted.support(rows)} == {"level"}
    known = fitted.quantile(latency_table(configs=12), 0.9) / fitted.predict(latency_table(configs=12))
    assert (fitted.quantile(rows, 0.9) / fitted.predict(rows)).min() > known.max()


def test_a_new_level_is_bounded_by_levels_of_its_own_column_alone() -> None:
    """Three levels of `gpu` bound a fourth one; two of `engine` say too little, whatever `gpu` showed."""
    table = latency_table(configs=120).with_columns(engine=pl.Series(["eager", "graph"] * 120))
    estimator = made(categorical=["gpu", "engine"]).fit(table)
    new = table.head(1).with_columns(gpu=pl.lit("new"))
    other = table.head(1).with_columns(engine=pl.lit("new"))
    assert np.isfinite(estimator.quantile(new, 0.5)).all()
    assert np.isinf(estimator.quantile(other, 0.5)).all()
    assert np.isinf(estimator.quantile(other.with_columns(gpu=pl.lit("new")), 0.5)).all()
    assert "gpu" in str(estimator.bases(new)[0])
    assert "engine eager" not in str(estimator.bases(new)[0])
    assert "too few to check a bound" in str(estimator.bases(other)[0])
    assert any("a value of engine that was not seen gets no bound: 2 held-out ones" in n for n in estimator.card.notes)


def test_a_feature_that_never_varied_gets_no_bound_when_it_does() -> None:
    table = latency_table().with_columns(dtype=pl.lit("bf16"))
    estimator = made(categorical=["gpu", "dtype"]).fit(table)
    assert any("'dtype' is constant" in note for note in estimator.card.notes)
    other = table.with_columns(dtype=pl.lit("fp8"))
    assert {one.question for one in estimator.support(other)} == {"unknown"}
    assert np.isinf(estimator.quantile(other, 0.5)).all()
    assert (estimator.probability_within(other, 1e9) == 0).all()
    assert np.isfinite(estimator.quantile(table, 0.5)).all()


def test_held_out_groups_bound_a_group_that_was_never_seen() -> None:
    """Group = GPU, known by its speed alone: LOGO residuals are wider than those of other configurations."""
    speeds = {"fast": 2.0, "middle": 1.25, "slow": 1.0}
    table = latency_table(configs=120).with_columns(speed=pl.col("gpu").replace_strict(speeds))
    estimator = made(features=[*FEATURES, "speed"], categorical=[], group=["gpu"]).fit(table)
    known, unknown = (
        estimator.support(table.head(1)),
        estimator.support(table.head(1).with_columns(gpu=pl.lit("new"), speed=pl.lit(1.5))),
    )
    assert (known[0].question, known[0].group) == ("inside", "gpu=fast")
    assert (unknown[0].question, unknown[0].group) == ("group", None)
    sibling = estimator.support(table.head(1).with_columns(gpu=pl.lit("new")))
    assert sibling[0].question == "sibling"  # another name, but all that is known of it was seen
    (said,) = estimator.bases(table.head(1).with_columns(gpu=pl.lit("new")))
    assert said is not None
    assert said.startswith("gpu new was never measured: 3 others were held out in turn (gpu=")
    two = table.filter(pl.col("gpu") != "slow")
    (few,) = (
        made(features=FEATURES, categorical=[], group=["gpu"])
        .fit(two)
        .bases(table.filter(pl.col("gpu") == "slow").head(1))
    )
    assert few is not None
    assert "2 others were held out in turn (gpu=fast, gpu=middle); too few to check a bound" in few


def test_the_card_says_what_was_compared_and_chosen(fitted: laptime.Estimator) -> None:
    card = fitted.card
    assert (card.target, card.rows, card.configurations, card.groups) == ("ms", 180, 90, 90)
    assert card.levels == {"gpu": ["fast", "middle", "slow"]}
    inside = [score for score in card.scores if score.question == "inside"]
    assert len(inside) > 10
    assert min(inside, key=lambda score: score.error).chosen
    assert sum(score.chosen for score in inside) == 1
    assert {choice.question for choice in card.choices} == {"inside", "beyond", "level"}
    assert next(choice for choice in card.choices if choice.question == "inside").residuals == 180


def test_the_same_seed_gives_the_same_estimator(fitted: laptime.Estimator, tmp_path: Path) -> None:
    again = made().fit(pd.DataFrame(latency_table().to_dict(as_series=False)), threads=2)
    again.save(tmp_path / "again")
    fitted.save(tmp_path / "first")
    for file in sorted((tmp_path / "first").iterdir()):
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_polars_pandas_dict_and_file_are_the_same_table(fitted: laptime.Estimator, tmp_path: Path) -> None:
    table = latency_table(configs=10, seed=5)
    table.write_parquet(tmp_path / "table.parquet")
    wanted = fitted.predict(table)
    for same in (pd.DataFrame(table.to_dict(as_series=False)), table.lazy(), table.to_dict(as_series=False)):
        assert (fitted.predict(same) == wanted).all()
    assert (fitted.predict(tmp_path / "table.parquet") == wanted).all()


def change(**columns: object) -> pl.DataFrame:
    """The table with other columns."""
    return latency_table().with_columns(**{name: pl.Series(value) for name, value in columns.items()})  # type: ignore[arg-type]


N = len(latency_table())
MS = latency_table()["ms"].to_list()
BAD = [
    ({}, change(ms=[0.0, 0.0, *MS[2:]]), "target 'ms': 2 of 180 values are zero (first: row 1)"),
    ({}, change(ms=[*MS[:-1], -1.0]), "1 of 180 values are negative (first: row 180)"),
    ({}, change(ms=[1.0, float("nan"), *MS[2:]]), "1 of 180 values are missing or NaN (first: row 2)"),
    ({}, change(ms=[float("inf"), *MS[1:]]), "infinite"),
    ({}, change(ms=["fast"] * N), "target 'ms' holds text ('fast')"),
    ({}, change(batch=[None, *latency_table()["batch"].to_list()[1:]]), "feature 'batch': 1 of 180 values are missing"),
    ({}, latency_table().head(19), "19 rows are too few"),
    ({"group": ["device"]}, change(device=["one"] * N), "one group only (device=one)"),
    ({"features": ["bacth"]}, latency_table(), "no column 'bacth'; did you mean batch?"),
    ({"features": [], "categorical": []}, latency_table(), "no features"),
    ({"features": ["ms"]}, latency_table(), "is the target and a feature too"),
    (
        {"features": ["flat"], "categorical": [], "group": []},
        change(flat=[3.0] * N),
        "every feature is constant (flat)",
    ),
    ({}, change(ms=[v / 1000 if i % 7 == 0 else v for i, v in enumerate(MS)]), "seems to mix units: 26 of 180"),
    ({}, change(total_ms=[v / 1000 for v in MS], decode_ms=MS), "decode_ms exceeds total_ms many times"),
    ({}, [1, 2], "list is no table"),
]


@pytest.mark.parametrize(("arguments", "table", "line"), BAD, ids=[line[:40] for *_, line in BAD])
def test_a_table_that_cannot_be_learnt_from_is_one_clear_line(
    arguments: dict[str, object], table: object, line: str
) -> None:
    with pytest.raises(LaptimeError) as caught:
        made(**arguments).fit(table)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_questions_that_have_no_answer_are_one_clear_line(fitted: laptime.Estimator) -> None:
    row = latency_table().head(1)
    for ask, line in (
        (lambda: made().predict(row), "not fitted yet"),
        (lambda: fitted.predict(row.drop("batch")), "no column 'batch'"),
        (lambda: fitted.predict(row.with_columns(batch=pl.lit("many"))), "feature 'batch' holds text"),
        (lambda: fitted.quantile(row, 1.0), "above 0 and below 1"),
        (lambda: fitted.quantile(row, [0.5, 0.0]), "above 0 and below 1"),
        (lambda: fitted.probability_within(row, 0.0), "a budget is above 0"),
    ):
        with pytest.raises(LaptimeError, match=line):
            ask()


def test_a_few_rows_without_groups_are_enough() -> None:
    rows = latency_table(configs=24, repeats=1)
    estimator = made(group=[], categorical=[]).fit(rows.filter(pl.col("gpu") == "fast").vstack(rows.head(16)))
    assert np.isfinite(estimator.predict(rows)).all()
    assert np.isinf(estimator.quantile(rows, 0.99)).all()  # 24 residuals can't promise 99 %


def test_a_categorical_table_needs_no_numbers() -> None:
    rng = np.random.default_rng(0)
    kinds, sides = rng.choice(["a", "b", "c", "d"], 400), rng.choice(["x", "y"], 400)
    ms = np.array([{"a": 1, "b": 2, "c": 4, "d": 8}[k] for k in kinds]) * np.where(sides == "x", 1, 3)
    table = pl.DataFrame({"kind": kinds, "side": sides, "ms": ms * np.exp(0.01 * rng.standard_normal(400))})
    estimator = laptime.Estimator(target="ms", features=["kind", "side"]).fit(table, threads=1)
    assert np.abs(estimator.predict(table) / ms - 1).max() < 0.05


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "many", None])
def test_a_value_that_is_no_number_is_one_line(fitted: laptime.Estimator, value: object) -> None:
    asked = pl.DataFrame({"batch": [value], "context": [1024], "gpu": ["fast"]}, strict=False)
    with pytest.raises(LaptimeError, match="feature 'batch'"):
        fitted.predict(asked)


def test_many_rows_of_few_values_are_predicted_as_each_alone(fitted: laptime.Estimator) -> None:
    rows = latency_table(configs=200, seed=8)
    alone = np.concatenate([fitted.predict(rows[place : place + 1]) for place in range(0, len(rows), 7)])
    assert fitted.predict(rows)[::7] == pytest.approx(alone, rel=1e-12)
