"""Clocks of its own for one generate() call: perf_counter around what the model calls, with a delay in each part.

The delays make every stage long enough to be told apart on a busy machine, and they show where a stage was booked.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

DELAY_S = 0.02
FEATURES = {
    "get_image_features": "vision",
    "get_video_features": "vision",
    "get_image_tokens": "vision",
    "get_audio_features": "audio",
}
TOWERS: dict[str, dict[str, tuple[str, str]]] = {
    "mllama": {"vision": ("model.vision_model", "model.multi_modal_projector")},
    "git": {"vision": ("git.image_encoder", "git.visual_projection")},
    "blip": {"vision": ("vision_model", "vision_model")},
    "blip-2": {"vision": ("vision_model", "language_projection")},
    "kosmos-2": {"vision": ("vision_model", "image_to_text_projection")},
    "kosmos-2.5": {"vision": ("vision_model", "image_to_text_projection")},
    "idefics": {"vision": ("model.vision_model", "model.vision_model")},
    "phi4_multimodal": {"vision": ("model.embed_tokens_extend.image_embed", "model.embed_tokens_extend.image_embed")},
    "qwen2_audio": {"audio": ("model.audio_tower", "model.multi_modal_projector")},
}
"""Of types without a feature function: the encoder's entry and exit."""


INNER = {
    **dict.fromkeys(("blip-2", "instructblip", "instructblipvideo"), "language_model"),
    **dict.fromkeys(("kosmos-2", "kosmos-2.5"), "text_model"),
    "blip": "text_decoder",
}
"""Of types whose generate() calls that of a part: the part."""


class OwnClocks:
    """What one call took, in ms by stage, seen from outside of laptime. Use as a context around one generate()."""

    def __init__(self, model: nn.Module, model_type: str) -> None:
        self.model, self.model_type = model, model_type
        self.ms: dict[str, float] = {"vision": 0.0, "audio": 0.0, "encode": 0.0}
        self.forwards = 0
        self.generated = False
        self.result: Any = None
        self._scope: list[str] = []
        self._prefill_begin: float | None = None
        self._delayed: set[str] = set()

    def __enter__(self) -> OwnClocks:
        self._stack = ExitStack()
        encoder_decoder = getattr(self.model.config, "is_encoder_decoder", False)
        for holder in self.model.modules():
            for name, stage in FEATURES.items():
                if callable(getattr(type(holder), name, None)):
                    self._wrap(holder, name, stage)
        parts = {path for path, _ in self.model.named_modules()}
        for stage, (begin, end) in TOWERS.get(self.model_type, {}).items():
            if begin not in parts:  # the text part alone
                continue
            self._bracket(self.model.get_submodule(begin), self.model.get_submodule(end), stage)
        decoder = self.model.get_decoder() if hasattr(self.model, "get_decoder") else None
        if encoder_decoder:
            encoder = self.model.get_encoder()
            if any(module is encoder for module in decoder.modules()):  # Florence-2 names what holds both
                decoder = decoder.decoder
            self._bracket(encoder, encoder, "encode")
        multimodal = encoder_decoder or any(self.ms_stage(m) for m in self.model.modules()) or self.model_type in TOWERS
        language = decoder if decoder is not None and multimodal else self.model
        top = self.model
        if self.model_type in INNER:
            top = language = self.model.get_submodule(INNER[self.model_type])
        self._hook(language.register_forward_pre_hook(self._on_language))
        self._hook(top.register_forward_hook(self._on_forward))
        layers = next((m for m in language.modules() if isinstance(m, nn.ModuleList) and len(m)), None)
        if layers is not None:
            self._hook(layers[0].register_forward_pre_hook(lambda *_: self._delay("prefill")))
        original = self.model.generate

        def generate(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            self.result = original(*args, **kwargs)
            self.ms["total"] = (time.perf_counter() - begin) * 1e3
            self.generated = True
            return self.result

        self.model.generate = generate
        self._stack.callback(lambda: self.model.__dict__.pop("generate", None))
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def ms_stage(self, holder: nn.Module) -> bool:
        """Whether this module has a feature function."""
        return any(callable(getattr(type(holder), name, None)) for name in FEATURES)

    def _hook(self, handle: Any) -> None:
        self._stack.callback(handle.remove)

    def _delay(self, what: str) -> None:
        if what not in self._delayed:
            self._delayed.add(what)
            time.sleep(DELAY_S)

    def _bracket(self, begin: nn.Module, end: nn.Module, stage: str) -> None:
        at: list[float] = []

        def enter(*_: Any) -> None:
            at.append(time.perf_counter())
            others_before.append(self.ms["vision"] + self.ms["audio"])

        others_before: list[float] = []  # what other stages took within this one (an encoder that calls a vision tower)

        def leave(*_: Any) -> None:
            others = self.ms["vision"] + self.ms["audio"] - others_before[-1] if stage == "encode" else 0.0
            self.ms[stage] += (time.perf_counter() - at[-1]) * 1e3 - others

        self._hook(begin.register_forward_pre_hook(enter))
        for inside in list(begin.modules())[1:]:
            self._hook(inside.register_forward_pre_hook(lambda *_: self._delay(stage)))
        self._hook(end.register_forward_hook(leave))

    def _wrap(self, holder: nn.Module, name: str, stage: str) -> None:
        original = getattr(holder, name)

        def features(*args: Any, **kwargs: Any) -> Any:
            if self._scope:
                return original(*args, **kwargs)
            times: list[float] = []

            def enter(*_: Any) -> None:
                if times:  # within the tower, where nobody's clock has yet to be started
                    self._delay(stage)
                else:
                    times.append(time.perf_counter())

            def leave(*_: Any) -> None:
                times[1:] = [time.perf_counter()]

            self._scope.append(stage)
            handles = [
                torch_module.register_module_forward_pre_hook(enter),
                torch_module.register_module_forward_hook(leave),
            ]
            try:
                return original(*args, **kwargs)
            finally:
                self._scope.pop()
                for handle in handles:
                    handle.remove()
                if len(times) > 1:
                    self.ms[stage] += (times[1] - times[0]) * 1e3

        setattr(holder, name, features)
        self._stack.callback(lambda: holder.__dict__.pop(name, None))

    def _on_language(self, *_: Any) -> None:
        if self._prefill_begin is None:
            self._prefill_begin = time.perf_counter()
            self._inside = {stage: self.ms[stage] for stage in ("vision", "audio", "encode")}

    def _on_forward(self, *_: Any) -> None:
        self.forwards += 1
        if self.forwards == 1 and self._prefill_begin is not None:
            inside = sum(self.ms[stage] - before for stage, before in self._inside.items())
            self.ms["prefill"] = (time.perf_counter() - self._prefill_begin) * 1e3 - inside


def same_tokens(one: Any, other: Any) -> bool:
    """Whether two results of generate() hold the same ids."""
    return bool(torch.equal(getattr(one, "sequences", one), getattr(other, "sequences", other)))
