"""Group relative policy optimisation over two decisions, from a table (Shao et al. 2024, DeepSeekMath, 2402.03300).

A draw is a question and a budget; budgets are log-uniform over a range. For each draw a group of G trajectories is
drawn from the policy as it is (old): a tier from the first network, then a late choice from the second. Both networks
give each choice a logit; a tier's is that of its best choice that may be taken. With the rewards r of the group:

    A_i   = (r_i - mean(r)) / (std(r) + 1e-6)                              the same for both decisions (4.1.2)
    J     = mean_i,t min(rho A_i, clip(rho, 1 - e, 1 + e) A_i) - beta KL   rho = pi / pi_old of decision t (eq. 3)
    KL    = pi_ref / pi - log(pi_ref / pi) - 1                             never negative (eq. 4; Schulman's k3)

with an entropy bonus. Training starts from the supervised policy (laptime.control.training.supervised): its weights,
with the budget's at 0, choose exactly as it does. The reference is this start, or the uniform policy. The reward is
laptime.estimate.reward's: the worth (lessons.SHARED, EXPECTED) if the bound of the TOTAL at the answer's own number of
tokens keeps the budget, else less than 0. Choices that don't fit by the bound that is known before the call are masked,
as they are in a call.

A network soon knows a few hundred questions by heart. So features are projected onto few components and dropped out,
weights decay, and the final weights are those with the highest reward on questions that are not trained on. If they
aren't surely better there than the start, by SURE standard errors of the paired differences, the start is kept.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import torch

from laptime.control.bounds.bounds import Bounds
from laptime.control.policies.learned import GrpoPolicy
from laptime.control.policies.policy import Needs
from laptime.control.policies.saved_policy import CurvePoint, TrainingCurve
from laptime.control.seen import Floats32
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable
from laptime.control.training.layers import Layers, copied, dropped, exported, log_policy, new_layers, run
from laptime.control.training.lessons import Lessons, Rows, budget_range, make_lessons
from laptime.control.training.supervised import SupervisedSettings, collected, expected_scores, fit_both
from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.reward import rewards

CHECK_BUDGETS = 16
SHARPNESS = 4.0
"""What the start's logits are multiplied by, so that its likeliest choice is drawn more often than others."""
SURE = 2.0
"""Standard errors by which the reward has to rise on the questions kept aside."""
EXPECTED = 0.3
"""The part of a choice's worth for one question that its words predict. Without it an answer that was right by chance
would be learned by heart."""


class GrpoSettings(msgspec.Struct, frozen=True, kw_only=True):
    """draws: questions with a budget, for each step. group: trajectories of each draw. updates: optimiser steps a draw.

    imitation: steps of the supervised start, at most; 0: random weights. budgets: (lowest, highest) ms; None: from
    where a choice fits to where every choice does. patience: checks without a better held-out reward until training
    stops.
    """

    seed: int = 0
    hidden: int = 48
    steps: int = 500
    draws: int = 256
    group: int = 16
    updates: int = 2
    clip: float = 0.2
    kl: float = 0.02
    entropy: float = 0.01
    rate: float = 5e-3
    weight_decay: float = 0.02
    dropout: float = 0.1
    imitation: int = 400
    reference: Literal["imitated", "uniform"] = "imitated"
    budgets: tuple[float, float] | None = None
    check_every: int = 10
    patience: int = 40

    def __post_init__(self) -> None:
        counts = (self.hidden, self.steps, self.draws, self.updates, self.check_every, self.patience)
        if min(counts) < 1 or self.group < 2 or self.imitation < 0:
            raise LaptimeError("grpo: hidden, steps, draws, updates and patience are at least 1, a group is at least 2")
        if not (0 < self.clip < 1 and self.rate > 0 and 0 <= self.dropout < 1 and min(self.kl, self.entropy) >= 0):
            raise LaptimeError(
                "grpo: clip lies between 0 and 1, rate above 0, dropout from 0 to below 1, kl, entropy >= 0"
            )
        if self.budgets is not None and not 0 < self.budgets[0] < self.budgets[1] < float("inf"):
            raise LaptimeError(f"grpo: budgets from {self.budgets[0]:g} to {self.budgets[1]:g} ms; ascending, above 0")


class _Draws(msgspec.Struct, frozen=True):
    """Questions with budgets, as the networks see them: early (n, in), late (n, tiers, in).

    tier_mask (n, tiers), late_mask (n, tiers, late): which choices may be taken.
    """

    rows: Rows
    budget_ms: Floats
    early: Any
    late: Any
    tier_mask: Any
    late_mask: Any
    reward: Any  # (n, choices)
    within: Any  # (n, choices) 0 or 1


class _Chosen(msgspec.Struct, frozen=True):
    """Trajectories (n, group): tier and late choice, their log probabilities when drawn, and those of the reference."""

    tier: Any
    late: Any
    old: Any  # (n, group, 2)
    reference: Any  # (n, group, 2)
    advantage: Any  # (n, group)


class _Terms(NamedTuple):
    """Means of KL and entropy, in nats, of both decisions together."""

    kl: float
    entropy: float


