"""Short names of columns, and what an estimator says that it needs."""

from __future__ import annotations

import polars as pl
import pytest

import laptime
from laptime.errors import LaptimeError
from laptime.estimate.prediction import predict


@pytest.fixture(scope="module")
def estimator():
    rows = [
        (k, p, (2 + k) * (1 + p / 500) * (1 + 0.01 * n)) for k in (1, 2, 4, 8) for p in (64, 256, 512) for n in range(3)
    ]
    frame = pl.DataFrame(rows, schema=["config.top_k", "prompt_tokens", "total_ms"], orient="row")
    fitted = laptime.fit_run(frame, target="total_ms", features=["config.top_k", "prompt_tokens"])
    return fitted.predictor()


def test_a_short_name_is_the_column_that_it_ends(estimator):
    full = predict(estimator, {"config.top_k": [1, 4], "prompt_tokens": 256}).answers
    assert predict(estimator, {"top_k": [1, 4], "prompt_tokens": 256}).answers.equals(full)
    assert predict(estimator, pl.DataFrame({"top_k": [1, 4], "prompt_tokens": [256, 256]})).answers.equals(full)
    asked = {"top_k": [1, 2, 4, 8], "prompt_tokens": 256}
    assert laptime.budget(estimator, asked, budget_ms=9).asked == 4


def test_a_typo_is_named_and_what_is_missing_is_listed(estimator):
    with pytest.raises(LaptimeError, match=r"knows no 'tokp_k'; did you mean .*top_k"):
        predict(estimator, {"tokp_k": 1, "prompt_tokens": 64})
    with pytest.raises(LaptimeError, match=r"prompt_tokens is missing; the estimator needs top_k, prompt_tokens"):
        predict(estimator, {"top_k": 1})
    with pytest.raises(LaptimeError, match=r"prompt_tokens is missing; the estimator needs top_k, prompt_tokens"):
        laptime.budget(estimator, {"top_k": [1, 2]}, budget_ms=9)


def test_what_is_missing_has_one_name_in_a_message(estimator):
    with pytest.raises(LaptimeError, match=r"^top_k is missing; the estimator needs top_k, prompt_tokens"):
        predict(estimator, {"prompt_tokens": 64})


def test_a_name_that_could_be_two_columns_is_refused():
    rows = [(a, b, 1.0 + a + b) for a in (1, 2, 3, 4) for b in (1, 2, 3, 4) for _ in range(3)]
    frame = pl.DataFrame(rows, schema=["x.size", "y.size", "ms"], orient="row")
    predictor = laptime.fit_run(frame, target="ms", features=["x.size", "y.size"]).predictor()
    with pytest.raises(LaptimeError, match=r"knows no 'size'; did you mean"):
        predict(predictor, {"size": 1, "y.size": 2})
