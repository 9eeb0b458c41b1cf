"""Work done in a copy of this process, on the second processor, while this one does something else.

Only where nothing can go wrong by it: a processor to spare, and no second thread in this process, whose locks a fork
would copy. Everybody who asks for it can do the same work alone.
"""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, NoReturn

import msgspec
import numpy as np

_ARRAY = 1
"""MessagePack extension code of a one-dimensional array: its type's code (one byte), then its values as they lie."""

_LENGTH_BYTES = 8


def available() -> bool:
    """Whether this is Linux, with a processor to spare and no second thread in this process."""
    try:
        return len(os.sched_getaffinity(0)) > 1 and len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208
    except (AttributeError, OSError):
        return False


def processors() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


_ENDING: set[int] = set()
"""Copies that have answered and are about to end: to give their memory back takes them longer than to say so."""


def _ended(child: int, *, wait: bool) -> bool:
    """Whether a copy has ended, or is none of this process."""
    try:
        return os.waitpid(child, 0 if wait else os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def _see_off(*, wait: bool) -> None:
    """Forget the copies that have ended; they are waited for when this process ends."""
    _ENDING.difference_update([child for child in _ENDING if _ended(child, wait=wait)])


atexit.register(_see_off, wait=True)


@contextmanager
def elsewhere(work: Callable[[], Sequence[Any]], *kinds: type) -> Iterator[Callable[[], list[Any] | None]]:
    """Do some work in a copy of this process.

    Args:
        work: gives instances of `kinds`, dataclasses of plain values, arrays of one dimension and mappings of these.
            They come back as MessagePack, which unlike a pickle can only ever be values.

    Yields:
        a function that waits for the results, None when the work failed. Leaving stops work that isn't done.
    """
    _see_off(wait=False)
    answered = False

    def fetch() -> list[Any] | None:
        nonlocal answered
        results = _received(file, {kind.__name__: kind for kind in kinds})
        answered = results is not None
        return results

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work(work, writing)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as file:
            yield fetch
    finally:
        if answered:
            _ENDING.add(child)
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _work(work: Callable[[], Sequence[Any]], writing: int) -> NoReturn:
    """The copy's life. It ends without cleaning up: files and buffers are its parent's."""
    try:
        with os.fdopen(writing, "wb") as file:
            results = work()
            for result in results:
                values = {name: getattr(result, name) for name in result.__struct_fields__}
                _send(file, _ENCODER.encode((type(result).__name__, values)))
            _send(file, _ENCODER.encode(len(results)))
    finally:
        os._exit(0)


def _send(file: BinaryIO, message: bytes) -> None:
    file.write(len(message).to_bytes(_LENGTH_BYTES, "little"))
    file.write(message)


def _received(file: BinaryIO, kinds: dict[str, type]) -> list[Any] | None:
    """All results; None when the copy ended before the last one."""
    results: list[Any] = []
    while len(head := file.read(_LENGTH_BYTES)) == _LENGTH_BYTES:
        message = file.read(size := int.from_bytes(head, "little"))
        if len(message) < size:
            return None
        value = _DECODER.decode(message)
        if isinstance(value, int):
            return results if value == len(results) else None
        name, values = value
        results.append(kinds[name](**values))
    return None


def _as_values(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return msgspec.msgpack.Ext(_ARRAY, value.dtype.char.encode() + value.tobytes())
    raise NotImplementedError(f"{type(value).__name__} is not sent between processes")


def _as_array(code: int, data: memoryview) -> np.ndarray[Any, Any]:
    return np.frombuffer(data[1:], dtype=np.dtype(bytes(data[:1]).decode()))


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_as_values)
_DECODER = msgspec.msgpack.Decoder(ext_hook=_as_array)
