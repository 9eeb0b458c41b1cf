"""A trace file as a stream of blocks. A large gzip file is unpacked one block ahead of whoever reads it."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from isal import isal_zlib

from laptime.errors import LaptimeError

BLOCK_BYTES = 3 << 17  # what is made of one still lies in the cache when it is used
_PACKED_BYTES = 1 << 20
LEAST_BYTES = 1 << 18
"""A smaller gzip file is unpacked before a second thread would have started to pay."""

BOMB_BYTES, BOMB_RATIO = 64 << 20, 300  # real traces unpack to 10 or 20 times their size
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 31  # a gzip header and checksum around the deflate stream


def blocks(path: Path) -> Generator[bytes, None, None]:
    """Yield the file's content in blocks of about BLOCK_BYTES. A gzip stream that is cut just ends.

    Raises:
        LaptimeError: when gzip data is damaged: what came out of it can't be trusted.
    """
    if not is_gzip(path):
        return stretch(path)
    unpacked = _gunzipped(path)
    return unpacked if path.stat().st_size < LEAST_BYTES else _one_ahead(unpacked)


def stretch(path: Path, start: int = 0, stop: int | None = None) -> Generator[bytes, None, None]:
    """Yield the bytes from `start` to `stop` of a file as they stand there. The system reads ahead by itself."""
    with path.open("rb") as file:
        file.seek(start)
        left = stop - start if stop is not None else path.stat().st_size
        while left > 0 and (block := file.read(min(BLOCK_BYTES, left))):
            left -= len(block)
            yield block


def _one_ahead(source: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    """What a source yields, each block made by a second thread while the one before is in use."""
    from queue import SimpleQueue  # for large files only: start-up counts
    from threading import Thread

    asked: SimpleQueue[bool] = SimpleQueue()
    made: SimpleQueue[bytes | Exception | None] = SimpleQueue()

    def make() -> None:
        try:
            while asked.get():
                made.put(next(source, None))
        except Exception as error:  # raised again where the block is used
            made.put(error)

    maker = Thread(target=make)  # concurrent.futures takes as long to import as a small file to read
    maker.start()
    asked.put(True)
    try:
        while (block := made.get()) is not None:
            if isinstance(block, Exception):
                raise block
            asked.put(True)
            yield block
    finally:
        asked.put(False)
        maker.join()


def is_gzip(path: Path) -> bool:
    """Whether the content, whatever the name, is gzip."""
    with path.open("rb") as file:
        return file.read(2) == _GZIP_MAGIC


def _gunzipped(path: Path) -> Generator[bytes, None, None]:
    with path.open("rb") as file:
        unpacker = isal_zlib.decompressobj(_GZIP_WINDOW)
        packed = file.read(_PACKED_BYTES)
        parts: list[bytes] = []
        size = total = 0
        while packed:
            try:
                part = unpacker.decompress(packed, BLOCK_BYTES)
            except isal_zlib.IsalError as error:  # type: ignore[misc]  # its stub forgets the base class
                raise LaptimeError(
                    f"{path}: the gzip data is damaged ({error}); copy the file again or capture a new trace"
                ) from None
            parts.append(part)
            size += len(part)
            total += len(part)
            if total > BOMB_BYTES and total > BOMB_RATIO * file.tell():
                raise LaptimeError(
                    f"{path}: unpacks to over {BOMB_RATIO} times its size, as no trace does; check where it is from"
                )
            if size >= BLOCK_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
            if unpacker.eof:  # gzip files may be several members, one after the other
                packed = unpacker.unused_data or file.read(_PACKED_BYTES)
                packed = packed.lstrip(b"\0") or file.read(_PACKED_BYTES)
                if packed:
                    if not packed.startswith(_GZIP_MAGIC[: len(packed)]):
                        break  # padding or rubbish behind the last member: gzip itself ignores it
                    unpacker = isal_zlib.decompressobj(_GZIP_WINDOW)
            else:
                packed = unpacker.unconsumed_tail or file.read(_PACKED_BYTES)
        if not unpacker.eof:
            parts.append(unpacker.flush())
        if any(parts):
            yield b"".join(parts)
