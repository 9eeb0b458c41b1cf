"""Regressors of log time: a sum of stages, each fitted to what the ones before left over.

A product of a roofline and a residual is a sum of their logarithms, so every kind here is one list of stages:
terms; trees; a process; terms and then any of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.stats import Floats
from laptime.estimate.learn.process import Equations, Parameters, Process, choose_parameters, equations_of, fit_process
from laptime.estimate.learn.terms import Basis, Terms, fit_terms
from laptime.estimate.learn.trees import Trees, fit_trees, tree_size
from laptime.estimate.table.table import Encoded

Residual = str
RESIDUALS: tuple[Residual, ...] = ("none", "small", "large", "process")
"""What may follow the roofline: nothing, few or many trees, a Gaussian process. Refined: "guided" trees that also see
the roofline's time, and "process+large", the process and then trees."""
FEW_VALUES = 3
"""What is known of so few GPUs or models carries no trend to continue: beyond its range it counts as the nearest."""
POWERS = (0.0, 0.5, 1.0)
Roof = tuple[float | None, bool, Basis]
"""What lies below a process: the roofline's power (None without one), whether categories are seen, and its terms."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of regressor. `power` None: no roofline below the residual."""

    power: float | None
    residual: Residual
    categories: bool = True
    """Whether categorical columns (hardware, model) are seen; without, only their numbers are."""
    basis: Basis = "sizes"
    """What the roofline's terms are: products of sizes, the work of the call, or both."""

    @property
    def name(self) -> str:
        """As the model card prints it."""
        kind = {"sizes": "terms", "both": "work+terms"}.get(self.basis, self.basis)
        parts = [] if self.power is None else [f"{kind}^{self.power:g}"]
        words = {"small": "small trees", "large": "trees", "guided": "guided trees", "process+large": "process x trees"}
        parts += [] if self.residual == "none" else [words.get(self.residual, self.residual)]
        return " x ".join(parts) + ("" if self.categories else " (no categories)")


class Clamp(msgspec.Struct, frozen=True):
    """A numeric column of few values, and their range."""

    column: int
    low: float
    high: float


class Regressor(msgspec.Struct, frozen=True, kw_only=True):
    """log time of a row = the sum of the stages."""

    candidate: Candidate
    terms: Terms | None = None
    process: Process | None = None
    trees: Trees | None = None
    middle: float = 0.0
    """Median log time, where no roofline says the size."""
    clamps: list[Clamp] = []

    @property
    def needs_work(self) -> bool:
        """Whether the roofline reads columns of work."""
        return self.candidate.power is not None and self.candidate.basis in ("work", "both")

    def log_ms(self, rows: Encoded, *, threads: int = 0) -> Floats:
        """log of the time in the target's unit, (n,)."""
        seen = clamped(rows if self.candidate.categories else rows.without_categories(), self.clamps)
        total = np.full(len(rows), self.middle)
        if self.terms is not None:
            total += self.terms.log_ms(seen)
        guide = total.copy() if self.candidate.residual == "guided" else None
        if self.process is not None:
            total += self.process.log_ms(seen)
        if self.trees is not None:
            total += self.trees.log_ms(seen, guide, threads=threads)
        return total

    def settled(self) -> Regressor:
        """The same as it will be after saving and loading, bit for bit."""
        return self if self.trees is None else msgspec.structs.replace(self, trees=self.trees.settled())


class Training(msgspec.Struct, frozen=True):
    """Configurations to fit on: unique rows, the median log time of each, how often each was measured."""

    rows: Encoded
    log_ms: Floats
    repeats: Floats

    def __len__(self) -> int:
        return len(self.log_ms)

    def take(self, which: npt.NDArray[Any]) -> Training:
        """These configurations (indices or a mask)."""
        return Training(self.rows.take(which), self.log_ms[which], self.repeats[which])


@dataclass
class Shared:
    """What kinds that are fitted to the same rows share: rooflines by power and basis, and processes' equations."""

    terms: dict[tuple[float, Basis], Terms] = field(default_factory=dict)
    equations: dict[tuple[bool, tuple[float, ...]], Equations] = field(default_factory=dict)


def simple_candidates(*, has_numeric: bool, has_categories: bool, has_work: bool = False) -> list[Candidate]:
    """What is tried first: every roofline with every single residual, all columns seen."""
    powers: tuple[float | None, ...] = (None, *POWERS) if has_numeric else (None,)
    return [
        Candidate(power=power, residual=residual, basis=basis)
        for basis in (("sizes", "work") if has_work else ("sizes",))
        for power in powers
        for residual in RESIDUALS
        if not (power is None and (residual in ("none", "small") or basis == "work"))
    ]


