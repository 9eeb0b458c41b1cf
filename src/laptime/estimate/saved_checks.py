"""Checks of a saved estimator before any part is used: lengths, indices and numbers must fit together."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from laptime.errors import LaptimeError
from laptime.estimate.learn.domain import Domain
from laptime.estimate.learn.growth import Growth
from laptime.estimate.learn.known_groups import Known
from laptime.estimate.learn.named_numbers import NamedNumbers
from laptime.estimate.learn.process import Process, Scaling
from laptime.estimate.learn.regressors import Clamp
from laptime.estimate.learn.surroundings import Places
from laptime.estimate.learn.terms import Terms, TermSet
from laptime.estimate.roofline.roofline import ModelShape, VisionShape
from laptime.estimate.roofline.work import INPUTS, MODEL, NAMES, Work
from laptime.estimate.table.row_marks import KEPT
from laptime.estimate.table.table import Schema

MOST_POWER = 8
MOST_SIZE = 1e9


def check_marks(marks: list[int], where: str) -> None:
    """Raise LaptimeError unless the marks of rows are few, ascending and of 63 bits."""
    ok = len(marks) <= KEPT and all(0 <= mark < 2**63 for mark in marks) and marks == sorted(set(marks))
    _require(ok, "marks of rows", where)


def check_named(named: list[NamedNumbers], numeric: int, where: str) -> None:
    """Raise LaptimeError unless every column of names is there, with two or more values that ascend."""
    ok = all(
        0 <= one.column < numeric and len(one.values) > 1 and _finite(one.values) and one.values == sorted(one.values)
        for one in named
    )
    _require(ok, "columns of names", where)


def check_terms(terms: Terms, numeric: int, categories: int, where: str) -> None:
    """Raise LaptimeError unless every term is a product of columns that there are, at a finite rate of at least 0."""
    products: TermSet = terms.terms
    count, columns = len(products.exponents), len(products.columns)
    ok = (
        len(terms.rates) == len(products.tiled) == len(products.tiles) == count
        and len(products.offsets) == columns
        and all(0 <= column < numeric for column in products.columns)
        and all(len(powers) == columns for powers in products.exponents)
        and all(abs(power) <= MOST_POWER for powers in products.exponents for power in powers)
        and all(-1 <= place < columns for place in products.tiled)
        and all(tile >= 1 for tile in products.tiles)
        and len(products.levels) in (0, count)
        and all(len(level) in (0, 2) for level in products.levels)
        and all(0 <= level[0] < categories and level[1] >= 0 for level in products.levels if level)
        and _finite([*terms.rates, *products.offsets, terms.floor])
        and all(rate >= 0 for rate in terms.rates)
        and terms.floor > 0
    )
    _require(ok, "roofline terms", where)


def check_process(process: Process, numeric: int, categories: int, where: str) -> None:
    """Raise LaptimeError unless the process' arrays have the shapes that its columns ask for."""
    count = len(process.weights)
    ok = (
        _scaling_fits(process.scaling, numeric)
        and len(process.lengths) == numeric
        and len(process.shares) == numeric + categories
        and len(process.centres) == len(process.codes) == count > 0
        and all(len(row) == numeric for row in process.centres)
        and all(len(row) == categories for row in process.codes)
        and _finite([*process.lengths, *process.shares, *process.weights, process.offset])
        and _finite(value for row in process.centres for value in row)
        and all(length > 0 for length in process.lengths)
        and all(abs(code) < 2**31 for row in process.codes for code in row)
    )
    _require(ok, "process", where)


def check_domain(domain: Domain, schema: Schema, where: str) -> None:
    """Raise LaptimeError unless the domain's sides are over the schema's numeric columns."""
    count = len(schema.numeric)
    ones = [1.0] * len(domain.kinds)
    ok = (
        _scaling_fits(Scaling(kinds=domain.kinds, least=domain.least, middle=ones, width=domain.scale), count)
        and len(domain.low) == len(domain.high) == len(domain.directions)
        and all(len(direction) == count for direction in domain.directions)
        and _finite([*domain.low, *domain.high])
        and _finite(value for direction in domain.directions for value in direction)
        and set(schema.levels) == set(schema.categorical)
        and all(0 <= one.column < len(schema.categorical) and one.level >= 0 for one in domain.levels)
        and all(len(one.sides) == len(one.high) and _finite(one.high) for one in domain.levels)
        and all(0 <= side < len(domain.directions) for one in domain.levels for side in one.sides)
    )
    _require(ok, "domain", where)


