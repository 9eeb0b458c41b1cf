"""What stands in the place of a model's generate() while a timer is entered, and which modules have one to stand for.

A wrapper's generate() calls the model's own (PEFT), and some models' generate() calls that of a part (BLIP-2 its
language model). So every part with a generate() of its own gets a stand-in, and the innermost one is measured.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn
from transformers.generation import GenerationMixin

from laptime.errors import LaptimeError
from laptime.measure.call_settings import takes_processors
from laptime.models.anatomy import Anatomy, find_anatomy
from laptime.models.beside import with_encoders_beside
from laptime.models.encoder_parts import listed

GENERATE = "generate"


class StandIn:
    """Hands each generate() call of one module to the timer. A copy of the module has its own generate().

    original: the module's own generate(). takes_processors: whether it can be handed logits processors.
    """

    def __init__(self, module: nn.Module, timed: Timed) -> None:
        self.own = module.__dict__.get(GENERATE)  # the instance's own, if somebody has set one
        self.module = module
        self.original: Callable[..., Any] = getattr(module, GENERATE)
        self.takes_processors = takes_processors(self.original)
        self._timed = timed
        functools.update_wrapper(self, self.original)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._timed(self, args, kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_itself, (self.own,)) if self.own is not None else (getattr, (self.module, GENERATE))


Timed = Callable[[StandIn, tuple[Any, ...], dict[str, Any]], Any]
"""Takes a stand-in and the arguments that it was called with, and calls its original."""


def _itself(value: Any) -> Any:
    return value


def stand_in(model: nn.Module, timed: Timed) -> None:
    """Put a stand-in at the model and at each part with a generate() of its own.

    Raises LaptimeError when one of them is timed already.
    """
    modules = list(_generating(model))
    if any(isinstance(module.__dict__.get(GENERATE), StandIn) for module in modules):
        raise LaptimeError("this model is being timed already; leave the first StageTimer before entering another")
    for module in modules:
        module.__dict__[GENERATE] = StandIn(module, timed)


def step_aside(model: nn.Module) -> None:
    """Undo stand_in."""
    for module in _generating(model):
        standing = module.__dict__.get(GENERATE)
        if not isinstance(standing, StandIn):
            continue
        if standing.own is None:
            del module.__dict__[GENERATE]
        else:
            module.__dict__[GENERATE] = standing.own


def _generating(model: nn.Module) -> Iterator[nn.Module]:
    yield model
    for module in model.modules():
        if module is not model and isinstance(module, GenerationMixin):
            yield module


def decoding_part(model: nn.Module) -> tuple[nn.Module, str]:
    """The module whose own generate() runs the decode loop, as far as can be known before a call, and its path.

    It is the model itself, unless it is a wrapper (PEFT) or its class has another generate(), which doesn't go on to
    the one that it inherits, and a part that has transformers' own.
    """
    if _plain(model) or _goes_on(model):
        return model, ""
    for path, module in model.named_modules():
        if path and isinstance(module, GenerationMixin) and _plain(module):
            return module, path
    return model, ""


def _plain(module: nn.Module) -> bool:
    return getattr(type(module), GENERATE, None) is GenerationMixin.generate


def _goes_on(module: nn.Module) -> bool:
    """Whether its class's generate() calls super().generate() (SeamlessM4T, whose part makes sound afterwards)."""
    if not isinstance(module, GenerationMixin):
        return False
    code = getattr(inspect.unwrap(type(module).generate), "__code__", None)
    return code is not None and {"super", GENERATE} <= set(code.co_names)


def core_of(model: nn.Module) -> tuple[nn.Module, str]:
    """The transformers model in a wrapper such as PEFT's, and its path; the model itself where there is none."""
    for path, module in model.named_modules():
        if isinstance(module, GenerationMixin):
            return module, path
    return model, ""


def anatomy_of(
    model: nn.Module,
    *,
    vision: str | Sequence[str] | None,
    projector: str | Sequence[str] | None,
    language: str | None,
) -> Anatomy:
    """The parts of the model to take marks on, looked for in what a wrapper wraps. Paths are those in the whole model.

    Raises LaptimeError for a path that isn't there, and when a part can't be found.
    """
    core, outer = core_of(model)
    wrapped = bool(outer)
    part, inner = decoding_part(core)
    if inner and language is None:
        if getattr(getattr(part, "config", None), "vision_config", None) is None:
            language = f"{outer}.{inner}" if outer else inner
        else:  # a whole model in a larger one
            core, outer = part, f"{outer}.{inner}" if outer else inner
    known = {path for path, _ in core.named_modules()} if wrapped else None
    towers, towers_beside = _divided(outer, known, listed(vision))
    projectors, projectors_beside = _divided(outer, known, listed(projector))
    anatomy = find_anatomy(
        core, vision=towers, projector=projectors, language=next(iter(_below(outer, listed(language))), None)
    )
    return with_encoders_beside(anatomy, model, outer, towers_beside, projectors_beside) if wrapped else anatomy


def _divided(outer: str, known: set[str] | None, paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Paths in the module at `outer`, and those that are none of its known ones."""
    below = _below(outer, paths)
    if known is None:
        return below, []
    pairs = list(zip(paths, below, strict=True))
    return [inside for _, inside in pairs if inside in known], [path for path, inside in pairs if inside not in known]


def _below(outer: str, paths: Sequence[str]) -> list[str]:
    """Paths in the whole model as paths in the module at `outer`."""
    return [path.removeprefix(outer + ".") if outer else path for path in paths]
