"""Numeric columns that behave like names: a model's number, an id, a code of a kernel.

Between two measured sizes a time lies near the line from one to the other, so a size that was not measured is
interpolated. Between two names nothing lies. A column whose times rise and fall with its values is tested: values are
left out, and predicted from the others. Where that fails by more than a bound inside allows, or where too few rows are
left to test it, a value in between that was not measured is asked as a name that was never seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.stats import Floats
from laptime.estimate.learn.folds import FEWEST_FOLDS, FEWEST_LEFT, FEWEST_SIZES, MOST_NEW, Fold
from laptime.estimate.learn.ranks import bound
from laptime.estimate.learn.regressors import Regressor, Training, described
from laptime.estimate.table.table import Encoded

MANY_VALUES = 64
"""Above so many values several are left out together, so that a test takes few fits."""
TOGETHER, EACH = 2, 8
"""Of many values so many folds, which hold out one of so many values each."""
FEWEST_OF_A_VALUE = 2
"""With fewer rows a value on average, the folds inside leave out whole values anyway."""
ROWS_OF_A_VALUE = 24
USUAL = 0.95
FOLLOWS = 0.8
"""Times follow a column's values if this share of what was left out is as near as a bound inside allows."""
LEAST = float(np.log(1.1))
"""Errors up to a tenth are no failure, however small the others are."""


class NamedNumbers(msgspec.Struct, frozen=True):
    """A numeric column whose values are names, and those that were measured, ascending."""

    column: int
    values: list[float]


def unmeasured(named: Sequence[NamedNumbers], numeric: Floats) -> npt.NDArray[np.bool_]:
    """Where a row's value lies between those that were measured and is none of them, (n, columns)."""
    marked = np.zeros(numeric.shape, dtype=np.bool_)
    for one in named:
        values, asked = np.array(one.values), numeric[:, one.column]
        at = np.clip(np.searchsorted(values, asked), 1, len(values) - 1)
        near = np.minimum(np.abs(asked - values[at]), np.abs(asked - values[at - 1]))
        inside = (asked > values[0]) & (asked < values[-1])
        marked[:, one.column] = inside & (near > 1e-9 * np.maximum(np.abs(asked), 1.0))
    return marked


LeftOut = Callable[[Sequence[Fold]], list[Floats]]
"""log(measured / predicted) of the configurations of each of these folds."""


def named_numbers(
    training: Training, names: Sequence[str], regressor: Regressor, residuals: Floats, left_out: LeftOut
) -> list[NamedNumbers]:
    """The numeric columns of a table whose values are names.

    regressor: what predicts best inside. residuals: its own inside, ascending, in logarithms.
    """
    usual = max(float(bound(residuals, np.array([USUAL]))[0]), LEAST)
    asked = _suspects(training, regressor, usual) if np.isfinite(usual) else []
    folds = [fold for one in asked for fold in _tests(training, one, names)]
    return _failed(asked, names, folds, left_out(folds) if folds else [], usual)


