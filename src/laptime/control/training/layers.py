"""The networks during training: plain tensors, with a generator of their own for initial weights and dropout."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch

from laptime.control.policies.network import Network
from laptime.control.training.projections import Projection, folded

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
