"""What a reader must know before trusting a number: of a trace, of a run, of an engine."""

from __future__ import annotations

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a reader must know before trusting a number."""

    code: str
    severity: Literal["info", "warning", "severe"]
    message: str
    count: int = 1
