"""The remedy `graph`: the model's own forward over a static cache, captured once and replayed. No fusion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StaticCache

from laptime.decoder.graph import CapturedStep, capture
from laptime.errors import LaptimeError
from laptime.measure.call_settings import CACHE
from laptime.models.anatomy import find_anatomy


class CapturedForward:
    """Greedy decoding of one batch shape without padding. It keeps the static cache, the step's buffers, the graph.

    Raises LaptimeError for a model without a rotary embedding of its own.
    """

    def __init__(self, model: Any, batch: int, capacity: int) -> None:
        device = next(model.parameters()).device
        config = model.config.get_text_config()
        self._model, self._rotary = model, _rotary_of(model)
        self._cache = StaticCache(config=config, max_cache_len=capacity)
        self._token = torch.zeros(batch, 1, dtype=torch.long, device=device)
        self._place: torch.Tensor | None = None
        self._ids = torch.zeros(batch, capacity, dtype=torch.long, device=device)
        self._at = torch.zeros(1, dtype=torch.long, device=device)
        self._suppressed = torch.zeros(0, dtype=torch.long, device=device)
        self._captured: CapturedStep | None = None

    @torch.no_grad()
    def run(
        self, inputs: dict[str, Any], new_tokens: int, mark: Callable[[str], None], processors: list[LogitsProcessor]
    ) -> tuple[torch.Tensor, int]:
        """Prompt and new ids, and the number of steps. Raises LaptimeError when the forward can't be captured."""
        if not bool(inputs["attention_mask"].all()):
            raise LaptimeError("padding: the captured forward attends to every position")
        self._prefill(inputs, processors)
        mark("first-token")
        mark("decode-begin")
        if self._captured is None:
            self._captured = self._capture(inputs)
        for _ in range(new_tokens - 1):
            self._captured()
        if new_tokens > 1:
            mark("logits")
        return torch.cat([inputs["input_ids"], self._ids[:, :new_tokens]], dim=1), new_tokens - 1

    def _prefill(self, inputs: dict[str, Any], processors: list[LogitsProcessor]) -> None:
        if self._cache.layers[0].is_initialized:
            self._cache.reset()
        places: list[torch.Tensor] = []
        handle = self._rotary.register_forward_pre_hook(
            lambda _, args, kwargs: places.append(kwargs["position_ids"] if "position_ids" in kwargs else args[1]),
            with_kwargs=True,
        )
        once = GenerationConfig(
            max_new_tokens=1,
            do_sample=False,
            return_dict_in_generate=True,
            disable_compile=True,
            pad_token_id=self._model.generation_config.pad_token_id,
        )
        try:
            out = type(self._model).generate(
                self._model,
                **inputs,
                generation_config=once,
                logits_processor=LogitsProcessorList(processors),
                **{CACHE: self._cache},
            )
        finally:
            handle.remove()
        place = places[-1][..., -1:] + 1
        if self._place is None:
            self._place = place.clone()
            banned = self._model.generation_config.suppress_tokens or ()
            self._suppressed = torch.tensor(list(banned), dtype=torch.long, device=place.device)
        self._place.copy_(place)
        self._token.copy_(out.sequences[:, -1:])
        self._at.fill_(1)
        self._ids[:, :1] = self._token

    def _capture(self, inputs: dict[str, Any]) -> CapturedStep:
        """Capture the step. Warm-up and capture move its buffers on, so prefill runs again afterwards."""
        try:
            captured = capture(self._step)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise LaptimeError(f"the forward could not be captured: {str(error).splitlines()[0]}") from error
        self._prefill(inputs, [])
        return captured

    def _step(self) -> None:
        assert self._place is not None
        out = self._model(input_ids=self._token, position_ids=self._place, use_cache=True, **{CACHE: self._cache})
        logits = out.logits[:, -1].float()
        logits.index_fill_(1, self._suppressed, float("-inf"))
        self._token.copy_(logits.argmax(dim=-1, keepdim=True))
        self._place.add_(1)
        self._ids.index_copy_(1, self._at, self._token)
        self._at.add_(1)


def _rotary_of(model: Any) -> Any:
    """The rotary module beside the decoder blocks."""
    parent = model.get_submodule(find_anatomy(model).layers_path.rpartition(".")[0])
    rotary = getattr(parent, "rotary_emb", None)
    if rotary is None:
        raise LaptimeError(f"{type(model).__name__}: it has no rotary embedding of its own")
    return rotary
