"""What a model looked like when a decoder was made of it, to notice before a call that it is another one now.

A decoder reads weights and replays captured work. A module, a parameter or a hook that came later would have no effect
there, and the answer would be another than the model's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import is_
from typing import Any

import torch

from laptime.errors import LaptimeError

NEW_ONE = "close this decoder and make a new one"

CAPTURING = "transformers.utils.output_capturing"
_address = torch.Tensor.data_ptr


class Imprint:
    """The modules and parameters of a model, and where the parameters lie in memory.

    layers_path: where the blocks are. stepped: modules that a decode step computes by itself, so that hooks in them
    would be passed by.
    """

    def __init__(self, model: Any, layers_path: str, stepped: Sequence[Any]) -> None:
        self._model, self._layers_path = model, layers_path
        self._modules = dict(model.named_modules())
        trees = self._modules.values()
        self._children = [module._modules for module in trees if module._modules]
        self._held = [module._parameters for module in trees if module._parameters]
        self._child = _all(self._children)
        self._parameter = _all(self._held)
        self._weights = [parameter for parameter in self._parameter if parameter is not None]
        self._places = list(map(_address, self._weights))
        parts = {id(module) for part in stepped for module in part.modules()}
        self._stepped = {path: module for path, module in self._modules.items() if id(module) in parts}
        self._hooks = Hooks(self._stepped)

    def check(self) -> None:
        """Raises LaptimeError, with what is other now, when the model isn't as it was."""
        if self._model.training:
            raise LaptimeError("the model is in training mode; call model.eval() first")
        if not _same(self._child, _all(self._children)):
            raise LaptimeError(self._other_module())
        if not _same(self._parameter, _all(self._held)):
            raise LaptimeError(
                f"{self._other_parameter()} is another parameter than when this decoder was made (a checkpoint was "
                f"loaded, or the model was moved, for example); {NEW_ONE}"
            )
        if list(map(_address, self._weights)) != self._places:
            raise LaptimeError(
                f"the model's weights have moved since this decoder was made (by .to(), for example); {NEW_ONE}"
            )
        if (at := self._hooks.first()) is not None:
            raise LaptimeError(
                f"{at} has a forward hook, which a fast step would pass by; remove it, or use model.generate()"
            )

    def _other_module(self) -> str:
        if self._model.get_submodule(self._layers_path) is not self._modules[self._layers_path]:
            return (
                "the model's blocks are others than when this decoder was made (applied(blocks=...), for example); "
                "make it anew inside, or give FastModel.run() a setting"
            )
        now = dict(self._model.named_modules())
        paths = [*self._modules, *(path for path in now if path not in self._modules)]
        path = next((one for one in paths if now.get(one) is not self._modules.get(one)), "a module")
        return (
            f"{path} is another module than when this decoder was made (an adapter was added or merged, for example); "
            f"{NEW_ONE}, after adapters are merged"
        )

    def _other_parameter(self) -> str:
        for path, module in self._modules.items():
            for name, parameter in module._parameters.items():
                if not any(parameter is one for one in self._parameter):
                    return f"{path}.{name}".lstrip(".")
        return "a weight"


def _all(holders: list[Any]) -> list[Any]:
    return list(chain.from_iterable(map(dict.values, holders)))


def _same(before: list[Any], now: list[Any]) -> bool:
    return len(before) == len(now) and all(map(is_, before, now))


class Hooks:
    """The forward hooks in modules that a step or a replay passes by. modules: by their paths."""

    def __init__(self, modules: Mapping[str, Any]) -> None:
        self._paths = [path for path in modules for _ in range(2)]
        self._hooks = [hooks for one in modules.values() for hooks in (one._forward_pre_hooks, one._forward_hooks)]

    def first(self) -> str | None:
        """The path of the first module with a hook; None where there is none.

        Those with which transformers itself looks for hidden states and attentions stay in a model once they were
        asked for. They change nothing, so they don't count.
        """
        if not any(self._hooks):
            return None
        for path, hooks in zip(self._paths, self._hooks, strict=True):
            if any(getattr(hook, "__module__", None) != CAPTURING for hook in hooks.values()):
                return path
        return None
