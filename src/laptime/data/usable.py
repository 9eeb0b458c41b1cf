"""Which samples count: one rule, for samples and for frames of them.

A sample is clean when it is no warm-up call (`repeat` is 0 or more) and carries no flag of LEFT_OUT. Statistics use
the clean samples. If there are none, they use the best of what was measured, and say so. They never use warm-up calls,
and of several samples with one key only the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

from laptime.data.record import FLAG_REASONS, LEFT_OUT, Flag, Sample

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

WARM_UP = "warm-up"
REPEATED_KEY: Flag = "repeated-key"

LEFT_OUT_REASONS: dict[str, str] = {**FLAG_REASONS, WARM_UP: "a warm-up call (repeat below 0)"}
"""What a summary's `left_out` can name, and what it means."""


BUSY_CORES = 0.5
"""From so many cores that other processes use on average, the machine is called busy."""

UNSEEN_BELOW_MS = 100.0
"""Shorter calls on a CPU can't be flagged foreign-process: the system counts its time in hundredths of a second."""


class Grade(IntEnum):
    """How good a sample is. Statistics use the samples of the lowest grade that is there, up to COLD."""

    CLEAN = 0
    DISTURBED = 1
    """It has a flag of LEFT_OUT."""
    COLD = 2
    """It was measured before the warm-up was steady."""
    WARM_UP = 3
    """It belongs to the warm-up."""
    REPEATED = 4
    """Its key is another sample's too (laptime.data.frame flags it when it reads): it would weigh twice."""


def grade(repeat: int, flags: Collection[str], keep: Collection[str] = ()) -> Grade:
    """The grade of one sample: this is the rule.

    flags: a list of flags, or one text that holds them. No flag's name is part of another's.
    keep: flags that don't matter this time.
    """
    if not flags:
        return Grade.WARM_UP if repeat < 0 else Grade.CLEAN
    if REPEATED_KEY in flags:
        return Grade.REPEATED
    if repeat < 0:
        return Grade.WARM_UP
    disturbances = [flag for flag in LEFT_OUT if flag in flags and flag not in keep]
    if not disturbances:
        return Grade.CLEAN
    return Grade.COLD if "cold" in disturbances else Grade.DISTURBED


def usable(samples: Sequence[Sample], keep: Collection[str] = ()) -> tuple[list[Sample], bool]:
    """The samples that statistics use, and whether they are flagged ones because none is clean."""
    grades = [grade(sample.repeat, sample.flags, keep) for sample in samples]
    best = min(grades, default=Grade.WARM_UP)
    used = [sample for sample, its in zip(samples, grades, strict=True) if its == best and best < Grade.WARM_UP]
    return used, best in (Grade.DISTURBED, Grade.COLD)


def usable_rows(frame: polars.DataFrame, keep: Collection[str] = ()) -> tuple[polars.Series, bool]:
    """The same for a frame: a mask of its rows, and whether they are flagged ones because none is clean."""
    grades = row_grades(frame, keep)
    best = min(grades.unique().to_list(), default=int(Grade.WARM_UP))
    used = (grades == best) & (best < Grade.WARM_UP)
    return used, best in (Grade.DISTURBED, Grade.COLD)


def row_grades(frame: polars.DataFrame, keep: Collection[str] = ()) -> polars.Series:
    """The grade of each row. A frame without `repeat` has no warm-up calls; one without `flags` has no flags."""
    import polars

    flags = _flags(frame)
    grades = {text: int(grade(0, text, keep)) for text in flags.unique().to_list()}
    by_flags = flags.replace_strict(grades, return_dtype=polars.Int8) if grades else flags.cast(polars.Int8)
    warm_up = warm_up_rows(frame) & (by_flags != Grade.REPEATED)
    by_repeat = polars.when(warm_up).then(polars.lit(int(Grade.WARM_UP), polars.Int8))
    return polars.select(by_repeat.otherwise(by_flags).alias("grade")).to_series()


def left_out_reasons(samples: Iterable[Sample]) -> dict[str, int]:
    """Why these samples were left out: each of their flags (or "warm-up"), and how many of them carry it."""
    return left_out_counts(Counter((sample.repeat < 0, ",".join(sample.flags)) for sample in samples))


def left_out_rows_reasons(frame: polars.DataFrame) -> dict[str, int]:
    """The same for the rows of a frame."""
    import polars

    kinds = polars.DataFrame([warm_up_rows(frame).alias("warm_up"), _flags(frame)]).group_by("warm_up", "flags").len()
    return left_out_counts({(warm_up, flags): count for warm_up, flags, count in kinds.iter_rows()})


def left_out_counts(kinds: dict[tuple[bool, str], int]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for (warm_up, text), count in kinds.items():
        flags = [flag for flag in text.split(",") if flag]
        if warm_up and not LEFT_OUT.intersection(flags):
            flags.append(WARM_UP)
        counts.update(dict.fromkeys(flags, count))
    return dict(sorted(counts.items()))


def _flags(frame: polars.DataFrame) -> polars.Series:
    import polars

    if "flags" not in frame.columns:
        return polars.Series("flags", [""] * frame.height, dtype=polars.String)
    flags: polars.Series = frame["flags"].cast(polars.String).fill_null("")
    return flags


def warm_up_rows(frame: polars.DataFrame) -> polars.Series:
    """A mask of the warm-up calls of a frame."""
    import polars

    if "repeat" not in frame.columns:
        return polars.Series("repeat", [False] * frame.height, dtype=polars.Boolean)
    warm_up: polars.Series = frame["repeat"].fill_null(0) < 0
    return warm_up
