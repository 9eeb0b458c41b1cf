"""Remedies for slow decoding: each is predicted from a trace, applied to the model, and measured beside the baseline.

from laptime.remedy import RemedyOptions, prove_remedies
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laptime.remedy.prove import RemedyOptions, prove_remedies

__all__ = ["RemedyOptions", "prove_remedies"]


def __getattr__(name: str) -> Any:
    """Import a name when somebody asks for it: proving needs torch, reading a result doesn't."""
    if name in __all__:
        from laptime.remedy import prove

        return getattr(prove, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
