"""Supervised training of P(right | choice, what is seen): cross-entropy on every question under every choice.

There are two networks: one for before the vision tower (words, pixels), one for after the early block (words, tier,
hidden states). Both are trained on every choice of every question, so nothing has to be explored.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import torch

from laptime.control.bounds.bounds import Bounds
from laptime.control.policies.learned import SupervisedPolicy
from laptime.control.policies.policy import Needs
from laptime.control.policies.saved_policy import CurvePoint, TrainingCurve
from laptime.control.seen import Floats32
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable
from laptime.control.training.layers import Layers, copied, dropped, exported, new_layers, run
from laptime.control.training.lessons import Lessons, make_lessons
from laptime.errors import LaptimeError

Fitted = tuple[Layers, list[tuple[int, float, float]]]
"""A network, and for every tenth step: (step, loss, right), on the questions that are not trained on."""


class SupervisedSettings(msgspec.Struct, frozen=True, kw_only=True):
    """steps: passes over the whole table. patience: steps without a better held-out loss until training stops."""

    seed: int = 0
    hidden: int = 48
    steps: int = 400
    rate: float = 5e-3
    weight_decay: float = 0.05
    dropout: float = 0.1
    patience: int = 80

    def __post_init__(self) -> None:
        if not (self.hidden > 0 and self.steps > 0 and self.rate > 0 and 0 <= self.dropout < 1):
            raise LaptimeError("supervised: hidden, steps and rate are above 0, dropout from 0 to below 1")


def train_supervised(
    table: DecisionTable,
    features: FeatureTable,
    bounds: Bounds,
    *,
    needs: Needs | None = None,
    settings: SupervisedSettings | None = None,
    name: str = "supervised",
) -> tuple[SupervisedPolicy, TrainingCurve]:
    """A policy of the training half. needs: what the policy looks at; None: all that was collected.

    The same seed, table and number of threads give the same weights. Raises LaptimeError for tables that don't fit.
    """
    given = settings or SupervisedSettings()
    looked_at = needs or collected(features)
    lessons = make_lessons(table, features, bounds, looked_at, budget=False)
    began = perf_counter()
    (early, early_points), (late, late_points) = fit_both(lessons, given)
    policy = SupervisedPolicy(
        space=table.space,
        needs=looked_at,
        early=exported(early, lessons.early),
        late=exported(late, lessons.late),
        hidden=lessons.hidden,
        name=name,
    )
    points = [
        CurvePoint(step, step * len(table) * len(table.space), -loss, right, 1.0, 0.0, 0.0)
        for step, loss, right in (late_points or early_points)
    ]
    decisions = (len(early_points) + len(late_points)) * 10 * len(table) * len(table.space)
    return policy, TrainingCurve(policy=name, seconds=perf_counter() - began, decisions=decisions, points=points)


def fit_both(lessons: Lessons, given: SupervisedSettings) -> tuple[Fitted, Fitted]:
    """The network for before the vision tower, and the one for after the early block; neither sees the budget."""
    generator = torch.Generator().manual_seed(given.seed)
    rows, score = np.arange(len(lessons.score)), torch.from_numpy(lessons.worth)
    early = _fit(torch.from_numpy(lessons.early_input(rows, None)), score, lessons, given, generator)
    late = _fit(torch.from_numpy(lessons.late_input(rows, None)), score, lessons, given, generator)
    return early, late


def expected_scores(table: DecisionTable, features: FeatureTable, bounds: Bounds, *, seed: int = 0) -> Floats32:
    """P(right) of each choice by the question's words, (n, choices), learned from the same table."""
    lessons = make_lessons(table, features, bounds, Needs(language=True), budget=False)
    x = torch.from_numpy(lessons.early_input(np.arange(len(table)), None))
    generator = torch.Generator().manual_seed(seed)
    layers, _ = _fit(x, torch.from_numpy(lessons.worth), lessons, SupervisedSettings(seed=seed), generator)
    with torch.no_grad():
        right: Floats32 = torch.sigmoid(run(layers, x)).numpy()
    return right


def collected(features: FeatureTable) -> Needs:
    """The needs of a policy that looks at everything that a table of features has."""
    return Needs(language=True, pixels=features.pixels.shape[1] > 0, hidden=features.hidden.shape[2] > 0)


def _fit(x: Any, score: Any, lessons: Lessons, given: SupervisedSettings, generator: torch.Generator) -> Fitted:
    """A network on x (n, in), or (n, tiers, in), where each tier predicts its own choices."""
    layers = new_layers([x.shape[-1], given.hidden, score.shape[1]], generator)
    optimiser = torch.optim.AdamW(layers, lr=given.rate, weight_decay=given.weight_decay)
    fitted, checked = torch.from_numpy(lessons.fitted), torch.from_numpy(lessons.checked)
    best_loss, best, best_at = float("inf"), copied(layers), 0
    points = []
    for step in range(given.steps):
        optimiser.zero_grad()
        seen = dropped(x[fitted], given.dropout, lessons.space.first if x.ndim == 3 else 0, generator)
        _loss(run(layers, seen), score[fitted], lessons).backward()
        optimiser.step()
        if step % 10 == 9:
            with torch.no_grad():
                logits = run(layers, x[checked])
                loss = float(_loss(logits, score[checked], lessons))
                right = float(((_own(logits, lessons) > 0).float() == score[checked].round()).float().mean())
            points.append((step + 1, loss, right))
            if loss < best_loss - 1e-5:
                best_loss, best, best_at = loss, copied(layers), step
            elif step - best_at > given.patience:
                break
    return best, points


def _loss(logits: Any, score: Any, lessons: Lessons) -> Any:
    return torch.nn.functional.binary_cross_entropy_with_logits(_own(logits, lessons), score)


def _own(logits: Any, lessons: Lessons) -> Any:
    """What each tier says of its own choices, (n, choices), from (n, tiers, choices). (n, choices) stays as it is."""
    if logits.ndim == 2:
        return logits
    n, tiers, late = len(logits), lessons.space.first, lessons.space.late
    by_tier = logits.reshape(n, tiers, tiers, late)
    return torch.stack([by_tier[:, tier, tier] for tier in range(tiers)], dim=1).reshape(n, tiers * late)
