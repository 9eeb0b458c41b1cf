"""The arguments of generate() that a configuration means, the same for every way of measuring it."""

from __future__ import annotations

from typing import Any

import torch


def generation_arguments(
    *, new_tokens: int, cache: str | None, compile: bool, prefill_chunk: int | None = None
) -> dict[str, Any]:
    """Greedy, so many tokens; `cache` is transformers' cache_implementation, None its dynamic one."""
    arguments: dict[str, Any] = {"max_new_tokens": new_tokens, "do_sample": False}
    if cache is not None:
        arguments["cache_implementation"] = cache
    if not compile:
        arguments["disable_compile"] = True
    if prefill_chunk is not None:
        arguments["prefill_chunk_size"] = prefill_chunk
    return arguments


def compiles(*, cache: str | None, compile: bool, device: torch.device) -> bool:
    """Whether transformers compiles the decode step: it was not forbidden, the cache is static, the device no CPU."""
    return compile and cache is not None and device.type != "cpu"
