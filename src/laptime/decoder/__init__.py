"""FastModel: a model's own generate() as replayed graphs. FastDecoder is its decode part.

from laptime.decoder import FastModel, timed_generate
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laptime.decoder.decoder import FastDecoder
    from laptime.decoder.fast_model import FastModel
    from laptime.decoder.timed import timed_generate

__all__ = ["FastDecoder", "FastModel", "timed_generate"]


def __getattr__(name: str) -> Any:
    """Import a name when somebody asks for it: all of them need torch."""
    if name == "FastDecoder":
        from laptime.decoder.decoder import FastDecoder

        return FastDecoder
    if name == "FastModel":
        from laptime.decoder.fast_model import FastModel

        return FastModel
    if name == "timed_generate":
        from laptime.decoder.timed import timed_generate

        return timed_generate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