def _tests(training: Training, one: NamedNumbers, names: Sequence[str]) -> list[Fold]:
    """What is left out to test a column: values one by one, of many values several at once with others between."""
    if len(one.values) <= MANY_VALUES:
        return value_folds(training, [one], names)
    name, values, column = names[one.column], np.array(one.values), training.rows.numeric[:, one.column]
    shares = [values[1 + number * EACH // TOGETHER : -1 : EACH] for number in range(TOGETHER)]
    return [Fold("level", f"values of {name}", np.isin(column, share), column=name) for share in shares]


def value_folds(training: Training, named: Sequence[NamedNumbers], names: Sequence[str]) -> list[Fold]:
    """Each value between the smallest and the largest held out; all of them where these are fewer than three."""
    folds = []
    for one in named:
        between = one.values[1:-1]
        some = between if len(between) >= FEWEST_FOLDS else one.values
        chosen = np.unique(np.linspace(0, len(some) - 1, min(len(some), MOST_NEW)).round().astype(int))
        for value in [some[place] for place in chosen]:
            held = training.rows.numeric[:, one.column] == value
            if held.any() and (~held).sum() >= FEWEST_LEFT:
                name = names[one.column]
                folds.append(Fold("level", f"{name} {value:g}", held, column=name))
    return folds


def _suspects(training: Training, regressor: Regressor, usual: float) -> list[NamedNumbers]:
    """The columns with whose values times rise and fall: from one value to the next and back, or step by step."""
    found = []
    for column, values in _columns_of_few(training):
        over, under = _at_neighbours(training, regressor, column, values)
        if ((over > usual) | (under < -usual)).any() or _rises_and_falls(_levels(training, regressor, column), usual):
            found.append(NamedNumbers(column, values.tolist()))
    return found


def _failed(
    named: Sequence[NamedNumbers], names: Sequence[str], folds: Sequence[Fold], off: Sequence[Floats], usual: float
) -> list[NamedNumbers]:
    """Those of the columns whose left out values are further off than a bound inside allows, or that no fold tests."""
    ends = {f"{names[one.column]} {end:g}" for one in named for end in (one.values[0], one.values[-1])}
    found = []
    for one in named:
        between = [
            np.abs(errors)
            for errors, fold in zip(off, folds, strict=True)
            if fold.column == names[one.column] and fold.what not in ends
        ]
        if not between or np.mean(np.concatenate(between) <= usual) < FOLLOWS:
            found.append(one)
    return found


def _columns_of_few(training: Training) -> list[tuple[int, Floats]]:
    found = []
    for column, asked in enumerate(training.rows.numeric.T):
        values = np.unique(asked)
        few = FEWEST_SIZES <= len(values) <= len(training) // FEWEST_OF_A_VALUE
        if few and not described(training.rows, column):
            found.append((column, values))
    return found


def _at_neighbours(training: Training, regressor: Regressor, column: int, values: Floats) -> tuple[Floats, Floats]:
    """Of each value between the ends how far its times lie above the higher and the lower of both neighbours'.

    Medians over its rows, (values - 2,) each, in logarithms; the neighbours' times are predicted for the same rows.
    """
    rng, numeric = np.random.default_rng(0), training.rows.numeric
    rows, place = [], []
    for number, value in enumerate(values[1:-1]):
        own = np.flatnonzero(numeric[:, column] == value)
        own = rng.permutation(own)[:ROWS_OF_A_VALUE]
        rows.append(own)
        place += [number] * len(own)
    some, at = np.concatenate(rows), np.array(place)

    def moved(by: int) -> Floats:
        other = numeric[some].copy()
        other[:, column] = values[at + 1 + by]
        return regressor.log_ms(Encoded(other, training.rows.codes[some], training.rows.work[some]))

    here, below, above = training.log_ms[some], moved(-1), moved(1)
    over, under = here - np.maximum(below, above), here - np.minimum(below, above)
    numbers = range(len(values) - 2)
    return (
        np.array([np.median(over[at == number]) for number in numbers]),
        np.array([np.median(under[at == number]) for number in numbers]),
    )


def _levels(training: Training, regressor: Regressor, column: int) -> Floats:
    """The times at each value of a column, all else being equal, (values,), in logarithms.

    Predicted for the same rows at every value; and how far the rows of each value lie above their own prediction.
    """
    rows, own = training.rows, training.rows.numeric[:, column]
    values = np.unique(own)
    some = np.random.default_rng(0).permutation(len(training))[:ROWS_OF_A_VALUE]
    asked = np.tile(rows.numeric[some], (len(values), 1))
    asked[:, column] = np.repeat(values, len(some))
    alike = np.tile(some, len(values))
    predicted = regressor.log_ms(Encoded(asked, rows.codes[alike], rows.work[alike])).reshape(len(values), len(some))
    off = training.log_ms - regressor.log_ms(rows)
    above = np.array([np.median(off[own == value]) for value in values])
    return np.asarray(np.median(predicted - predicted.mean(axis=0), axis=1) + above, dtype=np.float64)


def _rises_and_falls(levels: Floats, usual: float) -> bool:
    """Whether levels rise by more than usual somewhere, over one or more steps, and fall by more elsewhere."""
    risen = (levels - np.minimum.accumulate(levels)).max()
    fallen = (np.maximum.accumulate(levels) - levels).max()
    return bool(risen > usual and fallen > usual)
