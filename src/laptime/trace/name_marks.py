"""Which rows of a table have such a name: a trace has few names, and each is looked at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from laptime.trace.read.timeline import Int32


def marked(names: Int32, strings: Sequence[str], holds: Callable[[str], bool]) -> npt.NDArray[np.bool_]:
    """For each name id whether the name is such.

    Args:
        names: ids into strings.
        strings: the names.
        holds: asked once for each name that occurs.
    """
    marks = np.zeros(len(strings), dtype=np.bool_)
    for i in distinct(names):
        marks[i] = holds(strings[i])
    result: npt.NDArray[np.bool_] = marks[names]
    return result


def distinct(names: Int32) -> list[int]:
    """The name ids that occur, ascending."""
    return [int(i) for i in np.flatnonzero(np.bincount(names)).tolist()]


def counted_names(names: Int32, strings: Sequence[str]) -> dict[str, int]:
    """How often each name occurs."""
    result: dict[str, int] = {}
    for i, count in enumerate(np.bincount(names).tolist()):
        if count:
            result[strings[i]] = result.get(strings[i], 0) + count
    return result
