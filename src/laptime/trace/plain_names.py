"""Names of operators and Python frames, short enough for a sentence."""

from __future__ import annotations

import re

_FRAME = re.compile(r"[^/]{1,200}/[^/]{1,200}\.py\(\d{1,9}\): .{1,200}$")
"""The last folder, the file and the function of a Python frame."""


def plain(name: str, limit: int = 48) -> str:
    """An operator's or a Python frame's name, short enough for a sentence: of a frame the function stays."""
    name = " ".join(name.split())
    frame = _FRAME.search(name[-800:]) if len(name) > limit else None
    if frame is None:
        return name if len(name) <= limit else name[: limit - 1] + "…"
    name = frame.group()
    return name if len(name) <= limit else f"{name[: limit // 3]}…{name[limit // 3 + 1 - limit :]}"
