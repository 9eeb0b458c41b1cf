"""What is held out to answer which question about a table.

Six questions are asked of a table, and a regressor that is best at one can be useless at another (trees: 1 % between
the training sizes, 50 % beyond them). So inside, beyond, group and level each have their own folds:

- inside: configurations that were not measured, among those that were. Folds hold out whole groups.
- beyond: larger than anything measured. Folds hold out the largest fifth by a size column, and by their product.
- group: a group (a model, a GPU) that was never seen, of a kind that was never seen. Folds hold out one kind each.
- sibling: a group that was never seen, of a kind that was: a second model of the same shape, for instance. It is
  predicted as inside and bounded as group.
- level: a value of a categorical column that was never seen, or of a numeric one whose values are names
  (learn/named_numbers). Folds hold out one each.
- unknown: a feature that had a single value in training has another one. Nothing can be held out: no bound is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.stats import Floats, Ints
from laptime.estimate.learn.regressors import Training, described
from laptime.estimate.table.table import UNSEEN, Encoded

Question = Literal["inside", "beyond", "sibling", "group", "level", "unknown"]
QUESTIONS: tuple[Question, ...] = ("inside", "beyond", "sibling", "group", "level", "unknown")

FEW_GROUPS = 20
"""From this many groups on a group is a configuration, and an unseen one is nothing special."""
COMPARING_FOLDS = 5
CALIBRATION_FOLDS = (10, 5)
"""Of configurations, for tables of up to SELECTION_ROWS and above. A fold's regressor has less to learn from than the
final one, so its residuals are a little too large: the smaller the table, the more folds."""
MOST_BEYOND = 5
FEWEST_SIZES = 3
MOST_NEW = 8
FEWEST_FOLDS = 3
"""Held-out groups or levels from which a spread between them can be told."""
LARGEST_SHARE = 0.2
MOST_HELD = 0.45
FEWEST_LEFT = 15
SELECTION_ROWS = 1200
"""Configurations that candidates are compared on; the winners' residuals come from all of them."""

Mask = npt.NDArray[np.bool_]


class Fold(msgspec.Struct, frozen=True):
    """Configurations held out together, and why."""

    question: Question
    what: str
    held: Mask
    kept: Mask | None = None
    """What is fitted on; None: all that isn't held out."""
    column: str | None = None
    """Whose level is held out; of a step to larger sizes, the size or the product that is cut."""


class Grouping(msgspec.Struct, frozen=True):
    """Which configurations belong together: `groups` as the user named them, `units` of equal features."""

    groups: Ints
    units: Ints
    kinds: Ints
    """Groups of which the same is known share a kind: two models of one shape, two GPUs of one rate."""
    names: list[str]
    """The groups' names."""
    levels: list[list[str]]
    """The levels' names, of each categorical column."""
    is_level: bool = False
    """Whether the group is a categorical column: one that was never seen is a level never seen, and asked as such."""

    def take(self, which: Ints) -> Grouping:
        """Of these configurations."""
        return msgspec.structs.replace(
            self, groups=self.groups[which], units=self.units[which], kinds=self.kinds[which]
        )

    def names_of_kind(self, kind: int) -> str:
        """The groups of a kind."""
        codes = np.unique(self.groups[self.kinds == kind]).tolist()
        return " with ".join(self.names[code] for code in codes) or f"kind of group {kind}"


def make_folds(training: Training, names: Sequence[str], grouping: Grouping, *, inside: int, seed: int) -> list[Fold]:
    """All folds of all questions that the table has room for: `inside` of that one; `names` are the features'."""
    rng = np.random.default_rng(seed)
    few = len(np.unique(grouping.groups)) < FEW_GROUPS
    apart = few and not grouping.is_level
    return [
        *_inside_folds(grouping.units if few else grouping.groups, inside, rng),
        *_beyond_folds(training, names),
        *(_left_out("group", grouping.names_of_kind, grouping.kinds, MOST_NEW, rng) if apart else ()),
        *_level_folds(training, names, grouping.levels, rng),
    ]


