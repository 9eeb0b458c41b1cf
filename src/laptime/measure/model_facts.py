"""What can be known of a model before it is timed: its device, its own configuration, and what can't be measured."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers.generation import GenerationMixin

from laptime.data.record import Scalar
from laptime.errors import LaptimeError
from laptime.measure.stand_in import core_of

CODEBOOK_FAMILIES = ("bark", "csm", "dia", "higgs_audio_v2", "musicgen")
"""Families (musicgen_melody too) whose generate() returns codes of sound and no rows of token ids."""

FRAME_HEADS = ("ForCTC", "ForRNNT", "ForTDT")
"""How transformers names classes that go through a sound's frames, where a frame can give no token, or one."""

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
    if any(kind == family or kind.startswith(f"{family}_") for family in CODEBOOK_FAMILIES):
        raise LaptimeError(
            f"{kind} writes several codebooks of sound at once and no tokens; laptime times models of text"
        )
    if kind.startswith("diffusion_"):
        raise LaptimeError(f"{kind} refines a block of tokens in many forwards at once, so no forward makes one token")
    name = type(core).__name__
    if name.endswith(FRAME_HEADS):
        raise LaptimeError(f"{name} reads its tokens off the frames of a sound, so no forward makes one token")
    if not _loops_as_transformers(model):
        raise LaptimeError(
            f"{type(model).__name__}.generate() runs a loop of its own and not that of transformers (no part is a "
            "GenerationMixin, and it takes no logits_processor), so there is nothing to take marks in"
        )


def _loops_as_transformers(model: nn.Module) -> bool:
    """Whether the decode loop can be one of transformers, or one that hands its logits to a LogitsProcessor."""
    named = inspect.signature(model.generate).parameters
    return "logits_processor" in named or any(isinstance(module, GenerationMixin) for module in model.modules())


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
