"""Lines of samples-*.jsonl into columns, fast: in blocks that fit a processor's cache, and by two processes.

A large run is read by this process and a second one, started for it: decoding makes Python objects, which two threads
of one process can't do at once. The second sends its columns back as MessagePack. If it can't be started, or dies, all
is read here.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from laptime.data.columns import BulkySample, SampleColumns, SlimSample
from laptime.data.record import SCHEMA_VERSION, Sample
from laptime.errors import LaptimeError

BLOCK_BYTES = 1 << 20
"""Lines are decoded in blocks of this size: their objects stay in the processor's cache until they are columns."""

WORTH_SHARING = 64 << 20
"""Fewer bytes are read here alone: the second process takes a fifth of a second to start."""

Decoder = msgspec.json.Decoder[SlimSample] | msgspec.json.Decoder[Sample]


class Part(NamedTuple):
    """Whole lines of one file: the bytes from `begin` to `end`."""

    file: str
    begin: int
    end: int


def whole_parts(files: Sequence[Path]) -> list[Part]:
    """Each file up to its last newline: a half-written line after it is left out."""
    return [Part(str(file), 0, _line_end(file, file.stat().st_size)) for file in files]


def halves(parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """The parts for this process and for a second one, which gets none unless it is worth it."""
    size = sum(part.end - part.begin for part in parts)
    if size < WORTH_SHARING or len(_processors()) < 2 or not sys.executable:
        return list(parts), []
    mine: list[Part] = []
    others: list[Part] = []
    left = size // 2
    for part in parts:
        cut = part.begin if left <= 0 else min(part.end, part.begin + left)
        if part.begin < cut < part.end:
            cut = _line_end(Path(part.file), cut)
        left -= part.end - part.begin
        mine += [part._replace(end=cut)] if cut > part.begin else []
        others += [part._replace(begin=cut)] if cut < part.end else []
    return mine, others


def read_parts(parts: Sequence[Part], columns: SampleColumns, *, bulky: bool) -> None:
    """Append these lines to the columns. Raises LaptimeError for a damaged one, by its file and number."""
    decoder = msgspec.json.Decoder(BulkySample if bulky else SlimSample)
    with _collector_off():
        for part in parts:
            for block in _blocks(part):
                try:
                    samples = decoder.decode_lines(block)
                    if max([s.schema_version for s in samples], default=0) > SCHEMA_VERSION:
                        raise OverflowError("lines of a newer schema")
                    columns.add(samples)
                except (msgspec.DecodeError, UnicodeDecodeError, OverflowError) as error:  # noqa: PERF203 - a block at a time
                    raise damage([part], decoder) or LaptimeError(f"{part.file}: {error}; upgrade laptime") from error


@contextmanager
def reading_elsewhere(parts: Sequence[Part], *, bulky: bool) -> Iterator[Callable[[], bytes | None]]:
    """Have a second process read these parts. Yields a function that waits for its columns; None when it failed."""
    if not parts:
        yield lambda: None
        return
    job = msgspec.json.encode((bulky, [tuple(part) for part in parts])).decode()
    # Its modules come from where this process has its own, never from the folder it happens to be started in.
    program = f"import sys; sys.path[:] = {sys.path!r}; from laptime.data.sample_lines import main; main()"
    try:
        process = subprocess.Popen(  # noqa: S603 - this interpreter, this module
            [sys.executable, "-c", program, job], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
    except OSError:
        yield lambda: None
        return

    output = process.stdout
    assert output is not None

    def received() -> bytes | None:
        packed = output.read()
        return packed if process.wait() == 0 else None

    try:
        yield received
    finally:
        process.kill()
        output.close()
        process.wait()


def main() -> None:
    """The second process's whole life."""
    bulky, parts = msgspec.json.decode(sys.argv[1], type=tuple[bool, list[tuple[str, int, int]]])
    columns = SampleColumns(bulky=bulky)
    read_parts([Part(*part) for part in parts], columns, bulky=bulky)
    sys.stdout.buffer.write(columns.packed())


def damage(parts: Sequence[Part], decoder: Decoder) -> LaptimeError | None:
    """What to say of files that can't be read: the first bad line, by its number. None when there is none."""
    for part in parts:
        number = 0
        for block in _blocks(part._replace(begin=0)):
            for line in bytes(block).split(b"\n")[:-1]:
                number += 1
                if (said := _complaint(line, decoder)) is not None:
                    return LaptimeError(f"{part.file}, line {number}: {said}")
    return None


def _complaint(line: bytes, decoder: Decoder) -> str | None:
    if not line.strip():
        return None
    try:
        sample = decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"not a record of laptime ({error}); remove that line"
    version = getattr(sample, "schema_version", 0)
    if version > SCHEMA_VERSION:
        return f"schema version {version}, this laptime reads up to {SCHEMA_VERSION}; upgrade laptime"
    values = [getattr(sample, name) for name in sample.__struct_fields__]
    if any(isinstance(value, int) and abs(value) >= 2**63 for value in values):
        return "a whole number beyond 64 bits; remove that line"
    return None


def _blocks(part: Part) -> Iterator[memoryview]:
    """The part in blocks of whole lines, each good until the next is asked for."""
    buffer, held, left = bytearray(BLOCK_BYTES), 0, part.end - part.begin
    with Path(part.file).open("rb") as opened:
        opened.seek(part.begin)
        while read := opened.readinto(memoryview(buffer)[held : held + left]):
            left -= read
            filled = held + read
            end = buffer.rfind(b"\n", 0, filled) + 1
            if end:
                yield memoryview(buffer)[:end]
            held = filled - end
            if held == len(buffer):
                buffer = buffer + bytes(len(buffer))  # one line longer than a block
            elif end:
                buffer[:held] = buffer[end:filled]


def _line_end(file: Path, place: int) -> int:
    """Where the last line that ends at or before this place ends; 0 when none does."""
    with file.open("rb") as opened:
        while place > 0:
            begin = max(0, place - BLOCK_BYTES)
            opened.seek(begin)
            newline = opened.read(place - begin).rfind(b"\n")
            if newline >= 0:
                return begin + newline + 1
            place = begin
    return 0


def _processors() -> set[int]:
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # not Linux
        return set(range(os.cpu_count() or 1))


@contextmanager
def _collector_off() -> Iterator[None]:
    """No garbage collection meanwhile: millions of short-lived objects in no cycle would be searched for some."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
