"""Names for the passes of a traced call, so that its trace says which kernels are vision's and which are prefill's."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch

from laptime.models.anatomy import find_anatomy

VISION, PREFILL = "laptime: vision", "laptime: prefill"


class PassRanges:
    """Ranges of the profiler around the first vision and the first prefill of a call inside the block.

    Vision: from the tower's entry to the projector's exit. Prefill: from the language model's entry to the end of the
    first forward. Where the language model calls the tower, prefill goes on behind it. On exit the model is as before.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._anatomy = model, find_anatomy(model)
        self._open: tuple[str, Any] | None = None
        self._prefilling = False
        self._handles: list[Any] = []

    def __enter__(self) -> PassRanges:
        anatomy = self._anatomy
        if anatomy.vision is not None:
            self._handles.append(anatomy.vision.register_forward_pre_hook(lambda *_: self._begin(VISION)))
            last = anatomy.projector if anatomy.projector is not None else anatomy.vision
            self._handles.append(last.register_forward_hook(lambda *_: self._end_vision()))
        self._handles.append(anatomy.language.register_forward_pre_hook(lambda *_: self._begin_prefill()))
        self._handles.append(self._model.register_forward_hook(lambda *_: self._finish()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish()

    def _begin(self, name: str) -> None:
        if self._open is not None and self._open[0] == name:
            return
        self._close()
        opened = torch.profiler.record_function(name)
        opened.__enter__()
        self._open = (name, opened)

    def _begin_prefill(self) -> None:
        self._prefilling = True
        self._begin(PREFILL)

    def _end_vision(self) -> None:
        self._close()
        if self._prefilling:
            self._begin(PREFILL)

    def _close(self) -> None:
        if self._open is not None:
            self._open[1].__exit__(None, None, None)
            self._open = None

    def _finish(self) -> None:
        """The first forward has ended: no later one is named."""
        self._close()
        self._prefilling = False
        while self._handles:
            self._handles.pop().remove()
