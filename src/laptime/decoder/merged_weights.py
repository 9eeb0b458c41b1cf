"""Weights that are read together laid one behind the other: q, k and v become one matrix, gate and up another.

The model's parameters become views into the merged matrices, so that no second copy is kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from laptime.models.anatomy import find_anatomy

GROUPS = (("self_attn", ("q_proj", "k_proj", "v_proj")), ("mlp", ("gate_proj", "up_proj")))
"""In each decoder block: the module that holds a group, and the linear layers that become one matrix."""


@torch.inference_mode(False)
def merge(model: Any, *, language: str | None = None) -> list[nn.Parameter]:
    """Lay each group's weights (and biases) one behind the other. Returns the parameters that were moved."""
    moved: list[nn.Parameter] = []
    for parameters in _groups(model, language):
        if _adjacent(parameters):
            continue
        whole = torch.cat([parameter.data for parameter in parameters])
        at = 0
        for parameter in parameters:
            parameter.data = whole[at : at + parameter.shape[0]]
            at += parameter.shape[0]
        moved += parameters
    return moved


@torch.inference_mode(False)
def separate(moved: list[nn.Parameter]) -> None:
    """Give every parameter memory of its own again."""
    for parameter in moved:
        parameter.data = parameter.data.clone()


def joined(parts: list[Any]) -> torch.Tensor:
    """The parts as the rows of one matrix: a view if they lie one behind the other in memory, else a copy."""
    first = parts[0].data
    storage, at = first.untyped_storage().data_ptr(), first.data_ptr()
    for part in parts:
        if part.data_ptr() != at or part.untyped_storage().data_ptr() != storage:
            return torch.cat([part.data for part in parts])
        at += part.nbytes
    rows = sum(part.shape[0] for part in parts)
    return first.as_strided((rows, *first.shape[1:]), first.stride())


def _groups(model: Any, language: str | None) -> list[list[nn.Parameter]]:
    groups: list[list[nn.Parameter]] = []
    for layer in find_anatomy(model, language=language).layers:
        for holder, names in GROUPS:
            linears = [getattr(getattr(layer, holder, None), name, None) for name in names]
            if any(type(linear) is not nn.Linear for linear in linears):
                continue
            for kind in ("weight", "bias"):
                parameters = [getattr(linear, kind) for linear in linears]
                if all(isinstance(parameter, nn.Parameter) for parameter in parameters):
                    groups.append(parameters)
    return groups


def _adjacent(parameters: list[nn.Parameter]) -> bool:
    at = parameters[0].data_ptr()
    for parameter in parameters:
        if parameter.data_ptr() != at:
            return False
        at += parameter.nbytes
    return True
