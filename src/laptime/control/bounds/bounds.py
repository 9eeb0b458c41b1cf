"""What each choice takes for a question, known before it runs: a bound and a median of the TOTAL, in ms.

Before a call neither its time nor its answer's length is known. Both together are one distribution. With p(N), how
probable an answer of N tokens is (laptime.control.bounds.lengths), and G_N, the estimator's distribution of the time of
a call that makes N tokens under a choice,

    P(T <= t) = sum over N of p(N) G_N(t)

It is computed at GRID times of each choice. The bound is the first of these times at which P exceeds the choice's
level. The level is calibrated: it is as high as it has to be for the training questions' own times under that choice,
with p(N) from folds that don't hold the question (distributional conformal prediction, Chernozhukov, Wuethrich and Zhu
2021). Each choice has its own level, since under a tight budget only one or two choices are left, and a level over all
choices says little of those. A level holds over all questions together. So that no kind of question is left behind, it
is never below the confidence itself. laptime.control.bounds.calibrated_bounds makes bounds from an estimator.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.bounds.lengths import LengthModel, read_lengths
from laptime.control.choices import ChoiceSpace, ModelFacts
from laptime.control.seen import NO_ROOM, Budget, Floats32, Room
from laptime.control.tables.tensor_files import Arrays, read_value, take_array, write_value
from laptime.data.stats import Floats
from laptime.errors import LaptimeError

SCHEMA = "laptime.bounds/3"
GRID = 128
"""The number of times at which each choice's distribution is known; neighbours are about 1.5 % apart."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What each choice takes on one machine.

    known_ms, median_ms (tokens, choices): bound and median of the time of an answer of known length, row N - 1 for N
    tokens; infinite where nothing is promised. grid_ms (choices, GRID): times, ascending. within (choices, k, GRID)
    float32: P(T <= grid_ms) of an answer of lengths.counts[k] tokens. level (choices,): what P must exceed so that the
    promise is kept, at least the confidence; 1 where no level is enough. confidence: that of the promise.
    fast: the times are of calls on FastModel; else of the model's own generate().
    ratios (n,): log(time / bound) of the calls that were measured, ascending; None where that isn't known
    (laptime.control.bounds.ratios).
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
    fast: bool = False
    ratios: Floats | None = None

    def for_question(self, language: Floats32, room: Room = NO_ROOM) -> tuple[Floats, Floats]:
        """Bound and median of each choice, (choices,) each, for a question with these words."""
        share = self.share_of(language)
        return self.bound_of(share, room), self.median_of(share)

    def share_of(self, language: Floats32) -> Floats32:
        """P(T <= grid_ms), (choices, GRID), of a question with these words."""
        return self.share_within(self.lengths.mass(language)[self.lengths.group])

    def bound_of(self, share: Floats32, room: Room = NO_ROOM, level: Floats | None = None) -> Floats:
        """The bound of each choice, (choices,): the first time at which the share exceeds the choice's level.

        Calibrated on few questions, a level may be higher than any share. Then the bound is that of the longest answer.
        room: how often a choice may be late by itself; the bound is the lower one of those with and without it. level:
        used instead of the calibrated one.
        """
        needed = self.level if level is None else level
        bound = self.first_above(share, needed)
        if (longest := np.isinf(bound)).any():
            bound = np.where(longest, self.known_ms[-1], bound)
        if room.times == 1:
            return bound
        return np.minimum(bound, self.first_above(share, 1 - (1 - needed) * room.times) * room.stretch)

    def median_of(self, share: Floats32) -> Floats:
        """The median of each choice's time, (choices,)."""
        return self.first_above(share, 0.5)

    def share_within(self, mass: Floats32) -> Floats32:
        """P(T <= grid_ms), (choices, GRID), from P(N = counts), (choices, k)."""
        share: Floats32 = (mass[:, None, :] @ self.within)[:, 0]
        return share

    def first_above(self, share: Floats32, level: Floats | float) -> Floats:
        """The first time at which the share exceeds the level, (choices,); infinite where it never does.

        level: one for each choice, or one for all.
        """
        above = share > (level[:, None] if isinstance(level, np.ndarray) else level)
        at = above.argmax(axis=1)
        place = at + np.arange(0, above.size, GRID)
        first = self.grid_ms.take(place)
        return first if above[:, -1].all() else np.where(above.take(place), first, np.inf)

    def budget(
        self, ms: float, language: Floats32, factor: float = 1.0, median_factor: float = 1.0, *, room: Room = NO_ROOM
    ) -> Budget:
        """The budget of one question. factor, median_factor: laptime.control.seen.correction_factors.

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

        An answer longer than the longest known one gets the longest one's.
        """
        rows = np.clip(output_tokens, 1, len(self.known_ms)) - 1
        return (self.median_ms if median else self.known_ms)[rows, np.arange(len(self.space))]

    def for_questions(self, language: Floats32) -> tuple[Floats, Floats]:
        """`for_question` of many questions, (n, choices) each."""
        pairs = [self.for_question(one) for one in language]
        return np.array([bound for bound, _ in pairs]), np.array([median for _, median in pairs])


