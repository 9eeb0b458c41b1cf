"""The different values of a column.

np.unique imports numpy.ma, which start-up pays for. It also hashes: where a million numbers all differ, that takes 18
times as long as sorting them.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

_Integer = TypeVar("_Integer", bound=np.signedinteger[Any])

_DENSE = 4
"""Values whose range is below so many times their count are marked in a table, as names and processes are."""


def each_once(values: npt.NDArray[_Integer]) -> npt.NDArray[_Integer]:
    """The different values, in rising order."""
    values = values.reshape(-1)
    if not len(values):
        return values
    low, high = int(values.min()), int(values.max())
    if high - low <= _DENSE * len(values):
        seen = np.zeros(high - low + 1, dtype=np.bool_)
        seen[np.subtract(values, low, dtype=np.int64)] = True
        return (np.flatnonzero(seen) + low).astype(values.dtype)
    values = np.sort(values)
    result: npt.NDArray[_Integer] = values[np.concatenate([[True], values[1:] != values[:-1]])]
    return result
