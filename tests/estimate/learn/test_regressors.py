"""Each kind of regressor on a law that it should learn, inside and beyond its sizes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from laptime.data.stats import Floats
from laptime.estimate.learn.process import Parameters, choose_parameters, equations_of, fit_process
from laptime.estimate.learn.regressors import Candidate, Training, fit_regressor
from laptime.estimate.table.table import Encoded


def training(values: Floats, log_ms: Floats, codes: np.ndarray | None = None) -> Training:
    known = np.zeros((len(values), 0), dtype=np.int64) if codes is None else codes.reshape(-1, 1)
    return Training(Encoded(values, known), log_ms, np.ones(len(values)))


def law(values: Floats) -> Floats:
    """2 ms, a cost per token and per pair of tokens."""
    tokens, width = values.T
    return np.asarray(np.log(2 + tokens * width / 5e4 + tokens**2 / 4e6))


@pytest.fixture
def sizes() -> Floats:
    rng = np.random.default_rng(0)
    return np.column_stack([rng.integers(1, 2048, 400), rng.choice([1024, 2048, 3000, 4096, 6000], 400)]).astype(float)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_a_roofline_finds_a_law_of_its_kind_and_goes_on_with_it(sizes: Floats, power: float) -> None:
    fitted = fit_regressor(training(sizes, law(sizes)), Candidate(power=power, residual="none"))
    far = np.array([[20_000.0, 8192.0], [50_000.0, 1024.0]])
    assert fitted.log_ms(Encoded(far, np.zeros((2, 0), dtype=np.int64))) == pytest.approx(law(far), abs=0.02)
    assert fitted.terms is not None
    assert all(rate >= 0 for rate in fitted.terms.rates)


@pytest.mark.parametrize(
    "candidate",
    [
        Candidate(power=None, residual="large"),
        Candidate(power=None, residual="process"),
        Candidate(power=1.0, residual="small"),
        Candidate(power=0.5, residual="large"),
        Candidate(power=0.0, residual="guided"),
        Candidate(power=1.0, residual="process"),
        Candidate(power=0.0, residual="process+large"),
    ],
    ids=lambda candidate: candidate.name,
)
def test_every_kind_learns_inside_its_sizes(sizes: Floats, candidate: Candidate) -> None:
    """The law times a level's factor that no roofline has."""
    levels = np.arange(len(sizes)) % 3
    log_ms = law(sizes) + np.array([0.0, 0.3, -0.2])[levels]
    data = training(sizes, log_ms, levels)
    held = np.arange(len(sizes)) % 5 == 0
    fitted = fit_regressor(data.take(~held), candidate, threads=1)
    assert np.mean(np.abs(fitted.log_ms(data.rows.take(held)) - log_ms[held])) < 0.06
    again = fit_regressor(data.take(~held), candidate, threads=2 if candidate.residual == "small" else 1)
    assert (again.log_ms(data.rows) == fitted.log_ms(data.rows)).all()


def test_without_categories_a_level_changes_nothing(sizes: Floats) -> None:
    levels = np.arange(len(sizes)) % 2
    data = training(sizes, law(sizes) + levels, levels)
    fitted = fit_regressor(data, Candidate(power=1.0, residual="process", categories=False))
    swapped = Encoded(sizes, 1 - data.rows.codes)
    assert (fitted.log_ms(swapped) == fitted.log_ms(data.rows)).all()


def test_what_is_known_of_two_gpus_gives_no_trend_but_a_size_of_two_values_does(sizes: Floats) -> None:
    """Watts that describe a level stay at the nearest known value; the same column without levels is a size."""
    second = np.arange(len(sizes)) % 2
    table = np.column_stack([sizes, np.where(second, 350.0, 400.0)])
    log_ms = law(sizes) + np.log(table[:, 2])
    near, far = np.array([[500.0, 2048.0, 400.0]]), np.array([[500.0, 2048.0, 800.0]])
    for codes, factor in ((second, 1.0), (None, 2.0)):
        fitted = fit_regressor(training(table, log_ms, codes), Candidate(power=1.0, residual="none"))
        level = np.zeros((1, 0 if codes is None else 1), dtype=np.int64)
        ratio = np.exp(fitted.log_ms(Encoded(far, level)) - fitted.log_ms(Encoded(near, level)))
        assert ratio == pytest.approx(factor, rel=0.1)


def test_the_process_is_the_one_of_scikit_learn() -> None:
    """One column, all rows as centres: (1 + a k) is a constant and a Matern kernel, which scikit-learn has too."""
    rng = np.random.default_rng(3)
    x = np.sort(rng.uniform(1, 50, 60))[:, None]
    y = np.sin(np.log(x[:, 0])) + 0.01 * rng.standard_normal(60)
    length, share, amplitude, noise = 0.7, 2.0, 0.8, 0.05
    rows = Encoded(x, np.zeros((60, 0), dtype=np.int64))
    parameters = Parameters(values=np.log([length, share, amplitude, noise]).tolist())
    ours = fit_process(equations_of(rows, np.ones(60), parameters, seed=0), y)
    logs = np.log(x)
    scores, z = (logs - logs.mean()) / logs.std(), (y - y.mean()) / y.std()
    shape = 1.0 + ConstantKernel(share) * Matern(length, nu=2.5)
    kernel = ConstantKernel(amplitude**2) * shape + WhiteKernel(noise**2)
    theirs = GaussianProcessRegressor(kernel, optimizer=None, alpha=0.0).fit(scores, z)
    asked = np.linspace(1, 60, 40)[:, None]
    wanted = theirs.predict((np.log(asked) - logs.mean()) / logs.std()) * y.std() + y.mean()
    found = ours.log_ms(Encoded(asked, np.zeros((40, 0), dtype=np.int64)))
    assert found == pytest.approx(wanted, abs=2e-4)


def test_the_parameters_are_those_of_the_largest_likelihood() -> None:
    """What is chosen beats its neighbours in every direction, by the likelihood written out with scipy's normal."""
    rng = np.random.default_rng(5)
    numeric = rng.choice([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], (90, 2))
    rows = Encoded(numeric, rng.integers(0, 3, (90, 1)))
    y = np.sin(np.log(numeric[:, 0])) + 0.3 * rows.codes[:, 0] + 0.05 * rng.standard_normal(90)
    repeats = rng.integers(1, 5, 90).astype(float)
    chosen = np.array(choose_parameters(rows, y, repeats, seed=0).values)
    scores = np.log(numeric)
    scores = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    z = (y - y.mean()) / y.std()
    start = np.array([0.5, 0.5, -0.5, -0.5, -0.5, -1.0, -3.0])

    def likelihood(theta: np.ndarray) -> float:
        kernel = np.full((90, 90), np.exp(2 * theta[5]))
        for i in range(2):
            shape = Matern(np.exp(theta[i]), nu=2.5)(scores[:, i : i + 1])
            kernel *= 1 + np.exp(theta[2 + i]) * shape
        kernel *= 1 + np.exp(theta[4]) * (rows.codes == rows.codes.T)
        covariance = kernel + np.diag(np.exp(2 * theta[6]) / np.sqrt(repeats) + 1e-8 * kernel[0, 0])
        prior = (((theta - start) / 2) ** 2).sum() / 2
        return float(multivariate_normal(np.zeros(90), covariance).logpdf(z) - prior)

    best = likelihood(chosen)
    for direction in np.eye(len(chosen)):
        for step in (-0.3, 0.3):
            assert likelihood(chosen + step * direction) < best + 0.01
