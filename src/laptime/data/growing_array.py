"""An array that values are appended to in blocks.

A list of small blocks that is joined at the end leaves holes in the process's memory as large as all of them. One array
that grows in its place leaves none, and a column that no sample has takes no memory at all.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", np.float64, np.int64, np.int32, np.bool_)


class GrowingArray(Generic[Number]):
    """Values of one type, and how many there are. Where a block says nothing, there is `absent`."""

    def __init__(self, dtype: type[Number], absent: Any = 0) -> None:
        self._held: npt.NDArray[Number] = np.empty(0, dtype=dtype)
        self._absent = absent
        self._written = 0
        self.length = 0
        self.is_absent = True  # no value was ever appended

    def add(self, values: npt.NDArray[Number]) -> None:
        """Append these values."""
        self._write_absent()
        self._reserve(self.length + len(values))
        self._held[self.length : self.length + len(values)] = values
        self.length += len(values)
        self._written = self.length
        self.is_absent = self.is_absent and not len(values)

    def skip(self, count: int) -> None:
        """Append `absent` so many times. It is written only when a value follows."""
        self.length += count

    def values(self) -> npt.NDArray[Number]:
        """All of them; a view, good until the next is appended."""
        self._write_absent()
        return self._held[: self.length]

    def _write_absent(self) -> None:
        self._reserve(self.length)
        self._held[self._written : self.length] = self._absent
        self._written = self.length

    def _reserve(self, count: int) -> None:
        if count > len(self._held):
            # no reference is left to the memory that moves: `values` is asked for at the end
            self._held.resize(max(count, 2 * len(self._held)), refcheck=False)
