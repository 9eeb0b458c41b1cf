"""Text from outside, safe to show: nothing in it acts as an instruction to a terminal or a browser."""

from __future__ import annotations

import re

_UNPRINTABLE = (
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters: with them a terminal is told what to do
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks of direction: with them a text reads as another one
    "\ud800-\udfff]"  # halves of characters: bytes of a file's name that are no UTF-8, and what can't be encoded
)


def printable(text: str) -> str:
    """The text with control characters, marks of direction and halves of characters replaced: it can be shown."""
    return text if text.isascii() and text.isprintable() else re.sub(_UNPRINTABLE, "\ufffd", text)
