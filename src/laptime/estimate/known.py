"""What an estimator knows of the rows that it is asked about: which names, and which values never varied.

A feature that had one value in training says nothing about any other: a row that has another one is unknown. A name
that the estimator doesn't know is refused, because an answer that ignores it would be an answer to another question.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl

from laptime.errors import LaptimeError, did_you_mean
from laptime.estimate.answer_lengths import TOKENS
from laptime.estimate.predictor import Predictor, positive_of, unpromised_of
from laptime.estimate.table.table import other_value_rows

NAMED = 12
"""A message names at most this number of columns."""


BOUNDS = {True: "always above 0", False: "never negative"}


def known_names(predictor: Predictor) -> list[str]:
    """The columns that a row may name: features, groups, and what never varied in training."""
    return list(dict.fromkeys([*predictor.features, *predictor.categorical, *predictor.group, *predictor.constants]))


def check_names(predictor: Predictor, names: Collection[str], where: str = "") -> None:
    """Raise LaptimeError for the first name that the estimator doesn't know, with the names that are near.

    where: what holds the names, for the message; empty where they stand on the command line.
    """
    known = known_names(predictor)
    for name in names:
        if name in known:
            continue
        short = [one.rpartition(".")[2] for one in known]
        hint = did_you_mean(name, [*known, *short], cutoff=0.5) or f"it knows {', '.join(known[:NAMED])}"
        raise LaptimeError(f"{_at(where)}the estimator knows no {name!r}; {hint}")


def full_names(predictor: Predictor, names: Collection[str]) -> dict[str, str]:
    """Short names as the estimator's own: `top_k` is `config.top_k`, where that is the only column it can be."""
    known = known_names(predictor)
    full: dict[str, str] = {}
    for name in names:
        ends = [one for one in known if one.endswith(f".{name}")]
        if name not in known and len(ends) == 1 and ends[0] not in names:
            full[name] = ends[0]
    return full


def require_known(predictor: Predictor, frame: pl.DataFrame, where: str, *, whole: bool = False) -> None:
    """Raise LaptimeError for rows that lack a feature, with all that the estimator needs.

    whole: names are said as the columns are called, where short ones are not understood.
    """
    needed = list(dict.fromkeys([*predictor.features, *predictor.categorical]))
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        said = {name: name if whole else _short(name, needed) for name in needed}
        short, lacking = (", ".join(said[name] for name in names[:NAMED]) for names in (needed, missing))
        near = did_you_mean(missing[0], [name for name in frame.columns if name not in needed], cutoff=0.5)
        raise LaptimeError(
            f"{_at(where)}{lacking} {'is' if len(missing) == 1 else 'are'} missing; "
            f"{f'{near} ' if near else ''}the estimator needs {short}"
        )


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _short(name: str, needed: Sequence[str]) -> str:
    """A column without "config.", as it may be asked for, unless that is another column too."""
    short = name.rpartition(".")[2]
    return short if sum(one.rpartition(".")[2] == short for one in needed) == 1 else name


def unknown_reasons(predictor: Predictor, frame: pl.DataFrame) -> list[str | None]:
    """For each row why nothing is known of it ("batch is 8, but was always 1 in training"), else None."""
    reasons: list[list[str]] = [[] for _ in range(len(frame))]
    for name, always in predictor.constants.items():
        if name not in frame.columns:
            continue
        other = other_value_rows(frame[name], always)
        for row in other.nonzero()[0].tolist():
            reasons[row].append(f"{name} is {frame[name][row]}, but was always {always} in training")
    for name, above in positive_of(predictor).items():
        if name not in frame.columns or not frame[name].dtype.is_numeric():
            continue
        no_size = (frame[name] <= 0 if above else frame[name] < 0).fill_null(value=False)
        for row in no_size.arg_true().to_list():
            reasons[row].append(f"{name} is {frame[name][row]}, but was {BOUNDS[above]} in training")
    if others := _other_lengths(predictor):
        always = predictor.constants[TOKENS]
        for some in reasons:
            some.append(f"{TOKENS} is {', '.join(map(str, others))}, but was always {always} in training")
    unpromised = unpromised_of(predictor, frame)
    return ["; ".join(some) if some else why for some, why in zip(reasons, unpromised, strict=True)]


def _other_lengths(predictor: Predictor) -> list[int]:
    """The answer lengths of a distribution that training didn't have, where it had a single one."""
    always = predictor.constants.get(TOKENS)
    asked: list[int] = getattr(predictor, "tokens", None) or []
    return [] if always is None else [count for count in dict.fromkeys(asked) if count != float(always)]


def union_of_positive(parts: Sequence[Predictor]) -> dict[str, bool]:
    """The same of several estimators: what one of them has seen negative or 0 may be so."""
    asked: dict[str, list[bool | None]] = {}
    for part in parts:
        for name in part.features:
            asked.setdefault(name, []).append(positive_of(part).get(name))
    return {name: all(said) for name, said in asked.items() if None not in said}


def union_of_constants(parts: Sequence[Predictor]) -> dict[str, str]:
    """What never varied in the training of several estimators, unless it is a feature of another one of them."""
    features = {name for part in parts for name in [*part.features, *part.categorical]}
    merged: Mapping[str, Any] = {name: value for part in parts for name, value in part.constants.items()}
    return {name: value for name, value in merged.items() if name not in features}
