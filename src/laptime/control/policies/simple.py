"""The simplest policies that look at a question at all: its type, or a logistic regression on its words. No torch.

They stand beside learnt policies in every evaluation, under the same bounds. If one of them is as good, the learnt
policy has gained nothing.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from laptime.control.choices import ChoiceSpace
from laptime.control.policies.policy import Mask, Needs, best, fastest, of_tier
from laptime.control.seen import Budget, Floats32, Seen
from laptime.control.tables.decision_table import DecisionTable, question_type
from laptime.data.stats import Floats
from laptime.errors import LaptimeError

PER_TYPE = "per type"
LOGISTIC = "logistic"
Knob = Literal["tier", "top-k", "blocks"]
PRIOR = 20.0
"""How many questions of all types a type's accuracy is mixed with: a type of three questions says little by itself."""
STRENGTH = 1.0
"""The weight of the squared coefficients of the regression, beside the summed log-likelihood."""


class OneTypePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The most accurate choice for questions of one type, of those that keep the budget by their bound.

    accuracy (choices,): of the training questions of this type. choosable (choices,): which ones it may take.
    """

    space: ChoiceSpace
    accuracy: Floats
    choosable: Mask
    name: str

    @property
    def needs(self) -> Needs:
        return Needs()

    def decide(self, seen: Seen, budget: Budget) -> int:
        return _chosen(self.accuracy, self.choosable, self.space, seen, budget)


class PerTypePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The per-type lookup: `of` gives the policy of one question. It is told the question's type.

    types: the types seen in training. accuracy (types + 1, choices): of each type, then of all questions, which stand
    for a type that was never seen.
    """

    space: ChoiceSpace
    types: tuple[str, ...]
    accuracy: Floats
    choosable: Mask
    name: str = PER_TYPE

    @property
    def needs(self) -> Needs:
        return Needs()

    def of(self, sample_id: str) -> OneTypePolicy:
        """The policy of one question, by its id."""
        kind = question_type(sample_id)
        row = self.types.index(kind) if kind in self.types else len(self.types)
        return OneTypePolicy(space=self.space, accuracy=self.accuracy[row], choosable=self.choosable, name=self.name)


class LogisticPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """For each choice a logistic regression of being right on the question's words; the best that keeps its bound.

    weights (choices, words + 1): the last column is the constant. fallback: whether it stands for a learnt policy that
    wasn't better (laptime.control.training.fallback).
    """

    space: ChoiceSpace
    weights: Floats
    name: str = LOGISTIC
    fallback: bool = False

    @property
    def needs(self) -> Needs:
        return Needs(language=True)

    def scores(self, language: Floats32) -> Floats:
        """Each choice's logit of being right, (choices,)."""
        logits: Floats = self.weights[:, :-1] @ language + self.weights[:, -1]
        return logits

    def decide(self, seen: Seen, budget: Budget) -> int:
        return _chosen(self.scores(seen.language), np.ones(len(self.space), dtype=np.bool_), self.space, seen, budget)


def per_type_policy(table: DecisionTable, knob: Knob | None = None) -> PerTypePolicy:
    """The per-type lookup of training questions. knob: the only one that it may turn; the others stay at their most."""
    types = tuple(sorted(set(table.question_types)))
    of_all = table.score.mean(axis=0, dtype=np.float64)
    kinds = np.array(table.question_types)
    rows = []
    for kind in types:
        scores = table.score[kinds == kind]
        rows.append((scores.sum(axis=0, dtype=np.float64) + PRIOR * of_all) / (len(scores) + PRIOR))
    name = PER_TYPE if knob is None else f"{PER_TYPE}, {knob} only"
    return PerTypePolicy(
        space=table.space, types=types, accuracy=np.array([*rows, of_all]), choosable=only(table.space, knob), name=name
    )


def single_knob_policies(table: DecisionTable) -> list[PerTypePolicy]:
    """The per-type lookup with one knob alone, for each knob that has several values beside another such knob."""
    sizes: dict[Knob, int] = {
        "tier": len(table.space.tiers),
        "top-k": len(table.space.top_ks),
        "blocks": len(table.space.blocks),
    }
    varying = [knob for knob, size in sizes.items() if size > 1]
    return [per_type_policy(table, knob) for knob in varying] if len(varying) > 1 else []


def only(space: ChoiceSpace, knob: Knob | None) -> Mask:
    """The choices, (choices,), in which every other knob than this one has its largest value; None: all choices."""
    mask = np.ones(len(space), dtype=np.bool_)
    for number in range(len(space)):
        choice = space.choice(number)
        kept = {
            "tier": not space.tiers or choice.tier == space.tiers[-1],
            "top-k": not space.top_ks or choice.top_k == space.top_ks[-1],
            "blocks": not space.blocks or choice.blocks == space.blocks[-1],
        }
        mask[number] = knob is None or all(most for name, most in kept.items() if name != knob)
    return mask


def logistic_policy(table: DecisionTable, language: Floats32) -> LogisticPolicy:
    """The logistic regression of training questions. language (questions, words): features, in the table's order.

    Maximum likelihood with a ridge penalty, for all choices at once. Raises LaptimeError for other questions' features.
    """
    from scipy.optimize import minimize  # takes as long to import as a decision takes

    if len(language) != len(table):
        raise LaptimeError(f"{len(language)} rows of features for {len(table)} questions: one for each is needed")
    inputs = np.column_stack([language.astype(np.float64), np.ones(len(language))])
    right = table.score.astype(np.float64)
    shape = (len(table.space), inputs.shape[1])

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(shape)
        logits = inputs @ weights.T
        penalised = weights.copy()
        penalised[:, -1] = 0.0
        value = float((np.logaddexp(0, logits) - right * logits).sum() + STRENGTH / 2 * (penalised**2).sum())
        slope = (1 / (1 + np.exp(-logits)) - right).T @ inputs + STRENGTH * penalised
        return value, slope.ravel()

    found = minimize(loss, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B")
    return LogisticPolicy(space=table.space, weights=found.x.reshape(shape))


def _chosen(scores: Floats, choosable: Mask, space: ChoiceSpace, seen: Seen, budget: Budget) -> int:
    """The highest score among what fits and may be taken; else the fastest that may be taken, else the fastest."""
    mask = budget.fits & choosable & of_tier(space, seen.tier)
    if mask.any():
        return best(scores, mask, budget.bound_ms)
    may = choosable & of_tier(space, seen.tier)
    if may.any() and np.isfinite(budget.bound_ms[may]).any():
        return int(np.where(may, budget.bound_ms, np.inf).argmin())
    return fastest(space, budget, seen.tier)
