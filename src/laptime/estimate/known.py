"""What an estimator knows of the rows that it is asked about: which names, and which values never varied.

A feature that had one value in training says nothing about any other: a row that has another one is unknown. A name
that the estimator doesn't know is refused, because an answer that ignores it would be an answer to another question.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import polars as pl

from laptime.errors import LaptimeError
from laptime.estimate.predictor import Predictor
from laptime.estimate.table.table import other_value_rows

NAMED = 12
"""A message names at most this number of columns."""


def known_names(predictor: Predictor) -> list[str]:
    """The columns that a row may name: features, groups, and what never varied in training."""
    return list(dict.fromkeys([*predictor.features, *predictor.categorical, *predictor.group, *predictor.constants]))


def check_names(predictor: Predictor, names: Collection[str], where: str) -> None:
    """Raise LaptimeError for the first name that the estimator doesn't know, with the names that are near.

    where: what holds the names, for the message.
    """
    known = known_names(predictor)
    for name in names:
        if name in known:
            continue
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it knows {', '.join(known[:NAMED])}"
        raise LaptimeError(f"{where}: the estimator knows no {name!r}; {hint}")


def unknown_reasons(predictor: Predictor, frame: pl.DataFrame) -> list[str | None]:
    """For each row why nothing is known of it ("batch is 8, but was always 1 in training"), else None."""
    reasons: list[list[str]] = [[] for _ in range(len(frame))]
    for name, always in predictor.constants.items():
        if name not in frame.columns:
            continue
        other = other_value_rows(frame[name], always)
        for row in other.nonzero()[0].tolist():
            reasons[row].append(f"{name} is {frame[name][row]}, but was always {always} in training")
    return ["; ".join(some) if some else None for some in reasons]


def union_of_constants(parts: Sequence[Predictor]) -> dict[str, str]:
    """What never varied in the training of several estimators, unless it is a feature of another one of them."""
    features = {name for part in parts for name in [*part.features, *part.categorical]}
    merged: Mapping[str, Any] = {name: value for part in parts for name, value in part.constants.items()}
    return {name: value for name, value in merged.items() if name not in features}