def check_clamps(clamps: list[Clamp], numeric: int, where: str) -> None:
    """Raise LaptimeError unless every clamp is a range of a numeric column."""
    ok = all(0 <= clamp.column < numeric and _finite([clamp.low, clamp.high]) for clamp in clamps)
    _require(ok and all(clamp.low <= clamp.high for clamp in clamps), "clamps", where)


def check_growth(growth: Growth, numeric: int, where: str) -> None:
    """Raise LaptimeError unless every numeric column has a finite elasticity of at least 0."""
    ok = len(growth.elasticities) == numeric and _finite(growth.elasticities)
    _require(ok and all(value >= 0 for value in growth.elasticities), "growth", where)


def check_places(places: Places, numeric: int, categories: int, where: str) -> None:
    """Raise LaptimeError unless held-out rows have the coordinates that the columns ask for, and sizes above 0."""
    coordinates = numeric + sum(len(levels) for levels in places.levels)
    ok = (
        _scaling_fits(places.scaling, numeric)
        and len(places.levels) == categories
        and all(abs(level) < 2**31 for levels in places.levels for level in levels)
        and len(places.coordinates) == len(places.sizes) > 0
        and coordinates > 0
        and all(len(row) == coordinates for row in places.coordinates)
        and _finite(value for row in places.coordinates for value in row)
        and _finite(places.sizes)
        and all(size > 0 for size in places.sizes)
        and all(0 <= place < len(places.sizes) for place in places.jumps)
    )
    _require(ok, "surroundings", where)


def check_known(known: Known, schema: Schema, where: str) -> None:
    """Raise LaptimeError unless what is known of groups are values of numeric columns."""
    ok = (
        all(0 <= column < len(schema.numeric) for column in known.columns)
        and all(len(values) == len(known.columns) for values in known.values)
        and _finite(value for values in known.values for value in values)
    )
    _require(ok, "groups", where)


def check_work(work: Work, schema: Schema, where: str) -> None:
    """Raise LaptimeError unless the work's columns are known ones, of models with sizes, for rows that say which."""
    shapes = [value for shape in work.shapes.values() for value in _numbers(shape)]
    rates = [] if work.rates is None else list(msgspec.structs.asdict(work.rates).values())
    ok = (
        0 < len(work.columns) == len(set(work.columns))
        and NAMES.issuperset(work.columns)
        and set(work.constants) <= set(INPUTS)
        and _finite([*work.constants.values(), *rates])
        and all(rate > 0 for rate in rates)
        and (work.rates is not None or not any(name.endswith("_ms") for name in work.columns))
        and all(0 <= value <= MOST_SIZE for value in shapes)
        and all(shape.vision is None or shape.vision.patches > 0 for shape in work.shapes.values())
        and (work.model in work.shapes if work.model is not None else MODEL in schema.categorical)
    )
    _require(ok, "work", where)


def _numbers(shape: ModelShape | VisionShape) -> list[float]:
    numbers: list[float] = []
    for part in msgspec.structs.asdict(shape).values():
        if isinstance(part, VisionShape):
            numbers += _numbers(part)
        elif isinstance(part, (int, float)):  # a whole number may be too large for a float
            numbers.append(part)
    return numbers


def _scaling_fits(scaling: Scaling, count: int) -> bool:
    return (
        len(scaling.kinds) == len(scaling.least) == len(scaling.middle) == len(scaling.width) == count
        and set(scaling.kinds) <= {"log", "log1p", "plain"}
        and _finite([*scaling.least, *scaling.middle, *scaling.width])
        and all(width > 0 for width in scaling.width)
        and all(least > 0 for kind, least in zip(scaling.kinds, scaling.least, strict=True) if kind == "log")
    )


def _finite(values: Iterable[float]) -> bool:
    return all(math.isfinite(value) for value in values)


def _require(ok: bool, what: str, where: str) -> None:
    if not ok:
        raise LaptimeError(f"{where}: its {what} don't fit together; fit the estimator again")