def train_grpo(
    table: DecisionTable,
    features: FeatureTable,
    bounds: Bounds,
    *,
    needs: Needs | None = None,
    settings: GrpoSettings | None = None,
    name: str = "grpo",
) -> tuple[GrpoPolicy, TrainingCurve]:
    """A policy of the training half. needs: what it looks at besides the budget; None: all that was collected.

    The same seed, table and number of threads give the same weights. A decision of the curve is a trajectory: a tier
    and a late choice. Raises LaptimeError for tables that don't fit.
    """
    given = settings or GrpoSettings()
    looked_at = needs or collected(features)
    lessons = make_lessons(table, features, bounds, looked_at, budget=True)
    budgets = given.budgets or budget_range(lessons)
    began = perf_counter()
    generator = torch.Generator().manual_seed(given.seed)
    rng = np.random.default_rng(given.seed)
    early, late = _start(lessons, given, generator)
    likely = expected_scores(table, features, bounds, seed=given.seed)
    lessons = msgspec.structs.replace(lessons, worth=(1 - EXPECTED) * lessons.worth + np.float32(EXPECTED) * likely)
    check = _check_draws(lessons, budgets)
    start, start_rewards = (copied(early), copied(late)), _greedy_rewards(early, late, check, lessons)
    best, best_rewards, unimproved = start, start_rewards, 0
    reference = start if given.reference == "imitated" and given.imitation else None
    points: list[CurvePoint] = []
    decisions = 0
    optimiser = torch.optim.AdamW([*early, *late], lr=given.rate, weight_decay=given.weight_decay)
    for step in range(1, given.steps + 1):
        draws = _draw(lessons, given, budgets, rng, generator)
        chosen = _choose(early, late, draws, reference, given.group, generator)
        for _ in range(given.updates):
            optimiser.zero_grad()
            loss, terms = _loss(early, late, draws, chosen, given)
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*early, *late], 1.0)
            optimiser.step()
        decisions += given.draws * given.group
        if step % given.check_every and step != given.steps:
            continue
        points.append(_point(step, decisions, draws, chosen, lessons.score, terms))
        earned = _greedy_rewards(early, late, check, lessons)
        if earned.mean() > best_rewards.mean():
            best, best_rewards, unimproved = (copied(early), copied(late)), earned, 0
        else:
            unimproved += 1
            if unimproved >= given.patience:
                break
    moved = given.imitation == 0 or surely_above(best_rewards - start_rewards)
    if not moved:
        best = start
    policy = GrpoPolicy(
        space=table.space,
        needs=looked_at,
        early=exported(best[0], lessons.early),
        late=exported(best[1], lessons.late),
        hidden=lessons.hidden,
        name=name,
        moved=moved,
    )
    return policy, TrainingCurve(policy=name, seconds=perf_counter() - began, decisions=decisions, points=points)


def _start(lessons: Lessons, given: GrpoSettings, generator: torch.Generator) -> tuple[Layers, Layers]:
    """The supervised networks with inputs for the budget, whose weights are 0; or random ones."""
    count = len(lessons.space)
    widths = [sum(one.matrix.shape[1] for one in parts) for parts in (lessons.early, lessons.late)]
    if not given.imitation:
        early, late = (new_layers([width, given.hidden, count], generator) for width in widths)
        return early, late
    settings = SupervisedSettings(seed=given.seed, hidden=given.hidden, steps=given.imitation)
    (early, _), (late, _) = fit_both(lessons, settings)
    for layers, width in zip((early, late), widths, strict=True):
        first = layers[0]
        layers[0] = torch.cat([torch.zeros(width - first.shape[0], first.shape[1]), first])
        layers[2:] = [SHARPNESS * layer for layer in layers[2:]]
        for layer in layers:
            layer.requires_grad_()
    return early, late


def _draw(
    lessons: Lessons,
    given: GrpoSettings,
    budgets: tuple[float, float],
    rng: np.random.Generator,
    generator: torch.Generator,
) -> _Draws:
    rows = lessons.fitted[rng.integers(0, len(lessons.fitted), given.draws)]
    budget_ms = np.exp(rng.uniform(np.log(budgets[0]), np.log(budgets[1]), given.draws))
    draws = _drawn(lessons, rows, budget_ms)
    clear = lessons.early[0].matrix.shape[1]  # the budget and the tier are never dropped
    return msgspec.structs.replace(
        draws,
        early=dropped(draws.early, given.dropout, clear, generator),
        late=dropped(draws.late, given.dropout, clear + lessons.space.first, generator),
    )


def _drawn(lessons: Lessons, rows: Rows, budget_ms: Floats) -> _Draws:
    room = lessons.room(rows, budget_ms)
    mask = lessons.mask(rows, budget_ms)
    any_late = np.asarray(mask.any(axis=2))
    own = lessons.own_bound_ms[rows]
    earned = rewards(lessons.worth[rows], own, budget_ms[:, None])
    return _Draws(
        rows,
        budget_ms,
        torch.from_numpy(lessons.early_input(rows, room)),
        torch.from_numpy(lessons.late_input(rows, room)),
        torch.from_numpy(any_late),
        torch.from_numpy(mask | ~any_late[:, :, None]),  # a tier without any is never chosen
        torch.from_numpy(earned.astype(np.float32)),
        torch.from_numpy((own <= budget_ms[:, None]).astype(np.float32)),
    )


