"""Remedies for slow decoding, predicted from a trace and then measured: buffers, fusion, CUDA graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laptime.decoder.decoder import FastDecoder
    from laptime.decoder.timed import timed_generate

__all__ = ["FastDecoder", "timed_generate"]


def __getattr__(name: str) -> Any:
    """The two names that need torch, imported when they are asked for: a page reads results without it."""
    if name == "FastDecoder":
        from laptime.decoder.decoder import FastDecoder

        return FastDecoder
    if name == "timed_generate":
        from laptime.decoder.timed import timed_generate

        return timed_generate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
