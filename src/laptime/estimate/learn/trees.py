"""Boosted trees (LightGBM) on the log residual: what is jagged, as tiles and waves of blocks make it."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from laptime.data.arrays import Floats
from laptime.estimate.learn import trees_text
from laptime.estimate.table.table import Encoded


class TreeSize(msgspec.Struct, frozen=True, kw_only=True):
    """How much the trees may learn: their number, leaves each, and the shrinkage of a step."""

    trees: int
    leaves: int
    rate: float


SMALL = TreeSize(trees=80, leaves=8, rate=0.08)
MIDDLE = TreeSize(trees=120, leaves=31, rate=0.15)
LARGE = TreeSize(trees=400, leaves=63, rate=0.1)
MANY_ROWS = 2000


def tree_size(residual: str, rows: int) -> TreeSize | None:
    """The size for a kind of residual: large ones grow with the table. None for a kind without trees."""
    if residual == "small":
        return SMALL
    if residual.endswith(("large", "guided")):
        return LARGE if rows > MANY_ROWS else MIDDLE
    return None


class Trees:
    """A LightGBM model; its text is made when it is asked for."""

    __slots__ = ("_booster", "_text")

    def __init__(self, booster: Any, text: str | None = None) -> None:
        self._booster = booster
        self._text = text

    @classmethod
    def from_text(cls, text: str) -> Trees:
        """From a text that `trees_text.write` made: LightGBM reads no other."""
        import lightgbm

        return cls(lightgbm.Booster(model_str=text), text)

    @property
    def text(self) -> str:
        """The model in LightGBM's own format, reduced to what laptime reads."""
        if self._text is None:
            self._text = trees_text.checked(self._booster.model_to_string(), "LightGBM's model")
        return self._text

    @property
    def features(self) -> int:
        """How many columns it reads."""
        return int(self._booster.num_feature())

    def settled(self) -> Trees:
        """The same model as it will be after saving and loading, bit for bit."""
        return Trees.from_text(self.text)

    def log_ms(self, rows: Encoded, guide: Floats | None = None, *, threads: int = 0) -> Floats:
        """The residual's prediction, (n,)."""
        return np.asarray(self._booster.predict(matrix(rows, guide), num_threads=threads), dtype=np.float64)


def fit_trees(
    rows: Encoded, log_residual: Floats, size: TreeSize, guide: Floats | None = None, *, seed: int, threads: int = 0
) -> Trees:
    """Boost on squared error of the logarithms; the same seed gives the same model, whatever the threads."""
    import lightgbm

    bins = {"verbosity": -1, "max_bin": 1023, "min_data_in_bin": 1, "num_threads": threads}
    options: dict[str, Any] = {
        **bins,
        "objective": "regression",
        "learning_rate": size.rate,
        "num_leaves": size.leaves,
        "min_data_in_leaf": max(2, min(5, len(rows) // 20)),
        "deterministic": True,
        "force_row_wise": True,
        "seed": seed,
    }
    booster = lightgbm.Booster(options, lightgbm.Dataset(matrix(rows, guide), log_residual, params=bins))
    for _ in range(size.trees):
        if booster.update():  # no split improves anything any more
            break
    return Trees(booster)


def matrix(rows: Encoded, guide: Floats | None = None) -> Floats:
    """Numeric columns, then codes, then the roofline's log time where trees are guided by it."""
    columns = [rows.numeric, rows.codes] if guide is None else [rows.numeric, rows.codes, guide]
    return np.ascontiguousarray(np.column_stack(columns), dtype=np.float64)
