"""What the knobs explain of the configurations' times, by least squares: each knob alone, or two by two."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from laptime.data.stats import Floats
from laptime.sweeps.summary.calls import Codes

MOST_COLUMNS = 250
"""A model with more columns would fit chance, and would take long."""


def knob_basis(settings: Codes, *, two_way: bool) -> Floats | None:
    """An orthonormal basis (configurations, rank) of what the knobs explain; with `two_way` also what pairs of them do.

    settings: (configurations, knobs) codes. None when the model has more than MOST_COLUMNS columns.
    """
    columns = [settings[:, knob] for knob in range(settings.shape[1])]
    if two_way:
        widths = settings.max(axis=0, initial=0) + 1
        columns += [a * widths[j] + b for (_, a), (j, b) in combinations(list(enumerate(columns)), 2)]
    blocks = [np.ones((len(settings), 1))]
    for column in columns:
        values, codes = np.unique(column, return_inverse=True)
        if len(values) + sum(block.shape[1] for block in blocks) > MOST_COLUMNS:
            return None
        blocks.append(np.eye(len(values))[codes][:, 1:])
    design = np.hstack(blocks)
    sizes, vectors = np.linalg.eigh(design.T @ design)
    kept = sizes > 1e-9 * sizes[-1]
    return np.asarray(design @ (vectors[:, kept] / np.sqrt(sizes[kept])))


def mean_basis(configurations: int) -> Floats:
    """The basis of what all configurations have in common alone."""
    return np.full((configurations, 1), configurations**-0.5)


def fitted(values: Floats, basis: Floats) -> Floats:
    """What `basis` explains of `values` (configurations, units). NaN is first replaced by row and unit means."""
    gaps = np.isnan(values)
    if gaps.any():
        here = ~gaps
        counts = np.maximum(here.sum(axis=1, keepdims=True), 1)
        rows = np.where(gaps, 0, values).sum(axis=1, keepdims=True) / counts
        units = np.where(gaps, 0, values - rows).sum(axis=0, keepdims=True) / np.maximum(here.sum(axis=0), 1)
        values = np.where(gaps, rows + units, values)
    return np.asarray(basis @ (basis.T @ values))
