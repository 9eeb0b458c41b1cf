"""What can be known of a model before it is timed: its device, its own configuration, and what can't be measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from laptime.data.record import Scalar
from laptime.errors import LaptimeError
from laptime.measure.stand_in import core_of

CODEBOOK_FAMILIES = ("musicgen",)
"""Families (musicgen, musicgen_melody) whose generate() returns codes of sound and no rows of token ids."""

_MOVING_HOOKS = ("CpuOffload", "UserCpuOffloadHook")


def check_timeable(model: Any) -> None:
    """Raise LaptimeError for what has no generate(), or one that doesn't run the modules on which marks are taken."""
    if not callable(getattr(model, "generate", None)):
        raise LaptimeError(f"{type(model).__name__} has no generate(); StageTimer times a transformers model's own")
    if not isinstance(model, nn.Module):
        raise LaptimeError(
            f"{type(model).__name__} is no torch module: StageTimer takes its marks in the modules of a transformers "
            "model; calls of a FastModel or a FastDecoder are timed by laptime.decoder.timed_generate"
        )
    core, _ = core_of(model)
    kind = str(getattr(getattr(core, "config", None), "model_type", ""))
    if kind.startswith(CODEBOOK_FAMILIES):
        raise LaptimeError(
            f"{kind} writes several codebooks of sound at once and no tokens; laptime times models of text"
        )


def config_of(model: Any) -> dict[str, Scalar]:
    """What a model tells of itself: its name, precision and attention."""
    core, _ = core_of(model)
    name = getattr(core.config, "name_or_path", None) or type(core).__name__
    return {"model": name, **how_it_runs(core, next(core.parameters()))}


def how_it_runs(core: Any, weight: torch.Tensor) -> dict[str, Scalar]:
    """What can change between two calls of a model: its precision and its attention.

    weight: its first one.
    """
    return {
        "dtype": str(weight.dtype).removeprefix("torch."),
        "attention": getattr(core.config, "_attn_implementation", None),
    }


def only_device(model: nn.Module) -> torch.device:
    """The device that holds the whole model. Raises LaptimeError when there are several, or weights that move."""
    devices = {parameter.device for parameter in model.parameters()}
    if any(_moves(hook) for hook in _accelerate_hooks(model)):
        raise LaptimeError(
            "the model is offloaded (accelerate moves its weights to the device during the call); laptime times a "
            "model that stays on one device"
        )
    if len(devices) != 1:
        names = ", ".join(sorted(str(device) for device in devices))
        raise LaptimeError(f"the model is spread over {names}; laptime times a model on one device")
    device = devices.pop()
    if device.type == "meta":
        raise LaptimeError("the model has no weights (device meta); load it on a real device")
    return device


def _accelerate_hooks(model: nn.Module) -> Iterator[Any]:
    """accelerate puts one hook, or a sequence of them, on a module it moves."""
    for module in model.modules():
        hook = getattr(module, "_hf_hook", None)
        if hook is not None:
            yield from getattr(hook, "hooks", (hook,))


def _moves(hook: Any) -> bool:
    return bool(getattr(hook, "offload", False)) or type(hook).__name__ in _MOVING_HOOKS