def _check_draws(lessons: Lessons, budgets: tuple[float, float]) -> _Draws:
    grid = np.geomspace(*budgets, CHECK_BUDGETS)
    rows = lessons.checked if len(lessons.checked) else lessons.fitted
    return _drawn(lessons, np.repeat(rows, CHECK_BUDGETS), np.tile(grid, len(rows)))


def _log_policies(early: Layers, late: Layers, draws: _Draws) -> tuple[Any, Any]:
    """log pi of every tier, (n, tiers), and of every late choice under each tier, (n, tiers, late)."""
    n, tiers, count = draws.late_mask.shape
    by_tier = run(early, draws.early).view(n, tiers, count).masked_fill(~draws.late_mask, -1e9).amax(dim=2)
    each = torch.arange(tiers)
    own = run(late, draws.late).view(n, tiers, tiers, count)[:, each, each]
    return log_policy(by_tier, draws.tier_mask), log_policy(own, draws.late_mask)


def _of_chosen(first: Any, second: Any, tier: Any, late: Any) -> Any:
    """Log probabilities of both decisions of each trajectory, (n, group, 2)."""
    flat = tier * second.shape[2] + late
    return torch.stack([first.gather(1, tier), second.flatten(1).gather(1, flat)], dim=2)


def _choose(
    early: Layers,
    late: Layers,
    draws: _Draws,
    reference: tuple[Layers, Layers] | None,
    group: int,
    generator: torch.Generator,
) -> _Chosen:
    with torch.no_grad():
        first, second = _log_policies(early, late, draws)
        tier = torch.multinomial(first.exp(), group, replacement=True, generator=generator)
        each = second.gather(1, tier[:, :, None].expand(-1, -1, second.shape[2]))
        choice = torch.multinomial(each.exp().flatten(0, 1), 1, generator=generator).view(tier.shape)
        if reference is None:
            known = (
                log_policy(draws.tier_mask * 0.0, draws.tier_mask),
                log_policy(draws.late_mask * 0.0, draws.late_mask),
            )
        else:
            known = _log_policies(reference[0], reference[1], draws)
        earned = draws.reward.gather(1, tier * second.shape[2] + choice)
        spread = earned.std(dim=1, keepdim=True, correction=0)
        advantage = (earned - earned.mean(dim=1, keepdim=True)) / (spread + 1e-6)
        return _Chosen(
            tier,
            choice,
            _of_chosen(first, second, tier, choice),
            _of_chosen(known[0], known[1], tier, choice),
            advantage,
        )


def _loss(early: Layers, late: Layers, draws: _Draws, chosen: _Chosen, given: GrpoSettings) -> tuple[Any, _Terms]:
    """The loss, and its KL and entropy."""
    first, second = _log_policies(early, late, draws)
    now = _of_chosen(first, second, chosen.tier, chosen.late)
    ratio = (now - chosen.old).exp()
    gain = chosen.advantage[:, :, None]
    surrogate = torch.minimum(ratio * gain, ratio.clamp(1 - given.clip, 1 + given.clip) * gain).mean()
    apart = chosen.reference - now
    kl = (apart.exp() - apart - 1).mean()
    tiers = first.exp()
    entropy = -(tiers * first).sum(1).mean() - (tiers[:, :, None] * second.exp() * second).sum((1, 2)).mean()
    loss = -(surrogate - given.kl * kl + given.entropy * entropy)
    return loss, _Terms(float(kl.detach()), float(entropy.detach()))


def _greedy_rewards(early: Layers, late: Layers, check: _Draws, lessons: Lessons) -> Floats:
    """The reward of the policy, as it would run, on each question that is not trained on, over all budgets."""
    with torch.no_grad():
        first, second = _log_policies(early, late, check)
        tier = first.argmax(dim=1)
        choice = second[torch.arange(len(tier)), tier].argmax(dim=1)
        earned = check.reward[torch.arange(len(tier)), tier * lessons.space.late + choice]
        by_question: Floats = earned.view(-1, CHECK_BUDGETS).mean(dim=1).numpy().astype(np.float64)
        return by_question


def surely_above(gains: Floats) -> bool:
    """Whether paired gains have a mean that chance doesn't explain."""
    return bool(len(gains) > 1 and gains.mean() > SURE * gains.std(ddof=1) / np.sqrt(len(gains)))


def _point(step: int, decisions: int, draws: _Draws, chosen: _Chosen, score: Floats32, terms: _Terms) -> CurvePoint:
    """A point of the training curve. score (n, choices): of all questions."""
    flat = chosen.tier * draws.late_mask.shape[2] + chosen.late
    scores = torch.from_numpy(score[draws.rows]).gather(1, flat)
    return CurvePoint(
        step,
        decisions,
        float(draws.reward.gather(1, flat).mean()),
        float(scores.mean()),
        float(draws.within.gather(1, flat).mean()),
        terms.kl,
        terms.entropy,
    )
