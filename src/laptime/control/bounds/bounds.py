"""What each choice takes for a question, known before it runs: a bound and a median of the TOTAL, in microseconds.

Neither an answer's length nor a call's time is known beforehand. Both together are one distribution: with p(N) of
laptime.control.bounds.lengths and G_N, the estimator's, of the time of a call that makes N tokens under a choice,

    P(T <= t) = sum over N of p(N) G_N(t)

worked out at GRID times of each choice. The bound is the first of them where it exceeds the choice's level, which is
calibrated: how high it would have to be for the training questions' own times under that choice, with p(N) from folds
that don't hold the question (distributional conformal prediction, Chernozhukov, Wuethrich and Zhu 2021). Each choice
has a level of its own, since a tight budget leaves one or two of them, and what holds over all says little there. It is
over all questions alike; so that no kind of question is left behind it is never below the confidence itself. How bounds
are made from an estimator is laptime.control.bounds.calibrated_bounds.
"""

from __future__ import annotations

from math import ceil
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.bounds.lengths import LengthModel, read_lengths
from laptime.control.choices import ChoiceSpace
from laptime.control.seen import NO_ROOM, Budget, Floats32, Room
from laptime.control.tables.decision_table import ModelFacts
from laptime.control.tables.tensor_files import read_value, take_array, write_value
from laptime.data.stats import Floats
from laptime.errors import LaptimeError

SCHEMA = "laptime.bounds/3"
GRID = 128
"""Times of each choice at which its distribution is known, in equal ratios (about 1.5 %)."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What each choice takes on one machine.

    known_ms, median_ms (tokens, choices): bound and median of the time alone, row N - 1 for an answer of N tokens.
    Infinite: nothing is promised. grid_ms (choices, GRID), ascending; within (choices, k, GRID) float32: P(T <= grid)
    of an answer of lengths.counts[k] tokens. level (choices,): what the share must exceed, so that the promise is kept:
    the confidence or more; 1 where it can't be. confidence: of the promise.
    """

    space: ChoiceSpace
    model: ModelFacts
    confidence: float
    lengths: LengthModel
    known_ms: Floats
    median_ms: Floats
    grid_ms: Floats
    within: Floats32
    level: Floats

    def for_question(self, language: Floats32, room: Room = NO_ROOM) -> tuple[Floats, Floats]:
        """Bound and median of each choice, (choices,) each, for a question with these words."""
        share = self.share_of(language)
        return self.bound_of(share, room), self.median_of(share)

    def share_of(self, language: Floats32) -> Floats32:
        """P(T <= grid_ms), (choices, GRID), of a question with these words."""
        return self.share_within(self.lengths.mass(language)[self.lengths.group])

    def bound_of(self, share: Floats32, room: Room = NO_ROOM, level: Floats | None = None) -> Floats:
        """(choices,): where the share exceeds each choice's level; where it never does, the longest answer's own bound.

        With few questions the calibration may ask for more than a distribution holds; no answer is longer than that.
        room: a choice may be late more often by itself; then the lower one of both bounds. level: other ones than the
        calibrated.
        """
        needed = self.level if level is None else level
        found = self.first_above(share, needed)
        bound = np.where(np.isinf(found), self.known_ms[-1], found)
        if room.times == 1:
            return bound
        return np.minimum(bound, self.first_above(share, 1 - (1 - needed) * room.times) * room.stretch)

    def median_of(self, share: Floats32) -> Floats:
        """(choices,): the middle of the same distribution."""
        return self.first_above(share, 0.5)

    def share_within(self, mass: Floats32) -> Floats32:
        """P(T <= grid_ms), (choices, GRID), from P(N = counts), (choices, k)."""
        found: Floats32 = (mass[:, None, :] @ self.within)[:, 0]
        return found

    def first_above(self, share: Floats32, level: Floats | float) -> Floats:
        """(choices,): the first time at which the share exceeds the level; infinite where it never does.

        level: one for each choice, or one for all.
        """
        above = share > np.reshape(level, (-1, 1))
        at = above.argmax(axis=1)
        choices = np.arange(len(at))
        return np.where(above[choices, at], self.grid_ms[choices, at], np.inf)

    def budget(
        self, ms: float, language: Floats32, factor: float = 1.0, median_factor: float = 1.0, *, room: Room = NO_ROOM
    ) -> Budget:
        """The budget of one question; `factor` and `median_factor` are laptime.estimate.online's correction.

        Raises LaptimeError for a budget that is not a number above 0.
        """
        if not (isinstance(ms, (int, float)) and 0 < ms < float("inf")) or isinstance(ms, bool):
            raise LaptimeError(f"a budget of {ms!r} ms: a number above 0, in milliseconds")
        bound, median = self.for_question(language, room)
        if factor != 1.0:
            bound = bound * factor
        if median_factor != 1.0:
            median = median * median_factor
        return Budget(ms=float(ms), bound_ms=bound, median_ms=median, factor=factor)

    def at_tokens(self, output_tokens: npt.NDArray[np.int32], *, median: bool = False) -> Floats:
        """The bound (or median) of answers of known length: counts (..., choices) -> ms (..., choices).

        A count above the longest that the table knows takes the longest's.
        """
        rows = np.clip(output_tokens, 1, len(self.known_ms)) - 1
        return (self.median_ms if median else self.known_ms)[rows, np.arange(len(self.space))]

    def for_questions(self, language: Floats32) -> tuple[Floats, Floats]:
        """`for_question` of many, (n, choices) each."""
        found = [self.for_question(one) for one in language]
        return np.array([bound for bound, _ in found]), np.array([median for _, median in found])


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    space: ChoiceSpace
    model: ModelFacts
    confidence: float
    questions: int
    most: int