def _inside_folds(units: Ints, folds: int, rng: np.random.Generator) -> Iterable[Fold]:
    names = rng.permutation(np.unique(units))
    for number in range(min(folds, len(names))):
        yield Fold("inside", f"fold {number + 1}", np.isin(units, names[number::folds]))


def growing(training: Training, names: Sequence[str]) -> list[tuple[str, Floats]]:
    """The directions in which rows are beyond: each size column (widest first), and the product of all of them.

    A column with zeros (no prompt in a step that only decodes) is a size too; in a product it counts plus one.
    """
    numeric = training.rows.numeric
    sizes = [
        i
        for i, column in enumerate(numeric.T)
        if column.min() >= 0 and len(np.unique(column)) >= FEWEST_SIZES and not described(training.rows, i)
    ]
    logs = {i: np.log(numeric[:, i]) if numeric[:, i].min() > 0 else np.log1p(numeric[:, i]) for i in sizes}
    sizes.sort(key=lambda i: -float(np.ptp(logs[i])))
    orders = [(names[i], numeric[:, i]) for i in sizes[: MOST_BEYOND - 1]]
    if len(sizes) > 1:
        orders.append((" x ".join(names[i] for i in sizes), np.exp(sum(logs[i] for i in sizes))))
    return orders


def _beyond_folds(training: Training, names: Sequence[str]) -> Iterable[Fold]:
    """Hold out the largest fifth of the values in each direction.

    Of the values, not of the rows: in a sweep of one size at a time most rows have the smallest of the others.
    """
    for name, order in growing(training, names):
        values = np.unique(order)
        kept = min(int(np.ceil(len(values) * (1 - LARGEST_SHARE))), len(values) - 1)
        held = order > values[kept - 1]
        if held.mean() <= MOST_HELD and (~held).sum() >= FEWEST_LEFT:
            yield Fold("beyond", f"largest {name}", held)


def _left_out(
    question: Question, name: Callable[[int], str], of: Ints, most: int, rng: np.random.Generator
) -> Iterable[Fold]:
    """Hold out each value (at most `most` of them, drawn at random) where enough configurations are left."""
    values = np.unique(of)
    if len(values) < 2:
        return
    for value in rng.permutation(values)[:most]:
        if (of != value).sum() >= FEWEST_LEFT:
            yield Fold(question, name(int(value)), of == value)


def _level_folds(
    training: Training, names: Sequence[str], levels: Sequence[Sequence[str]], rng: np.random.Generator
) -> Iterable[Fold]:
    codes, count = training.rows.codes, training.rows.numeric.shape[1]
    most = max(MOST_NEW // max(1, codes.shape[1]) + 1, FEWEST_FOLDS)
    for column in range(codes.shape[1]):
        known = [f"{names[count + column]} {level}" for level in levels[column]]
        for fold in _left_out("level", known.__getitem__, codes[:, column], most, rng):
            yield msgspec.structs.replace(fold, column=names[count + column])


def split(training: Training, fold: Fold) -> tuple[Training, Encoded]:
    """What a fold is fitted on, and its held-out rows with the levels that this part did not see marked so."""
    kept = training.take(~fold.held if fold.kept is None else fold.kept)
    held = training.rows.take(fold.held)
    codes = held.codes.copy()
    for column in range(codes.shape[1]):
        codes[~np.isin(codes[:, column], kept.rows.codes[:, column]), column] = UNSEEN
    return kept, Encoded(held.numeric, codes, held.work)


def farthest(distances: Floats, numbers: Ints, folds: Sequence[Fold], column: str) -> float:
    """How far outside rows lay that were held out by this column; 0 where none was.

    numbers: the fold of each row.
    """
    own = [number for number, fold in enumerate(folds) if fold.column == column]
    return float(distances[np.isin(numbers, own)].max(initial=0.0))
