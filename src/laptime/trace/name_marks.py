"""Which rows of a table have such a name: a trace has few names, and each is looked at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from laptime.trace.read.distinct import each_once
from laptime.trace.read.timeline import Int32

_ROWS = 256
"""Rows that are looked through while a name is asked about."""


def marked(names: Int32, strings: Sequence[str], holds: Callable[[str], bool]) -> npt.NDArray[np.bool_]:
    """For each name id whether the name is such.

    Args:
        names: ids into strings.
        strings: the names.
        holds: asked once for each name that occurs, or of a large table for all names.
    """
    marks = np.zeros(len(strings), dtype=np.bool_)
    few = _ROWS * len(strings) < len(names)  # to ask about all is faster than to see which occur
    for i in range(len(strings)) if few else each_once(names).tolist():
        marks[i] = holds(strings[i])
    result: npt.NDArray[np.bool_] = marks[names]
    return result


def counted_names(names: Int32, strings: Sequence[str]) -> dict[str, int]:
    """How often each name occurs."""
    result: dict[str, int] = {}
    for i, count in enumerate(np.bincount(names).tolist()):
        if count:
            result[strings[i]] = result.get(strings[i], 0) + count
    return result
