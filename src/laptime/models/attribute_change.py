"""Attributes changed for a while: each knob is a list of them, and undoing it puts back what was there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

_ABSENT = object()


@contextlib.contextmanager
def changed(holder: Any, name: str, value: Any) -> Iterator[None]:
    """`holder.name` is `value` inside the block, and afterwards the very object that it was before."""
    before = getattr(holder, name, _ABSENT)
    setattr(holder, name, value)
    try:
        yield
    finally:
        if before is _ABSENT:
            delattr(holder, name)
        else:
            setattr(holder, name, before)
