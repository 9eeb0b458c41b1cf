"""What each choice takes for a question, known before it runs: a bound and a median of the TOTAL, in microseconds.

An estimator (laptime fit RUN) is asked once for every choice and every number of output tokens; a question then costs
the number of tokens that it will need (laptime.control.lengths) and one row of the table.

The promise P(T <= bound) >= confidence is split between the two things that are not known (union bound): the answer is
longer than N with probability a s at most, and a call of N tokens takes longer than its bound with probability
a (1 - s) at most, with a = 1 - confidence. Bounds never fall with N, so that the second holds for shorter answers too.
Every share s gives a bound; of those in SHARES the lowest counts, choice by choice: where all answers are of one length
a small s costs nothing, where lengths vary more than times a large one is better.

An input's own sizes (prompt tokens, image tokens, crops) are those of its tier at the 95th percentile over the table's
questions: a question longer than that may take a little more than its bound says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.choices import ChoiceSpace, Tier
from laptime.control.decision_table import DecisionTable, ModelFacts
from laptime.control.lengths import LengthModel, fit_lengths, read_lengths
from laptime.control.seen import Budget, Floats
from laptime.control.tensor_files import read_value, take_array, write_value
from laptime.errors import LaptimeError
from laptime.estimate.lookup import WHERE, build
from laptime.estimate.predictor import Predictor

Reals = npt.NDArray[np.float64]

SCHEMA = "laptime.bounds/2"
SIZE_LEVEL = 0.95
"""An input's sizes are those of its tier at this quantile."""
SHARES = (0.5, 0.1, 0.2, 0.8)
"""The parts of the risk that the number of tokens may take, one bound each; the first is `Bounds.bound_ms`'s."""
OTHER_MACHINE = 3.0
"""Measured times so many times the estimator's, or that small a part of them, are of another model or machine."""
TOKENS = "output_tokens"
SIZES = ("prompt_tokens", "image_tokens", "crops")
LATE = ("config.top_k", "config.blocks")


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What each choice takes on one machine, for answers of every length.

    bound_ms, median_ms (tokens, choices) float64: of the time alone, row N - 1 for an answer of N tokens; the bound has
    half of the risk. Infinite: nothing is promised. other_ms (shares, tokens, choices): the same for the other SHARES,
    or none of them. known_ms (tokens, choices): with the whole confidence, for a length that is known; None: bound_ms.
    confidence: of the whole promise.
    """

    space: ChoiceSpace
    model: ModelFacts
    confidence: float
    lengths: LengthModel
    bound_ms: Reals
    median_ms: Reals
    other_ms: Reals = np.empty((0, 0, 0))
    known_ms: Reals | None = None

    def for_question(self, language: Floats) -> tuple[Reals, Reals]:
        """Bound and median of each choice, (choices,) each, for a question with these words."""
        cumulative = self.lengths.cumulative(language)
        choices = np.arange(len(self.space))
        bound = self.bound_ms[self._enough(cumulative, SHARES[0]) - 1, choices]
        for share, times_ms in zip(SHARES[1:], self.other_ms, strict=False):
            bound = np.minimum(bound, times_ms[self._enough(cumulative, share) - 1, choices])
        return bound, self.median_ms[self.lengths.place(cumulative, 0.5) - 1, choices]

    def budget(self, ms: float, language: Floats, factor: float = 1.0, median_factor: float = 1.0) -> Budget:
        """The budget of one question; `factor` and `median_factor` are laptime.estimate.online's correction.

        Raises LaptimeError for a budget that is not a number above 0.
        """
        if not (isinstance(ms, (int, float)) and 0 < ms < float("inf")) or isinstance(ms, bool):
            raise LaptimeError(f"a budget of {ms!r} ms: a number above 0, in milliseconds")
        bound, median = self.for_question(language)
        if factor != 1.0:
            bound = bound * factor
        if median_factor != 1.0:
            median = median * median_factor
        return Budget(ms=float(ms), bound_ms=bound, median_ms=median, factor=factor)

    def at_tokens(self, output_tokens: npt.NDArray[np.int32], *, median: bool = False) -> Reals:
        """The bound (or median) of answers of known length: counts (..., choices) -> ms (..., choices).

        Its whole risk is the time's. A count above the longest that the table knows takes the longest's.
        """
        rows = np.clip(output_tokens, 1, len(self.bound_ms)) - 1
        known = self.bound_ms if self.known_ms is None else self.known_ms
        return (self.median_ms if median else known)[rows, np.arange(len(self.space))]

    def for_questions(self, language: Floats) -> tuple[Reals, Reals]:
        """`for_question` of many, (n, choices) each."""
        found = [self.for_question(one) for one in language]
        return np.array([bound for bound, _ in found]), np.array([median for _, median in found])

    def _enough(self, cumulative: Floats, share: float) -> npt.NDArray[np.int32]:
        return self.lengths.place(cumulative, self.lengths.level(levels(self.confidence, share)[0]))


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    space: ChoiceSpace
    model: ModelFacts
    confidence: float
    questions: int
    most: int


def levels(confidence: float, share: float) -> tuple[float, float]:
    """The levels of the number of tokens and of the time when the first may take this share of the risk."""
    return 1 - (1 - confidence) * share, 1 - (1 - confidence) * (1 - share)


def make_bounds(estimator: Predictor, table: DecisionTable, language: Floats, *, confidence: float = 0.95) -> Bounds:
    """From an estimator of the total and a table's questions (the training half), language (n, L).

    `estimator`: laptime.cli.columns.load_estimator's, a TotalEstimator or an Estimator of total_ms that has
    output_tokens among its features. Raises LaptimeError for an estimator of another target, of another model or
    machine, or one that needs to know what a choice doesn't say.
    """
    if not 0 < confidence < 1:
        raise LaptimeError(f"confidence {confidence:g}: a share between 0 and 1, written as 0.95")
    if estimator.target != "total_ms":
        raise LaptimeError(f"this estimator predicts {estimator.target}; budgets are for total_ms (laptime fit RUN)")
    _refuse_other_model(estimator, table)
    lengths = fit_lengths(language, table.output_tokens, table.most_tokens, table.space)
    needed = [*estimator.features, *estimator.categorical]
    if TOKENS not in needed and len(lengths.counts) > 1:
        raise LaptimeError(
            "this estimator doesn't know how many tokens are made, and answers differ in length; fit the run's stages "
            "(laptime fit RUN --out EST)"
        )
    by_tier = [
        _tier_table(estimator, table, tier, needed, lengths.most, confidence) for tier in range(table.space.first)
    ]
    whole = np.concatenate(by_tier, axis=2)
    shortest = int(table.output_tokens.min()) - 1
    never_seen = whole[:, :shortest]  # nothing may be promised of them; but they take no longer than the shortest seen
    never_seen[...] = np.where(np.isinf(never_seen), whole[:, [shortest]], never_seen)
    whole = np.maximum.accumulate(whole, axis=1)
    made = _bounds(table.space, table.model, confidence, lengths, whole)
    _refuse_other_times(made, table)
    return made


def write_bounds(bounds: Bounds, folder: str | Path) -> None:
    """Write bounds.json and bounds.safetensors."""
    told = _Told(
        space=bounds.space,
        model=bounds.model,
        confidence=bounds.confidence,
        questions=bounds.lengths.questions,
        most=bounds.lengths.most,
    )
    others = (
        bounds.other_ms if len(bounds.other_ms) else np.broadcast_to(bounds.bound_ms, _others(bounds.bound_ms.shape))
    )
    known = bounds.bound_ms if bounds.known_ms is None else bounds.known_ms
    whole = np.concatenate([bounds.bound_ms[None], others, known[None], bounds.median_ms[None]])
    arrays = {"times_ms": whole, **bounds.lengths.arrays()}
    write_value(Path(folder), "bounds", SCHEMA, told, arrays)


def read_bounds(folder: str | Path) -> Bounds:
    """Read what `write_bounds` wrote. Raises LaptimeError for a folder that is damaged or foreign."""
    place = Path(folder)
    told, arrays = read_value(place, "bounds", SCHEMA, _Told, "bounds")
    file = place / "bounds.safetensors"
    shape = (len(SHARES) + 2, told.most, len(told.space))
    whole = take_array(arrays, "times_ms", shape, file, finite=False).astype(np.float64)
    if not (0 < told.confidence < 1) or (whole <= 0).any() or (whole[:, 1:] < whole[:, :-1]).any():
        raise LaptimeError(f"{file}: bounds that fall with longer answers, or times that are none; make it anew")
    return _bounds(
        told.space,
        told.model,
        told.confidence,
        read_lengths(arrays, told.questions, told.most, len(told.space), file),
        whole,
    )


def _bounds(space: ChoiceSpace, model: ModelFacts, confidence: float, lengths: LengthModel, times_ms: Reals) -> Bounds:
    """times_ms (shares + 2, tokens, choices): a bound for each share, with the whole confidence, the median."""
    return Bounds(
        space=space,
        model=model,
        confidence=confidence,
        lengths=lengths,
        bound_ms=times_ms[0],
        median_ms=times_ms[-1],
        other_ms=times_ms[1:-2],
        known_ms=times_ms[-2],
    )


def _others(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (len(SHARES) - 1, *shape)


def _tier_table(
    estimator: Predictor, table: DecisionTable, tier: int, needed: list[str], most: int, confidence: float
) -> Reals:
    """(shares + 2, most, late): bounds and medians of one tier."""
    space = table.space
    sizes = _sizes(table, tier)
    knobs: dict[str, list[Any]] = {"config.top_k": list(space.top_ks) or [table.model.top_k]}
    knobs["config.blocks"] = list(space.blocks) or [table.model.blocks]
    if space.tiers:
        knobs |= _tier_values(space.tiers[tier], numeric=estimator.features)
    knobs |= {name: [value] for name, value in sizes.items()} | {"batch": [1]}
    knobs[TOKENS] = list(range(1, most + 1))
    if unknown := [name for name in needed if knobs.get(name, [None])[0] is None]:
        raise LaptimeError(
            f"the estimator needs {', '.join(unknown)}, which no choice says; fit it on the sweep that the choices "
            "come from"
        )
    asked: dict[str, list[Any]] = {name: knobs[name] for name in LATE if name in needed}
    asked |= {name: values for name, values in knobs.items() if name in needed and name not in asked}
    asked.pop(TOKENS, None)
    if TOKENS in needed:
        asked[TOKENS] = knobs[TOKENS]
    wanted = [*(levels(confidence, share)[1] for share in SHARES), confidence]
    built = [build(estimator, asked, q=q) for q in wanted]
    outside = built[0].where == WHERE.index("outside")
    shape = tuple(len(asked[name]) if name in asked else 1 for name in (*LATE, TOKENS))
    full = (max(1, len(space.top_ks)), max(1, len(space.blocks)), most)

    def spread(values: npt.NDArray[np.floating]) -> Reals:
        by_choice: Reals = np.broadcast_to(values.reshape(shape), full).reshape(space.late, most)
        return np.asarray(by_choice.T, dtype=np.float64)

    bounds = [spread(np.where(outside, np.inf, one.bound_ms.astype(np.float64))) for one in built]
    return np.stack([*bounds, spread(built[0].median_ms)])


def _sizes(table: DecisionTable, tier: int) -> dict[str, int]:
    """Prompt tokens, image tokens and crops of a tier, at the 95th percentile of its questions."""
    columns = slice(tier * table.space.late, (tier + 1) * table.space.late)
    return {name: int(np.quantile(getattr(table, name)[:, columns], SIZE_LEVEL, method="higher")) for name in SIZES}


def _tier_values(tier: Tier, numeric: list[str]) -> dict[str, list[Any]]:
    crops: int | str = tier.low if tier.low == tier.high else f"{tier.low}-{tier.high}"
    as_number = isinstance(crops, int) and "config.crops" in numeric
    return {"config.tier": [tier.name], "config.crops": [crops if as_number else str(crops)]}


def _refuse_other_model(estimator: Predictor, table: DecisionTable) -> None:
    """By what its cards say of the knobs that it was fitted on."""
    stages: Mapping[str, Any] = getattr(estimator, "stages", {"total": estimator})
    for stage in stages.values():
        card = getattr(stage, "card", None)
        if card is None:
            continue
        for known in card.ranges:
            wanted = {"config.top_k": table.space.top_ks, "config.blocks": table.space.blocks}.get(known.feature, ())
            if wanted and not (known.low <= min(wanted) and max(wanted) <= known.high):
                raise LaptimeError(
                    f"an estimator of another model: it knows {known.feature.removeprefix('config.')} from "
                    f"{known.low:g} to {known.high:g}, the choices go from {min(wanted)} to {max(wanted)}; fit it on "
                    "this model's sweep"
                )
        names = card.levels.get("config.model", [])
        if names and table.model.name not in ("", *names):
            raise LaptimeError(
                f"an estimator of another model: it was fitted on {', '.join(names)}, not on {table.model.name}"
            )


def _refuse_other_times(bounds: Bounds, table: DecisionTable) -> None:
    """By what was measured: an estimator of another model or machine is off by much, for every choice."""
    ratios = table.total_ms / bounds.at_tokens(table.output_tokens, median=True)
    ratios = ratios[np.isfinite(ratios)]
    middle = float(np.median(ratios)) if len(ratios) else 1.0
    if not 1 / OTHER_MACHINE <= middle <= OTHER_MACHINE:
        raise LaptimeError(
            f"an estimator of another model or machine: measured totals are {middle:.3g} times what it says; fit it on "
            "the sweep that the choices come from"
        )