def level_rank(confidence: float, questions: int) -> float:
    """The quantile to take of `questions` calibration values, so that the next one is below it with the confidence.

    Above 1: there are too few of them.
    """
    return ceil((questions + 1) * confidence - 1e-9) / questions


def write_bounds(bounds: Bounds, folder: str | Path) -> None:
    """Write bounds.json and bounds.safetensors."""
    told = _Told(
        space=bounds.space,
        model=bounds.model,
        confidence=bounds.confidence,
        questions=bounds.lengths.questions,
        most=bounds.lengths.most,
    )
    own = {name: getattr(bounds, name) for name in ("known_ms", "median_ms", "grid_ms", "within", "level")}
    write_value(Path(folder), "bounds", SCHEMA, told, own | bounds.lengths.arrays())


def read_bounds(folder: str | Path) -> Bounds:
    """Read what `write_bounds` wrote. Raises LaptimeError for a folder that is damaged or foreign."""
    place = Path(folder)
    told, arrays = read_value(place, "bounds", SCHEMA, _Told, "bounds")
    file = place / "bounds.safetensors"
    choices = len(told.space)
    if not 0 < told.confidence < 1:
        raise LaptimeError(f"{file}: bounds of a confidence that is no share; make it anew")
    lengths = read_lengths(arrays, told.questions, told.most, choices, file)
    times = (told.most, choices)
    known, median = (
        take_array(arrays, name, times, file, finite=False).astype(np.float64) for name in ("known_ms", "median_ms")
    )
    grid = take_array(arrays, "grid_ms", (choices, GRID), file).astype(np.float64)
    within = take_array(arrays, "within", (choices, len(lengths.counts), GRID), file).astype(np.float32)
    level = take_array(arrays, "level", (choices,), file).astype(np.float64)
    falls = any((times_ms[1:] < times_ms[:-1]).any() for times_ms in (known, median))
    if falls or min(known.min(), median.min(), grid.min()) <= 0 or (np.diff(grid) < 0).any():
        raise LaptimeError(f"{file}: bounds that fall with longer answers, or times that are none; make it anew")
    rises = (np.diff(within) >= 0).all() and within.min() >= 0 and within.max() <= 1
    if not rises or level.min() < told.confidence or level.max() > 1:
        raise LaptimeError(f"{file}: shares that are none, or fall with time; make it anew")
    return Bounds(
        space=told.space,
        model=told.model,
        confidence=told.confidence,
        lengths=lengths,
        known_ms=known,
        median_ms=median,
        grid_ms=grid,
        within=within,
        level=level,
    )


SURE = 0.95
"""How sure it must be that the promise is kept, whichever questions it was tested on."""


def most_late(questions: int, confidence: float, sure: float = SURE) -> int:
    """The most late answers of so many that prove (binomial test) that the share in time is the confidence; -1: none.

    `questions` answers, independent, each late with the probability 1 - confidence, have no more of them late with a
    probability of at most 1 - sure.
    """
    from scipy.special import bdtr

    counts = np.arange(questions + 1)
    return int((bdtr(counts, questions, 1 - confidence) <= 1 - sure).sum()) - 1
