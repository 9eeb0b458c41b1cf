"""Large JSON files of data sets, decoded into just the fields that are asked for, with errors that name the place."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from laptime.errors import LaptimeError

T = TypeVar("T")


def read_bytes(path: Path) -> bytes:
    """A file's content without a byte order mark. Raises LaptimeError."""
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise LaptimeError(f"{path}: can't be read: {error.strerror}") from None


def decode(content: bytes | msgspec.Raw, type_: type[T], place: str, means: str) -> T:
    """The JSON as `type_`. Raises LaptimeError that says where it isn't, and that it should be `means`."""
    try:
        return msgspec.json.decode(content, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise LaptimeError(f"{place}: not {means}: {first}") from None
