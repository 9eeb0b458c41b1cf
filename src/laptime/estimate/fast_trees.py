"""One row through LightGBM's C interface: what `Booster.predict` does in 20 us, most of it Python, takes a few."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from laptime.data.stats import Floats

_FLOAT64 = 1
_NORMAL = 0


class FastTrees:
    """A LightGBM text (made by `trees_text.write`) that is asked about one row at a time."""

    def __init__(self, text: str, features: int) -> None:
        from lightgbm.basic import _LIB

        self._library: Any = _LIB
        self._row = np.empty(features)
        self._out = ctypes.c_double()
        self._length = ctypes.c_int64()
        model, iterations = ctypes.c_void_p(), ctypes.c_int()
        self._must(_LIB.LGBM_BoosterLoadModelFromString(text.encode(), ctypes.byref(iterations), ctypes.byref(model)))
        config = ctypes.c_void_p()
        self._must(
            _LIB.LGBM_BoosterPredictForMatSingleRowFastInit(
                model, _NORMAL, 0, -1, _FLOAT64, ctypes.c_int32(features), b"num_threads=1", ctypes.byref(config)
            )
        )
        self._call = _LIB.LGBM_BoosterPredictForMatSingleRowFast
        self._arguments = (
            config,
            ctypes.c_void_p(self._row.ctypes.data),
            ctypes.byref(self._length),
            ctypes.byref(self._out),
        )
        self._free = weakref.finalize(self, _release, _LIB, config, model)

    def ask(self, values: Sequence[float] | Floats) -> float:
        """The model's output for one row of features."""
        self._row[:] = values
        self._call(*self._arguments)
        return self._out.value

    def _must(self, status: int) -> None:
        if status != 0:
            raise RuntimeError(self._library.LGBM_GetLastError().decode())


def _release(library: Any, config: ctypes.c_void_p, model: ctypes.c_void_p) -> None:
    library.LGBM_FastConfigFree(config)
    library.LGBM_BoosterFree(model)
