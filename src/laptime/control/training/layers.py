"""The networks during training: plain tensors, with a generator of their own for initial weights and dropout."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from laptime.control.policies.network import Network
from laptime.control.seen import Floats32
from laptime.data.stats import Floats

Layers = list[Any]
"""Weight and bias of each layer in turn."""


def new_layers(sizes: list[int], generator: torch.Generator) -> Layers:
    """Weights of standard deviation 1 / sqrt(inputs) (Glorot and Bengio 2010).

    Those of the last layer are a tenth of that, so the network starts out undecided.
    """
    layers: Layers = []
    for place, (inputs, outputs) in enumerate(pairwise(sizes)):
        size = (0.1 if place == len(sizes) - 2 else 1.0) / max(1, inputs) ** 0.5
        weight = torch.randn(inputs, outputs, generator=generator) * size
        layers += [weight.requires_grad_(), torch.zeros(outputs).requires_grad_()]
    return layers


def run(layers: Layers, x: Any) -> Any:
    """The network's outputs, (..., out)."""
    last = len(layers) - 2
    for place in range(0, last, 2):
        x = torch.tanh(x @ layers[place] + layers[place + 1])
    return x @ layers[last] + layers[last + 1]


def dropped(x: Any, share: float, first: int, generator: torch.Generator) -> Any:
    """x with a share of its features set to 0 and the others scaled up (Srivastava et al. 2014).

    first: features before this one are never dropped.
    """
    if share == 0 or first >= x.shape[-1]:
        return x
    keep = (torch.rand(x.shape, generator=generator) >= share).float() / (1 - share)
    keep[..., :first] = 1.0
    return x * keep


def log_policy(logits: Any, mask: Any) -> Any:
    """Log probabilities over the last axis of what may be chosen. What may not be gets about -1e9."""
    return torch.log_softmax(logits.masked_fill(~mask, -1e9), dim=-1)


def copied(layers: Layers) -> Layers:
    """A copy of the values as they are now."""
    return [layer.detach().clone() for layer in layers]


def exported(layers: Layers, projections: list[Projection]) -> Network:
    """The network as numpy runs it, on features that are not projected."""
    arrays = [layer.detach().numpy().astype(np.float64) for layer in layers]
    return folded(projections, arrays[0::2], arrays[1::2])


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
