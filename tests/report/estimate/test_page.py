"""The evaluation's page in a real browser: it draws what was judged, stays silent, and trusts no name."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace

from laptime.data.stats import wilson
from laptime.estimate.judge.evaluation import cross_evaluate, evaluate
from laptime.estimate.judge.evaluation_result import Evaluation
from laptime.estimate.judge.splits import by_group, held_out
from laptime.estimate.learn.card import ChosenRegressor, ModelCard, Range
from laptime.report.estimate.page import estimate_page
from tests.estimate.log_linear import LogLinear, step_table
from tests.report.hostile import HOSTILE

Open = Callable[[str], Any]
Console = Callable[[], list[str]]


def judged(models: tuple[str, ...] = ("a", "b"), **how: Any) -> Evaluation:
    table = step_table(models=models, noise=0.1, **how)
    new = by_group("new-config", table["config"].to_numpy(), seeds=range(2))
    return cross_evaluate(
        lambda rows, seed: LogLinear("step_ms", ["batch", "prompt"], ["model"], ["config"]).fit(rows),
        table,
        [*new, *held_out("model", table["model"].to_list())],
        source="steps.csv",
    )


def a_card(name: str = "trees") -> ModelCard:
    from laptime.estimate.estimator import Estimator

    estimator = Estimator(target="step_ms", features=["batch", "prompt"], group=["config"])
    card = estimator.fit(step_table(models=("a",), repeats=2)).card
    named = ChosenRegressor(question=name, candidate=name, error=None, folds=[], residuals=0, spread=1, terms=[name])
    scores = [replace(score, name=f"{name} {i}") for i, score in enumerate(card.scores)]
    return replace(
        card,
        scores=scores,
        ranges=[Range(feature=name, low=1, high=2, distinct=2)],
        levels={name: [name]},
        choices=[*card.choices, named],
        notes=[name],
    )


@pytest.mark.chromium
def test_it_draws_what_was_judged_without_a_word_on_the_console(open_page: Open, console_lines: Console) -> None:
    evaluation = judged()
    browser = open_page(estimate_page(evaluation, a_card()))
    first = evaluation.points.kind.count("new-config")

    def dots(place: str) -> int:
        count: int = browser.execute_script(f"return document.querySelectorAll('{place} circle').length")
        return count

    assert dots("#scatter") == first
    assert dots("#residuals .chart:nth-child(2)") == first
    assert dots("#coverage-new-config") == dots("#coverage-held-out") == 2
    missed = sum(
        b is not None and t > b
        for t, b, kind in zip(
            evaluation.points.actual_ms, evaluation.points.bound_ms, evaluation.points.kind, strict=True
        )
        if kind == "new-config"
    )
    assert browser.execute_script("return document.querySelectorAll('#scatter .missed').length") == missed > 0
    bars = browser.execute_script(
        "return [...document.querySelectorAll('#ceiling .bar-solid')].map((bar) => bar.getBoundingClientRect().width)"
    )
    frames = browser.execute_script(
        "return [...document.querySelectorAll('#ceiling .bar-frame')].map((bar) => bar.getBoundingClientRect().width)"
    )
    for split, bar, frame in zip(evaluation.splits, bars, frames, strict=True):
        assert split.reachable_r2 is not None
        assert bar / frame == pytest.approx(split.metrics["r2"].mean / split.reachable_r2.mean, abs=0.02)
    text = browser.execute_script("return document.body.innerText")
    for words in ("not expected to exceed an R² of", "R² within reach", "Candidates", "Within what was measured"):
        assert words in text, words
    assert "NaN" not in browser.execute_script("return document.body.innerHTML")
    assert "undefined" not in text
    assert console_lines() == []


def pointed_at(browser: Any) -> str:
    """What the tooltip says of the first dot: asked again until something is shown, as a settling page draws anew."""
    from selenium.webdriver import ActionChains

    until = time.monotonic() + 10
    while time.monotonic() < until:
        drawing = browser.find_element("css selector", "#scatter svg")
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", drawing)
        place = browser.execute_script(
            "const box = arguments[0].getBoundingClientRect();"
            "const c = arguments[0].querySelector('circle').getBoundingClientRect();"
            "return [c.x + c.width / 2 - box.x - box.width / 2, c.y + c.height / 2 - box.y - box.height / 2]",
            drawing,
        )
        ActionChains(browser).move_to_element(drawing).perform()
        ActionChains(browser).move_to_element_with_offset(drawing, *(round(p) for p in place)).perform()
        if shown := browser.find_element("id", "tooltip").text:
            return str(shown)
    return ""


@pytest.mark.chromium
def test_another_split_can_be_chosen_and_a_dot_asked(open_page: Open, console_lines: Console) -> None:
    evaluation = judged()
    browser = open_page(estimate_page(evaluation))
    browser.execute_script(
        "const s = document.getElementById('split'); s.value = 'held-out'; s.dispatchEvent(new Event('change'))"
    )
    count = browser.execute_script("return document.querySelectorAll('#scatter circle').length")
    assert count == evaluation.points.kind.count("held-out") != evaluation.points.kind.count("new-config")
    shown = pointed_at(browser)
    for words in ("measured", "predicted", "bound", "training domain", "batch"):
        assert words in shown, words
    assert console_lines() == []


@pytest.mark.chromium
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_stay_names(text: str, open_page: Open, console_lines: Console) -> None:
    evaluation = judged()
    points = evaluation.points
    named = replace(
        evaluation,
        source=text,
        target=text,
        grouped_by=[text],
        notes=[text],
        splits=[
            replace(s, groups=[replace(group, group=text) for group in s.groups], details=[text])
            for s in evaluation.splits
        ],
        points=replace(points, group=[text] * len(points.group), features={text: points.features["batch"]}),
    )
    page = estimate_page(named, a_card(text))
    browser = open_page(page)
    assert browser.execute_script("return window.pwned ?? null") is None
    assert browser.execute_script("return document.querySelectorAll('img, iframe, object, embed').length") == 0
    assert browser.execute_script("return document.querySelectorAll('script:not([type])').length") == len(
        re.findall(r"sha256-", page)
    ) - 1  # fmt: skip
    assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
    assert console_lines() == []


@pytest.mark.chromium
@pytest.mark.parametrize("kind", ["no repeats", "no bound", "one row each", "text only"])
def test_little_data_makes_a_whole_page(kind: str, open_page: Open, console_lines: Console) -> None:
    class Abstains(LogLinear):
        def quantile(self, frame: pl.DataFrame, q: Any) -> Any:
            return np.full(len(frame), np.inf)

    table = step_table(repeats=1 if kind == "no repeats" else 3)
    way = Abstains if kind == "no bound" else LogLinear
    estimator = way("step_ms", ["batch", "prompt"], ["model"]).fit(table)
    evaluation = evaluate(estimator, table.head(1) if kind == "one row each" else table)
    if kind == "text only":
        evaluation = replace(evaluation, points=replace(evaluation.points, features={}))
    browser = open_page(estimate_page(evaluation))
    text = browser.execute_script("return document.body.innerText")
    assert ("no ceiling of R²" in text) == (kind in {"no repeats", "one row each"})
    assert ("no bound given" in text) == (kind == "no bound")
    assert "NaN" not in browser.execute_script("return document.body.innerHTML")
    assert console_lines() == []


def test_the_page_is_small_however_large_the_table() -> None:
    table = step_table(repeats=400)
    evaluation = evaluate(LogLinear("step_ms", ["batch", "prompt"], ["model"]).fit(table), table)
    assert len(evaluation.points.actual_ms) <= 3000 < len(table)
    assert len(estimate_page(evaluation)) < 700_000


def test_the_interval_of_a_share_is_wilsons() -> None:
    interval = wilson(0.95, 100)
    assert (interval.low, interval.high) == pytest.approx((0.8882, 0.9785), abs=2e-4)
    assert wilson(1.0, 10).high == 1.0