class _BoundsFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    space: ChoiceSpace
    model: ModelFacts
    confidence: float
    questions: int
    most: int
    fast: bool = False
    pair_sha256: str | None = None


def bounds_arrays(bounds: Bounds) -> Arrays:
    """The arrays of bounds by name, as they are written."""
    own = {name: getattr(bounds, name) for name in ("known_ms", "median_ms", "grid_ms", "within", "level")}
    known = {} if bounds.ratios is None else {"ratios": bounds.ratios}
    return own | known | bounds.lengths.arrays()


def same_bounds(first: Bounds, second: Bounds) -> bool:
    """Whether two bounds are equal, as those of two policies are that were trained on the same sweep."""
    if (first.space, first.confidence) != (second.space, second.confidence):
        return False
    arrays, others = bounds_arrays(first), bounds_arrays(second)
    return all(np.array_equal(arrays[name], others[name]) for name in arrays)


def write_bounds(bounds: Bounds, folder: str | Path, *, pair_sha256: str | None = None) -> None:
    """Write bounds.json and bounds.safetensors.

    pair_sha256: names the policy that the bounds belong to (laptime.control.policies.saved_policy).
    """
    facts = _BoundsFacts(
        space=bounds.space,
        model=bounds.model,
        confidence=bounds.confidence,
        questions=bounds.lengths.questions,
        most=bounds.lengths.most,
        fast=bounds.fast,
        pair_sha256=pair_sha256,
    )
    write_value(Path(folder), "bounds", SCHEMA, facts, bounds_arrays(bounds))


def read_paired_bounds(folder: str | Path) -> tuple[Bounds, str | None]:
    """The bounds of a folder, and the pair_sha256 that they were written with; None for an older folder.

    Raises LaptimeError for a folder that is damaged or foreign.
    """
    place = Path(folder)
    facts, arrays = read_value(place, "bounds", SCHEMA, _BoundsFacts, "bounds")
    file = place / "bounds.safetensors"
    choices = len(facts.space)
    if not 0 < facts.confidence < 1:
        raise LaptimeError(f"{file}: a confidence that is not between 0 and 1; train anew")
    lengths = read_lengths(arrays, facts.questions, facts.most, choices, file)
    by_tokens = (facts.most, choices)
    known, median = (
        take_array(arrays, name, by_tokens, file, finite=False).astype(np.float64) for name in ("known_ms", "median_ms")
    )
    grid = take_array(arrays, "grid_ms", (choices, GRID), file).astype(np.float64)
    within = take_array(arrays, "within", (choices, len(lengths.counts), GRID), file).astype(np.float32)
    level = take_array(arrays, "level", (choices,), file).astype(np.float64)
    falls = any((times_ms[1:] < times_ms[:-1]).any() for times_ms in (known, median))
    if falls or min(known.min(), median.min(), grid.min()) <= 0 or (np.diff(grid) < 0).any():
        raise LaptimeError(f"{file}: bounds that fall with longer answers, or times not above 0; train anew")
    rises = (np.diff(within) >= 0).all() and within.min() >= 0 and within.max() <= 1
    if not rises or level.min() < facts.confidence or level.max() > 1:
        raise LaptimeError(f"{file}: shares outside 0 to 1, or that fall with time; train anew")
    ratios = None
    if "ratios" in arrays:
        ratios = take_array(arrays, "ratios", arrays["ratios"].shape, file).astype(np.float64)
        if ratios.ndim != 1 or len(ratios) < 20 or (np.diff(ratios) < 0).any():
            raise LaptimeError(f"{file}: array 'ratios' is no ascending list of 20 values or more; train anew")
    bounds = Bounds(
        space=facts.space,
        model=facts.model,
        confidence=facts.confidence,
        lengths=lengths,
        known_ms=known,
        median_ms=median,
        grid_ms=grid,
        within=within,
        level=level,
        fast=facts.fast,
        ratios=ratios,
    )
    return bounds, facts.pair_sha256
