"""Where a model's images and sounds become features, and how to see that from outside.

transformers' models put this work into functions of their own (`get_image_features`, `get_audio_features`), so what
runs inside one of them is that stage, however many towers and projectors it has and whether they are called by
forward or by encode(). A model without such a function is watched at its tower's entry and its projector's exit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import get_ident
from typing import Any, Literal

from torch import nn

from laptime.models.before_method import before

EncoderStage = Literal["vision", "audio", "encode"]

FEATURE_FUNCTIONS: Mapping[str, EncoderStage] = {
    "get_image_features": "vision",
    "get_video_features": "vision",
    "get_audio_features": "audio",
}
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class FeatureFunction:
    """A function of `holder` that makes features; `parts` are the modules that it may call."""

    stage: EncoderStage
    holder: nn.Module
    name: str
    parts: tuple[nn.Module, ...]


@dataclass(frozen=True)
class Bracket:
    """An encoder watched from the first of `entries` entered to the last of `exits` left."""

    stage: EncoderStage
    entries: tuple[nn.Module, ...]
    exits: tuple[nn.Module, ...]


@dataclass(frozen=True)
class Encoders:
    """All that a model encodes with. unassigned: what looks like an encoder and belongs to no stage, by path."""

    functions: tuple[FeatureFunction, ...]
    brackets: tuple[Bracket, ...]
    unassigned: Mapping[str, nn.Module]


class EncoderWatch:
    """Tells when an encoder begins and ends, between enter and exit. On exit the model is as it was.

    Two kinds of marks: "STAGE-begin" and "STAGE-end", and of modules in no stage "unassigned-begin:PATH" and
    "unassigned-end:PATH". Only what the thread does that called start() is told. take: takes a mark. move: takes a
    mark, or moves the newest one if it is of the same kind.
    """

    def __init__(self, encoders: Encoders, take: Callable[[str], None], move: Callable[[str], None]) -> None:
        self._encoders, self._take, self._move = encoders, take, move
        self._stage: EncoderStage | None = None  # of the feature function that is running
        self._begun = False
        self._undo: list[Callable[[], None]] = []
        self._thread = get_ident()

    def start(self) -> None:
        """Hang the hooks."""
        self._thread = get_ident()
        for function in self._encoders.functions:
            self._undo.append(before(function.holder, function.name, self._within(function)))
        for part in {id(p): p for f in self._encoders.functions for p in f.parts}.values():
            self._hook(part.register_forward_pre_hook(self._enter))
            self._hook(part.register_forward_hook(self._leave))
            if callable(getattr(part, "encode", None)):  # a VQ-VAE: its forward is never called
                self._undo.append(before(part, "encode", self._encode))
        for bracket in self._encoders.brackets:
            begin, end = (self._outside(self._take, f"{bracket.stage}-{side}") for side in ("begin", "end"))
            for module in bracket.entries:
                self._around(module, begin, end if module in bracket.exits else _nothing)
            for module in bracket.exits:
                if module not in bracket.entries:
                    self._around(module, _nothing, end)
        for path, module in self._encoders.unassigned.items():
            begin, end = (self._outside(self._take, f"unassigned-{side}:{path}") for side in ("begin", "end"))
            self._around(module, begin, end)

    def stop(self) -> None:
        """Take everything off again, the newest first."""
        while self._undo:
            self._undo.pop()()

    def _within(self, function: FeatureFunction) -> Callable[..., Any]:
        def features(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if self._stage is not None:  # one feature function inside another: the outer one is the stage
                return original(*args, **kwargs)
            self._stage, self._begun = function.stage, False
            try:
                return original(*args, **kwargs)
            finally:
                self._stage = None

        return features

    def _encode(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._enter()
        result = original(*args, **kwargs)
        self._leave()
        return result

    def _enter(self, *_: Any) -> None:
        if self._stage is not None and not self._begun and get_ident() == self._thread:
            self._begun = True
            self._take(f"{self._stage}-begin")

    def _leave(self, *_: Any) -> None:
        if self._stage is not None and self._begun and get_ident() == self._thread:
            self._move(f"{self._stage}-end")

    def _outside(self, take: Callable[[str], None], kind: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            if self._stage is None and get_ident() == self._thread:
                take(kind)

        return hook

    def _around(self, module: nn.Module, begin: Callable[..., None], end: Callable[..., None]) -> None:
        """Call these at the module's entry and exit, by forward or, of a codec, by encode()."""
        if begin is not _nothing:
            self._hook(module.register_forward_pre_hook(begin))
        if end is not _nothing:
            self._hook(module.register_forward_hook(end))
        if callable(getattr(module, "encode", None)):

            def encode(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
                begin()
                result = original(*args, **kwargs)
                end()
                return result

            self._undo.append(before(module, "encode", encode))

    def _hook(self, handle: Any) -> None:
        self._undo.append(handle.remove)


def _nothing(*_: Any) -> None:
    """What takes no mark."""


def feature_functions(
    modules: Mapping[str, nn.Module], is_language: Callable[[str], bool], parts_of: Callable[[str], Sequence[str]]
) -> tuple[FeatureFunction, ...]:
    """The innermost holders of each feature function, with the parts that are none of the language model's.

    is_language: whether the module at a path is, or holds, a part of the language model. parts_of: the paths of the
    callable modules right below a path.
    """
    functions: list[FeatureFunction] = []
    for name, stage in FEATURE_FUNCTIONS.items():
        holders = [path for path, module in modules.items() if callable(getattr(module, name, None))]
        inner = [p for p in holders if not any(o != p and (p == "" or o.startswith(p + ".")) for o in holders)]
        for path in inner:
            parts = tuple(modules[part] for part in parts_of(path) if not is_language(part))
            if parts:
                functions.append(FeatureFunction(stage, modules[path], name, parts))
    return tuple(functions)


def looks_like_encoder(module: nn.Module) -> bool:
    """Whether the module holds layers or a convolution: more than a norm, a rotary table or one projection."""
    return any(
        isinstance(m, _CONVOLUTIONS) or (isinstance(m, nn.ModuleList) and any(True for _ in m.parameters()))
        for m in module.modules()
    )
