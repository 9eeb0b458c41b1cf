"""After which block the late choice is best taken: searched on the training half, by features collected at several.

A later block has seen more of the question, but up to it the fewest experts run and no block is left out. So the
earliest block is taken that is not surely worse than the best one.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import msgspec
import numpy as np

from laptime.control.bounds.bounds import Bounds
from laptime.control.choices import ChoiceSpace
from laptime.control.judge.replay import replay, spread_budgets
from laptime.control.judge.significance import holm, paired_p
from laptime.control.policies.static import static_policy
from laptime.control.tables.decision_table import DecisionTable
from laptime.control.tables.feature_table import FeatureTable
from laptime.control.training.supervised import SupervisedSettings, train_supervised
from laptime.data.stats import Floats
from laptime.errors import LaptimeError

FOLDS = 3
SURE = 0.05
FEWEST = 12
"""Fewer training questions can't tell blocks apart."""


class EarlyScore(msgspec.Struct, frozen=True, kw_only=True):
    """One block: the mean score of answers in time (late ones count 0) when the choice is made after it.

    p: of it being as good as the best one, corrected for all blocks; None for the best one.
    """

    early_block: int
    score: float
    p: float | None = None


class EarlySearch(msgspec.Struct, frozen=True, kw_only=True):
    """The blocks that were tried, ascending, and the one that is taken. questions: those of the training half."""

    chosen: int
    questions: int
    scores: tuple[EarlyScore, ...]


def search_early_block(
    table: DecisionTable, collected: Sequence[FeatureTable], bounds: Bounds, *, steps: int | None = None, seed: int = 0
) -> EarlySearch:
    """Try the early blocks that features were collected at.

    table: the timed questions of the training half. The supervised policy stands for all kinds: it learns in seconds.
    It is trained on two thirds of the questions and replayed on the others, in turn, at five budgets.

    Raises LaptimeError for two tables of one block, a block before which a choice leaves blocks out, and too few
    questions.
    """
    by_block = {one.early_block: one for one in collected}
    if len(by_block) < len(collected):
        raise LaptimeError("early block: two folders of features were collected after the same block; give each once")
    for block in by_block:
        _check_block(table.space, block, table.model.blocks)
    if len(table) < FEWEST:
        raise LaptimeError(f"early block: {len(table)} training questions can't tell blocks apart; {FEWEST} are needed")
    scores = {
        block: _by_question(table, by_block[block], bounds, SupervisedSettings(seed=seed, steps=steps or 400))
        for block in sorted(by_block)
    }
    best = max(scores, key=lambda block: (scores[block].mean(), -block))
    others = [block for block in scores if block != best]
    corrected = dict(zip(others, holm([paired_p(scores[block], scores[best]) for block in others]), strict=True))
    as_good = [block for block in scores if block == best or (corrected[block] or 0.0) >= SURE]
    return EarlySearch(
        chosen=min(as_good),
        questions=len(table),
        scores=tuple(
            EarlyScore(early_block=block, score=float(values.mean()), p=corrected.get(block))
            for block, values in scores.items()
        ),
    )


def _check_block(space: ChoiceSpace, block: int, own: int | None) -> None:
    if block < 1:
        raise LaptimeError(
            "early block: these features hold no hidden states; collect them by laptime control features --early-block"
        )
    for count in space.blocks:
        active = space.active_blocks.get(count)
        if active is None:  # chosen by position: the last one, and the first ones before it
            active = tuple(range(count)) if count == own else (*range(count - 1), max(space.blocks))
        if any(index not in active for index in range(block)):
            raise LaptimeError(
                f"early block {block}: a choice of {count} blocks leaves one of the first {block} out; collect "
                "features after an earlier block, or sweep more blocks"
            )


def _by_question(table: DecisionTable, features: FeatureTable, bounds: Bounds, settings: SupervisedSettings) -> Floats:
    """Each question's mean score over the budgets, when the policy was trained without it, (questions,)."""
    aligned = features.of(table.sample_ids, table.space)
    budgets = spread_budgets(table, bounds, aligned.language, static_policy(table, bounds))
    folds = np.array([_fold(name) for name in table.sample_ids])
    values = np.zeros(len(table))
    for fold in range(FOLDS):
        own = np.flatnonzero(folds == fold)
        rest = table.take(np.flatnonzero(folds != fold))
        if not len(own) or not len(rest):
            continue
        policy, _ = train_supervised(rest, features.of(rest.sample_ids, rest.space), bounds, settings=settings)
        asked = table.take(own)
        seen = features.of(asked.sample_ids, asked.space)
        for budget_ms in budgets:
            for row, one in zip(own, replay(policy, asked, seen, bounds, budget_ms), strict=True):
                values[row] += one.score * one.kept / len(budgets)
    return values


def _fold(sample_id: str) -> int:
    return blake2b(f"fold:{sample_id}".encode("utf-8", "surrogatepass"), digest_size=4).digest()[0] % FOLDS
