"""Fewer inputs for a network: with a few hundred questions it can't learn from thousands of features.

Words, pixels and hidden states are centred, scaled and projected onto their first principal components, each of unit
variance. A projection is linear, so it becomes part of the network's first layer and takes no time of its own.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.policies.network import Network
from laptime.control.seen import Floats32
from laptime.data.stats import Floats

FAINT = 1e-3
"""Components whose variance is below this part of the first one's are left out as noise."""


class Projection(msgspec.Struct, frozen=True):
    """x -> (x - centre) @ matrix: (d,) to (k,)."""

    centre: Floats
    matrix: Floats

    def apply(self, x: npt.NDArray[np.floating]) -> Floats32:
        """(..., d) to (..., k)."""
        return np.asarray((x - self.centre) @ self.matrix, dtype=np.float32)


def unchanged(size: int) -> Projection:
    """The projection that changes nothing, for features that are few and already scaled."""
    return Projection(np.zeros(size), np.eye(size))


def project(rows: npt.NDArray[np.floating], most: int, *, standardised: bool = False) -> Projection:
    """The projection onto at most `most` components of rows (n, d), fewer if n is small or the rest is noise.

    standardised: each feature is first scaled to unit variance. This suits features of different kinds.
    """
    values = rows.astype(np.float64)
    n, d = values.shape
    centre = values.mean(axis=0)
    width = values.std(axis=0) if standardised else np.ones(d)
    scale = np.where(width > 1e-6 * max(float(width.max(initial=0.0)), 1e-12), 1 / np.where(width > 0, width, 1), 0.0)
    if d == 0 or not scale.any():
        return Projection(centre, np.zeros((d, 0)))
    _, sizes, axes = np.linalg.svd((values - centre) * scale, full_matrices=False)
    kept = min(most, max(1, n // 2), int((sizes**2 > FAINT * max(float(sizes[0]) ** 2, 1e-24)).sum()))
    return Projection(centre, scale[:, None] * axes[:kept].T * (np.sqrt(n) / np.maximum(sizes[:kept], 1e-12)))


def folded(projections: list[Projection], weights: list[Floats], biases: list[Floats]) -> Network:
    """The network on the features themselves, from a network that was trained on their joined projections."""
    first, at = [], 0
    for projection in projections:
        k = projection.matrix.shape[1]
        first.append(projection.matrix @ weights[0][at : at + k])
        at += k
    whole = [np.concatenate(first), *weights[1:]]
    return Network(
        np.concatenate([projection.centre for projection in projections]).astype(np.float32),
        tuple(np.ascontiguousarray(w, dtype=np.float32) for w in whole),
        tuple(np.ascontiguousarray(b, dtype=np.float32) for b in biases),
    )
