"""What training draws from: the table's scores and bounds, and the features as the networks get them."""

from __future__ import annotations

from hashlib import blake2b

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.bounds.bounds import Bounds
from laptime.control.choices import ChoiceSpace
from laptime.control.policies.network import early_sizes, late_sizes
from laptime.control.policies.policy import Needs
from laptime.control.seen import Floats32
from laptime.control.tables.decision_table import FEWEST, IN_A_SWEEP, DecisionTable, too_few
from laptime.control.tables.feature_table import FeatureTable
from laptime.control.tables.features import budget_features, budget_size
from laptime.control.training.layers import Projection, project, unchanged
from laptime.data.stats import Floats
from laptime.errors import LaptimeError

Rows = npt.NDArray[np.intp]

WORDS, PIXELS, STATES = 24, 12, 24
"""The most components of each that are used."""
CHECKED = 5
"""One question in this many is not trained on. It shows when to stop."""
SHARED = 0.15
"""The part of a choice's worth for one question that is its accuracy over all questions. It decides where a question
alone says nothing: every choice answers it, or nothing was learned of it, so the usually best choice is best."""


class Lessons(msgspec.Struct, frozen=True, kw_only=True):
    """n questions of a training half, under every choice.

    score (n, choices): as measured. worth (n, choices): what is learned from, the score with a part of the choice's
    mean. own_bound_ms (n, choices): for the answer's own number of tokens; the reward goes by it. bound_ms (n,
    choices): as it is known when the policy decides; it masks. words (n, k), pixels (n, k), states (n, tiers, k): the
    projected features; a part that the policy doesn't look at has width 0. fitted, checked: places of questions.
    """

    space: ChoiceSpace
    needs: Needs
    score: Floats32
    worth: Floats32
    own_bound_ms: Floats
    bound_ms: Floats
    median_ms: Floats
    words: Floats32
    pixels: Floats32
    states: Floats32
    early: list[Projection]
    late: list[Projection]
    hidden: int
    fitted: Rows
    checked: Rows

    def early_input(self, rows: Rows, room: Floats32 | None) -> Floats32:
        """The first network's inputs, (n, in). room: budget features (n, b); None for a network without a budget."""
        parts = [self.words[rows], self.pixels[rows]]
        return np.concatenate(parts if room is None else [room, *parts], axis=1)

    def late_input(self, rows: Rows, room: Floats32 | None) -> Floats32:
        """The second network's inputs under each tier, (n, tiers, in)."""
        n, tiers = len(rows), self.space.first
        tier = np.broadcast_to(np.eye(tiers, dtype=np.float32), (n, tiers, tiers))
        parts = [tier, np.broadcast_to(self.words[rows][:, None], (n, tiers, self.words.shape[1])), self.states[rows]]
        if room is not None:
            parts.insert(0, np.broadcast_to(room[:, None], (n, tiers, room.shape[1])))
        return np.concatenate(parts, axis=2)

    def room(self, rows: Rows, budget_ms: Floats) -> Floats32:
        """The budget's features, (n, b)."""
        return budget_features(budget_ms, self.bound_ms[rows], self.space)

    def mask(self, rows: Rows, budget_ms: Floats) -> npt.NDArray[np.bool_]:
        """Which choices may be taken, (n, tiers, late): those that fit, else the fastest alone."""
        bound = self.bound_ms[rows]
        fits = bound <= budget_ms[:, None]
        none = np.flatnonzero(~fits.any(axis=1))
        if len(none):
            order = np.lexsort((self.median_ms[rows[none]], bound[none]), axis=1)
            fits[none, order[:, 0]] = True
        return fits.reshape(len(rows), self.space.first, self.space.late)


def make_lessons(
    table: DecisionTable, features: FeatureTable, bounds: Bounds, needs: Needs, *, budget: bool
) -> Lessons:
    """The lessons of a training half. budget: whether the networks see the budget.

    Raises LaptimeError with fewer than 20 questions, for bounds or features of another space, and for features that the
    policy needs but that were not collected.
    """
    if bounds.space != table.space:
        raise LaptimeError("bounds and table have other choices; make the bounds from this sweep")
    aligned = features.of(table.sample_ids, table.space)
    n = len(table)
    if n < FEWEST:
        raise LaptimeError(too_few(n, "to train on"))
    for name, array in (("pixels", aligned.pixels), ("hidden", aligned.hidden)):
        if getattr(needs, name) and array.shape[-1] == 0:
            raise LaptimeError(f"a policy that looks at {name}: they were not collected; collect features with them")
    keys = [
        blake2b(f"check:{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in aligned.sample_ids
    ]
    order = np.array(sorted(range(n), key=keys.__getitem__), dtype=np.intp)
    checked, fitted = np.sort(order[: n // CHECKED]), np.sort(order[n // CHECKED :])
    words = _part(aligned.language, fitted, WORDS, needs.language)
    pixels = _part(aligned.pixels, fitted, PIXELS, needs.pixels)
    width = aligned.hidden.shape[2]
    states = _part(aligned.hidden, fitted, STATES, needs.hidden, standardised=True)
    bound, median = bounds.for_questions(aligned.language)
    sizes = early_sizes(table.space, needs, budget=budget), late_sizes(table.space, needs, width, budget=budget)
    room = [unchanged(budget_size(table.space))] if budget else []
    lessons = Lessons(
        space=table.space,
        needs=needs,
        score=table.score,
        worth=((1 - SHARED) * table.score + SHARED * table.score[fitted].mean(axis=0)).astype(np.float32),
        own_bound_ms=bounds.at_tokens(table.output_tokens),
        bound_ms=bound,
        median_ms=median,
        words=words.apply(aligned.language) if needs.language else np.zeros((n, 0), dtype=np.float32),
        pixels=pixels.apply(aligned.pixels) if needs.pixels else np.zeros((n, 0), dtype=np.float32),
        states=states.apply(aligned.hidden) if needs.hidden else np.zeros((n, table.space.first, 0), dtype=np.float32),
        early=[*room, words, pixels],
        late=[*room, unchanged(table.space.first), words, states],
        hidden=width if needs.hidden else 0,
        fitted=fitted,
        checked=checked,
    )
    for projections, wanted in zip((lessons.early, lessons.late), sizes, strict=True):
        assert sum(len(one.centre) for one in projections) == wanted.total, "folded in the order of InputSizes"
    return lessons


def budget_range(lessons: Lessons) -> tuple[float, float]:
    """The budgets (ms) to train on: from a tenth below where a choice fits to a tenth above where every choice does.

    Raises LaptimeError when nothing is promised.
    """
    bound = lessons.bound_ms
    finite = bound[np.isfinite(bound)]
    if len(finite) == 0:
        raise LaptimeError(
            "no choice has a bound: too few of the training questions were timed for one (95 % needs about "
            f"{FEWEST}; sweep {IN_A_SWEEP} questions or more), or the estimator promises nothing for these knobs"
        )
    return float(np.quantile(bound.min(axis=1), 0.02)) * 0.9, float(finite.max()) * 1.1


def _part(
    values: npt.NDArray[np.float32], fitted: Rows, most: int, wanted: bool, *, standardised: bool = False
) -> Projection:
    if not wanted:
        return Projection(np.zeros(0), np.zeros((0, 0)))
    return project(values[fitted].reshape(-1, values.shape[-1]), most, standardised=standardised)
