"""The part of an evaluation whose bound fails although the whole looks well: a group, or a way of holding out."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.special import bdtr

from laptime.estimate.judge.evaluation_result import SplitScores, WeakPart

CHANCE = 0.01
"""A part counts as failing if its rows were covered so seldom by chance in this share of evaluations at most."""


def weak_part(splits: Sequence[SplitScores], q: float) -> WeakPart | None:
    """The part that is covered least, of those whose shortfall chance doesn't explain; None where there is none.

    All parts are looked at together: a shortfall that one of many parts has by chance is none.
    """
    parts = [WeakPart(split.kind, None, _bounded(split), _covered(split)) for split in splits if _bounded(split)]
    parts += [
        WeakPart(split.kind, group.group, group.rows - group.abstained, group.coverage)
        for split in splits
        for group in split.groups
        if group.coverage is not None
    ]
    failing = [
        part for part in parts if bdtr(round(part.coverage * part.rows), part.rows, q) < CHANCE / max(1, len(parts))
    ]
    return min(failing, key=lambda part: part.coverage, default=None)


def _bounded(split: SplitScores) -> int:
    """How many of its rows have a bound."""
    return round(split.held_rows * (1 - split.abstained)) if "coverage" in split.metrics else 0


def _covered(split: SplitScores) -> float:
    return split.metrics["coverage"].mean
