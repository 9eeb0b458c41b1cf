"""Choose the knobs for each input under a latency budget, and keep the promise.

What imports torch (running and training) is imported on first use: pages of evaluations are read without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laptime.control.adaptive_model import AdaptiveModel as AdaptiveModel

_HOMES = {"AdaptiveModel": "laptime.control.adaptive_model"}

__all__ = ["AdaptiveModel"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'laptime.control' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
