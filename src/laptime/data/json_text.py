"""A value as JSON. Half a character, as in the name of a file that isn't UTF-8, stands there as a mark."""

from __future__ import annotations

from typing import Any

import msgspec

from laptime.data.printable import printable


def json_bytes(value: Any) -> bytes:
    """A value as JSON on one line."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_encodable(msgspec.to_builtins(value)))


def readable_json(value: Any) -> bytes:
    """A value as indented JSON with a newline at its end."""
    return msgspec.json.format(json_bytes(value), indent=1) + b"\n"


def _encodable(value: Any) -> Any:
    """The same with a mark for each half of a character, which JSON can't hold."""
    if isinstance(value, dict):
        return {_encodable(key): _encodable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(inner) for inner in value]
    return printable(value) if isinstance(value, str) and _has_halves(value) else value


def _has_halves(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)
