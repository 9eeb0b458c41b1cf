"""What the estimator's verbs share: options that name columns and rates, NAME=VALUE words, counts of tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from laptime.cli.declared import argument, option
from laptime.cli.options import LEARNING, names
from laptime.errors import LaptimeError

MOST_TOKENS = 10**7

EstimatorFolder = Annotated[
    Path, argument(metavar="EST", help="The folder that fit wrote. A run's folder of stages answers the total.")
]
Target = Annotated[
    str | None,
    option(
        "--target", metavar="COL", help="The column to predict, in ms or its name's unit.", rich_help_panel=LEARNING
    ),
]
Features = Annotated[
    str, option("--features", metavar="A,B", help="Columns that it depends on.", rich_help_panel=LEARNING)
]
Categorical = Annotated[
    str,
    option("--categorical", metavar="A,B", help="Features that are names, not sizes.", rich_help_panel=LEARNING),
]
Group = Annotated[
    str,
    option(
        "--group", metavar="A,B", help="Columns whose rows belong together and are held out together.",
        rich_help_panel=LEARNING,
    ),
]  # fmt: skip
Iqr = Annotated[
    float | None,
    option(
        "--iqr", metavar="N",
        help="Fit without times beyond N interquartile ranges of their repeats; the result says what was left out.",
        rich_help_panel=LEARNING,
    ),
]  # fmt: skip
BandwidthGbS = Annotated[
    float | None,
    option(
        "--bandwidth-gb-s", metavar="X", help="(a run) The device's measured bandwidth; laptime remedy prints it.",
        rich_help_panel=LEARNING,
    ),
]  # fmt: skip
TflopS = Annotated[
    float | None,
    option(
        "--tflop-s", metavar="X", help="(a run) Its measured dense rate at the run's precision.",
        rich_help_panel=LEARNING,
    ),
]  # fmt: skip


def assignments(words: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE words (several in one with commas or spaces between) as values: numbers where they are some.

    A name or a value may hold spaces: `device=NVIDIA H200`. Raises LaptimeError for a word that is no assignment, or a
    name that is given twice.
    """
    values: dict[str, Any] = {}
    for word in (part for line in words for part in _assignments_of(line)):
        name, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not name or not value:
            raise LaptimeError(f"{word}: not of the form NAME=VALUE, such as batch=4")
        if name in values:
            raise LaptimeError(f"{name} is given twice ({values[name]}, {value})")
        values[name] = _value(value)
    return values


def _assignments_of(line: str) -> Iterator[str]:
    """The parts at commas; a part of several assignments also at the spaces before each NAME=."""
    for part in filter(str.strip, line.split(",")):
        yield from re.split(r"\s+(?=[^\s=]+=)", part.strip()) if part.count("=") > 1 else [part.strip()]


def token_counts(words: str | None) -> list[int] | None:
    """The counts of --tokens 4,8,16. Raises LaptimeError for anything but whole numbers from 1 on."""
    if words is None:
        return None
    counts = names(words)
    if not counts or not all(word.isdigit() and 0 < int(word) < MOST_TOKENS for word in counts):
        raise LaptimeError(f"--tokens {words}: write counts of 1 or more, equally likely, such as 4,8,16")
    return [int(word) for word in counts]


def _value(word: str) -> Any:
    if re.fullmatch(r"[+-]?\d{1,18}", word):
        return int(word)
    try:
        return float(word)
    except ValueError:
        return {"true": True, "false": False}.get(word.lower(), word)
