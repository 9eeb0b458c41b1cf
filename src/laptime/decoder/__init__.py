"""FastDecoder: a model's own generate(), decoded by merged weights, fused kernels and one CUDA graph.

from laptime.decoder import FastDecoder, timed_generate
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laptime.decoder.decoder import FastDecoder
    from laptime.decoder.timed import timed_generate

__all__ = ["FastDecoder", "timed_generate"]


def __getattr__(name: str) -> Any:
    """Import a name when somebody asks for it: both need torch."""
    if name == "FastDecoder":
        from laptime.decoder.decoder import FastDecoder

        return FastDecoder
    if name == "timed_generate":
        from laptime.decoder.timed import timed_generate

        return timed_generate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
