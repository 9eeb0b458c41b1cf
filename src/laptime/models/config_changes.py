"""A model's config objects, and changes of an attribute that are undone.

transformers may have copied a config for each part of the model, so a change must reach every copy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn


def all_configs(model: nn.Module) -> list[Any]:
    """Every distinct config object that the model or a part of it holds, sub-configs included."""
    configs: dict[int, Any] = {}
    for module in model.modules():
        for config in _with_parts(getattr(module, "config", None)):
            configs.setdefault(id(config), config)
    return list(configs.values())


def text_configs(model: nn.Module) -> list[Any]:
    """The distinct objects of the text config, the one that model.config names first."""
    first: Any = model.config
    if callable(getattr(first, "get_text_config", None)):
        first = first.get_text_config()
    return [first, *(c for c in all_configs(model) if c is not first and type(c) is type(first))]


def _with_parts(config: Any) -> Iterator[Any]:
    if not hasattr(config, "model_type"):
        return
    yield config
    for name in getattr(config, "sub_configs", ()):
        yield from _with_parts(getattr(config, name, None))


_ABSENT = object()


@contextlib.contextmanager
def changed(holder: Any, name: str, value: Any) -> Iterator[None]:
    """`holder.name` is `value` inside the block, and afterwards the very object that it was before."""
    before = getattr(holder, name, _ABSENT)
    setattr(holder, name, value)
    try:
        yield
    finally:
        if before is _ABSENT:
            delattr(holder, name)
        else:
            setattr(holder, name, before)
