"""Standing before a method of one module for a while, in one thread, so that other threads' calls pass by.

undo = before(model, "prepare_inputs_for_generation", wrap)   # wrap(original, *args, **kwargs) is called instead
undo()                                                        # the module is as it was
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Lock, get_ident
from typing import Any

from torch import nn

Wrap = Callable[..., Any]
_CHANGING = Lock()


class BeforeMethod:
    """An attribute of the instance in its method's place. It holds the wrappers of each thread, the newest last."""

    def __init__(self, module: nn.Module, name: str) -> None:
        self.own = module.__dict__.get(name)  # the instance's own, if somebody has set one
        self.wraps: dict[int, list[Wrap]] = {}
        self._module = module
        self._name = name
        self._method: Callable[..., Any] = getattr(module, name)
        self.__wrapped__ = self._method  # transformers reads signatures

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = self._method
        for wrap in tuple(self.wraps.get(get_ident(), ())):
            call = partial(wrap, call)
        return call(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._module, self._name)  # a copy of the module has its own method


def before(module: nn.Module, name: str, wrap: Wrap) -> Callable[[], None]:
    """Call wrap(original, ...) where this thread calls the module's method. Returns what undoes it."""
    thread = get_ident()
    with _CHANGING:
        standing = module.__dict__.get(name)
        if not isinstance(standing, BeforeMethod):
            standing = BeforeMethod(module, name)
            module.__dict__[name] = standing
        standing.wraps.setdefault(thread, []).append(wrap)

    def undo() -> None:
        with _CHANGING:
            mine = standing.wraps.get(thread, [])
            if wrap in mine:
                mine.remove(wrap)
            if not mine:
                standing.wraps.pop(thread, None)
            if standing.wraps or module.__dict__.get(name) is not standing:
                return
            if standing.own is None:
                del module.__dict__[name]
            else:
                module.__dict__[name] = standing.own

    return undo
