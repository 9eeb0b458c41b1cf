"""Folds hold out what they say, and the choice follows held-out errors, never training errors."""

from __future__ import annotations

import threading
from typing import Any

import lightgbm
import numpy as np
import pytest

from laptime.estimate.learn.folds import Fold, Grouping, make_folds, split
from laptime.estimate.learn.regressors import Candidate, Training
from laptime.estimate.learn.selection import compare_candidates, overall
from laptime.estimate.learn.steps import cross_fit_steps, step_folds
from laptime.estimate.table.table import UNSEEN, Encoded

NAMES, LEVELS = [f"g{i}" for i in range(200)], [["small", "middle", "large"]]


def table(count: int = 200) -> Training:
    """Tokens and width, three levels; the time is their product with 1 % noise."""
    rng = np.random.default_rng(0)
    tokens, width = rng.integers(1, 500, count), rng.choice([8, 16, 32, 64, 128, 256], count)
    codes = (np.arange(count) % 3).reshape(-1, 1)
    log_ms = np.log(1 + tokens * width / 1e3) + 0.01 * rng.standard_normal(count)
    return Training(Encoded(np.column_stack([tokens, width]).astype(float), codes), log_ms, np.ones(count))


def folds_of(data: Training, groups: np.ndarray) -> dict[str, list[Fold]]:
    grouping = Grouping(groups, np.arange(len(data)), groups, NAMES, LEVELS)
    found: dict[str, list[Fold]] = {}
    for fold in make_folds(data, ["tokens", "width", "gpu"], grouping, inside=5, seed=0):
        found.setdefault(fold.question, []).append(fold)
    return found


def test_configurations_are_held_out_by_whole_groups() -> None:
    data, groups = table(), np.arange(200) // 4
    inside = folds_of(data, groups)["inside"]
    assert sum(fold.held.astype(int) for fold in inside).tolist() == [1] * 200
    for fold in inside:
        assert not set(groups[fold.held]) & set(groups[~fold.held])


def test_the_largest_sizes_are_held_out_by_each_column_and_by_their_product() -> None:
    data = table()
    beyond = folds_of(data, np.arange(200))["beyond"]
    assert [fold.what for fold in beyond] == ["largest tokens", "largest width", "largest tokens x width"]
    for fold, size in zip(beyond, [*data.rows.numeric.T, data.rows.numeric.prod(axis=1)], strict=True):
        assert size[fold.held].min() > size[~fold.held].max()
        assert 0.05 < fold.held.mean() < 0.45


def test_a_size_of_three_values_can_be_held_out_and_what_describes_a_level_can_not() -> None:
    data = table()
    blocks, watts = np.repeat([8.0, 12.0, 16.0, 8.0], 50), 300.0 + 50 * data.rows.codes[:, 0]
    wide = Training(
        Encoded(np.column_stack([data.rows.numeric, blocks, watts]), data.rows.codes), data.log_ms, data.repeats
    )
    grouping = Grouping(np.arange(200), np.arange(200), np.arange(200), NAMES, LEVELS)
    folds = make_folds(wide, ["tokens", "width", "blocks", "watts", "gpu"], grouping, inside=5, seed=0)
    beyond = {fold.what for fold in folds if fold.question == "beyond"}
    assert "largest blocks" in beyond
    assert not any("watts" in what for what in beyond)


def test_few_groups_and_levels_are_each_held_out() -> None:
    data, groups = table(), np.arange(200) % 4
    found = folds_of(data, groups)
    assert sorted(tuple(set(groups[fold.held])) for fold in found["group"]) == [(0,), (1,), (2,), (3,)]
    assert sorted(tuple(set(data.rows.codes[fold.held, 0])) for fold in found["level"]) == [(0,), (1,), (2,)]
    assert sorted(fold.what for fold in found["level"]) == ["gpu large", "gpu middle", "gpu small"]
    assert sorted(fold.what for fold in found["group"]) == ["g0", "g1", "g2", "g3"]
    kept, held = split(data, found["level"][0])
    assert (held.codes == UNSEEN).all()
    assert len(kept) + len(held) == 200
    assert "group" not in folds_of(data, np.arange(200))  # so many groups are configurations


def test_beyond_the_sizes_a_roofline_is_part_of_every_choice() -> None:
    data = table()
    folds = [fold for some in folds_of(data, np.arange(200)).values() for fold in some]
    scores, _ = compare_candidates(data, folds, seed=0)
    errors = {(score.question, score.name): score.error for score in scores}
    assert errors["beyond", "terms^1"] < 0.05
    assert errors["inside", "trees"] < 0.2
    assert all(score.candidate.power is not None for score in scores if score.question == "beyond")
    for question in ("inside", "beyond", "level"):
        mine = [score for score in scores if score.question == question]
        assert [score.chosen for score in mine] == [True] + [False] * (len(mine) - 1)
        assert mine[0].error == min(score.error for score in mine)
    again, _ = compare_candidates(data, folds, seed=0, workers=2)
    assert again == scores


def test_a_candidate_that_knows_only_its_training_rows_is_not_chosen() -> None:
    """Times that are pure noise: trees learn them by heart, and every held-out error says so."""
    data = table()
    noise = Training(data.rows, np.random.default_rng(1).standard_normal(200), data.repeats)
    folds = folds_of(noise, np.arange(200))["inside"]
    scores, _ = compare_candidates(noise, folds, seed=0)
    best = scores[0]
    assert "trees" not in best.name or "small" in best.name
    assert best.error > 0.6  # of |N(0, 1)| around its median: 0.8, in 200 draws a little less


def test_folds_count_alike_however_hard_they_are() -> None:
    assert overall([0.01, 1.0]) == pytest.approx(0.1)
    assert overall([0.02, 0.5]) == overall([0.01, 1.0])


def test_beside_other_fits_lightgbm_is_asked_for_one_thread_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the number for the whole process: another one can end it while trees are fitted elsewhere."""
    asked: set[int] = set()
    plain = lightgbm.Booster.predict

    def watched(self: Any, *given: Any, **options: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            asked.add(options["num_threads"])
        return plain(self, *given, **options)

    monkeypatch.setattr(lightgbm.Booster, "predict", watched)
    data = table()
    steps = step_folds(data, ["tokens", "width", "level"])
    kinds = Candidate(power=None, residual="large"), Candidate(power=0.5, residual="small")
    cross_fit_steps(data, steps, *kinds, seed=0, parameters={}, workers=2)
    assert asked == {1}