def plain_candidates() -> list[Candidate]:
    """A roofline of plain products, alone or with few trees: it has the least that can go wrong beyond the sizes."""
    residuals = ("none", "small")
    return [Candidate(power=power, residual=kind, basis="products") for power in POWERS for kind in residuals]


def neighbours(kind: Candidate, has_numeric: bool, has_categories: bool, has_work: bool = False) -> list[Candidate]:
    """What differs from a candidate in one way: categories seen or not; guided trees; a process and trees together;
    the other terms beside its own."""
    near = []
    if has_work and kind.power is not None and kind.basis != "both":
        near.append(msgspec.structs.replace(kind, basis="both"))
    if kind.residual == "large" and kind.power is not None:
        near.append(msgspec.structs.replace(kind, residual="guided"))
    if has_numeric and has_categories:
        near.append(msgspec.structs.replace(kind, categories=not kind.categories))
    if kind.residual in ("process", "large"):
        both = msgspec.structs.replace(kind, residual="process+large")
        near.append(both)
        if has_numeric and has_categories:
            near.append(msgspec.structs.replace(both, categories=not kind.categories))
    return near


def fit_regressor(
    training: Training,
    candidate: Candidate,
    *,
    seed: int = 0,
    threads: int = 0,
    parameters: Mapping[Roof, Parameters] | None = None,
    shared: Shared | None = None,
) -> Regressor:
    """Fit one kind.

    `parameters` has the process' parameters by (power, categories) where they are known already; `shared` what other
    kinds on these rows needed already.
    """
    shared = Shared() if shared is None else shared
    clamps = few_valued(training.rows)
    rows = training.rows if candidate.categories else training.rows.without_categories()
    middle = 0.0
    guide = None
    terms = None
    if candidate.power is None:
        middle = float(np.median(training.log_ms))
        left = training.log_ms - middle
    else:
        by_level = candidate.basis == "products" and not candidate.categories  # its rates are of levels not seen
        terms = None if by_level else shared.terms.get((candidate.power, candidate.basis))
        terms = terms or fit_terms(rows, training.log_ms, power=candidate.power, basis=candidate.basis)
        left = training.log_ms - terms.log_ms(rows)
    process = trees = None
    if candidate.residual.startswith("process"):
        known = (parameters or {}).get((candidate.power, candidate.categories, candidate.basis))
        chosen = known or choose_parameters(rows, left, training.repeats, seed=seed)
        key = candidate.categories, tuple(chosen.values)
        if key not in shared.equations:
            shared.equations[key] = equations_of(rows, training.repeats, chosen, seed=seed)
        process = fit_process(shared.equations[key], left)
        left = left - process.log_ms(rows)
    if candidate.residual == "guided" and terms is not None:
        guide = terms.log_ms(rows)
    size = tree_size(candidate.residual, len(rows))
    if size is not None:
        trees = fit_trees(rows, left, size, guide, seed=seed, threads=threads)
    return Regressor(candidate=candidate, terms=terms, process=process, trees=trees, middle=middle, clamps=clamps)


def described(rows: Encoded, column: int) -> bool:
    """Whether a numeric column only describes a categorical one: each of its levels has a single value there."""
    values = rows.numeric[:, column]
    for codes in rows.codes.T:
        levels, first = np.unique(codes, return_index=True)
        if len(levels) > 1 and (values == values[first][np.searchsorted(levels, codes)]).all():
            return True
    return False


def few_valued(rows: Encoded) -> list[Clamp]:
    """The numeric columns that describe a categorical one with at most FEW_VALUES distinct values."""
    return [
        Clamp(place, float(column.min()), float(column.max()))
        for place, column in enumerate(rows.numeric.T)
        if len(np.unique(column)) <= FEW_VALUES and described(rows, place)
    ]


def clamped(rows: Encoded, clamps: list[Clamp]) -> Encoded:
    """The same rows with those columns within their ranges."""
    if not clamps:
        return rows
    numeric = rows.numeric.copy()
    for clamp in clamps:
        np.clip(numeric[:, clamp.column], clamp.low, clamp.high, out=numeric[:, clamp.column])
    return Encoded(numeric, rows.codes, rows.work)
