"""Weights in fewer bits, as transformers quantises them while it loads, where the package for it is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from laptime.errors import LaptimeError

QUANTIZATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bnb-8bit": ("bitsandbytes", "BitsAndBytesConfig", {"load_in_8bit": True}),
    "bnb-4bit": ("bitsandbytes", "BitsAndBytesConfig", {"load_in_4bit": True}),
    "quanto-int8": ("optimum-quanto", "QuantoConfig", {"weights": "int8"}),
    "quanto-int4": ("optimum-quanto", "QuantoConfig", {"weights": "int4"}),
    "torchao-int8": ("torchao", "TorchAoConfig", {}),
    "hqq-4bit": ("hqq", "HqqConfig", {"nbits": 4, "group_size": 64}),
    "fp8": ("kernels", "FineGrainedFP8Config", {}),
}
"""Name -> the package it needs, transformers' class for it, and that class's arguments."""

_MODULES = {"optimum-quanto": "optimum.quanto"}


def quantization(name: str) -> Any:
    """transformers' configuration of that name. Raises LaptimeError for an unknown name or a missing package."""
    import transformers

    if name not in QUANTIZATIONS:
        raise LaptimeError(f"`quantize` {name}: unknown; use one of {', '.join(QUANTIZATIONS)}")
    package, kind, arguments = QUANTIZATIONS[name]
    need_package(package, f"`quantize` {name}")
    if package == "torchao":
        from torchao.quantization import Int8WeightOnlyConfig

        arguments = {"quant_type": Int8WeightOnlyConfig()}
    return getattr(transformers, kind)(**arguments)


def device_map_of(asked: str | None, quantize: str | None, device: torch.device) -> Any:
    """What from_pretrained() gets as device_map; None where the model is moved afterwards.

    Raises LaptimeError when accelerate, which places the weights, is missing.
    """
    if asked is None and quantize is None:
        return None
    need_package("accelerate", f"`quantize` {quantize}" if asked is None else f"`device_map` {asked}")
    return {"": device} if asked is None else asked


def need_package(package: str, option: str) -> None:
    """Raise LaptimeError when the package that an option needs is not installed."""
    module = _MODULES.get(package, package)
    try:
        found = find_spec(module) is not None
    except ModuleNotFoundError:  # of the parent package
        found = False
    if not found:
        raise LaptimeError(f"{option} needs the package {package}: pip install {package}")
