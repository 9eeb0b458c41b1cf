"""stdout and stderr while a verb runs: text from outside acts on no terminal, and any encoding can show it.

Names, values, paths and messages may hold anything. Whatever is written is made printable, but for the colours of
laptime's own reports, which `console` writes. What an encoding lacks (Latin-1, ASCII) is written in plain letters.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from laptime.data.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

PLAIN = {
    "\u202f": " ", "\xa0": " ", "×": "x", "−": "-", "–": "-", "—": "-", "…": "...", "µ": "u", "±": "+/-", "≤": "<=",
    "≥": ">=", "·": ".", "→": "->", "²": "^2", "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "#", "▍": "-", "▎": "-",
    "▏": "-", "─": "-", "━": "=", "│": "|", "\ufffd": "?", "ß": "ss", "“": '"', "”": '"', "’": "'", "°": " deg",
}  # fmt: skip
"""What laptime writes and old encodings lack. Other characters become \\uXXXX."""


def _in_plain_letters(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    letters = error.object[error.start : error.end]
    plain = (PLAIN.get(one) or one.encode("ascii", "backslashreplace").decode() for one in letters)
    return "".join(plain), error.end


codecs.register_error("laptime.plain", _in_plain_letters)


class PrintableStream:
    """A text stream that writes only what can be shown. `styled` is the same without the guard against escapes."""

    def __init__(self, stream: TextIO, *, guarded: bool = True) -> None:
        self._stream, self._guarded = stream, guarded

    def write(self, text: str) -> int:
        """Write the text, made printable. A progress bar of a library may go back to the start of its line."""
        if self._guarded:
            back = "\r" if text.startswith("\r") else ""
            text = back + printable(text.removeprefix("\r").replace("\r\n", "\n")).replace("\r", "\ufffd")
        encoding = self._stream.encoding or "utf-8"
        if encoding.lower().replace("-", "") != "utf8":
            text = text.encode(encoding, "laptime.plain").decode(encoding)
        return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    @property
    def styled(self) -> PrintableStream:
        """The stream for text that is printable already, with colours."""
        return PrintableStream(self._stream, guarded=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Messages(io.FileIO):
    """stderr as bytes: a message that can't be written (a full disk, a pipe that nobody reads) is lost."""

    def write(self, message: Any) -> int:
        with suppress(OSError):
            super().write(message)
        return len(message)


class _ClosedOutput(io.RawIOBase):
    """stdout where it was closed: what is printed reaches nobody, which is an error as on a full disk."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1

    def write(self, answer: Any) -> int:
        raise OSError(errno.EBADF, "is closed, so that the answer can't be printed", "stdout")


def make_streams_whole() -> None:
    """Make stdout and stderr what every verb can print on, and give closed streams the null device.

    They write what their encoding lacks in plain letters. What stderr can't take is lost; what stdout can't take is an
    OSError. With a stream closed (`>&-`), a file that a verb opens would get its number, and what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper) and number:
            stream.reconfigure(errors="laptime.plain")  # for what no verb writes: help, and Python itself
        elif stream is None and number == 0:
            sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        elif stream is None and number == 1:
            sys.stdout = io.TextIOWrapper(io.BufferedWriter(_ClosedOutput()), encoding="utf-8")
    if sys.stderr is None or (type(sys.stderr) is io.TextIOWrapper and sys.stderr.fileno() == 2):
        encoding = getattr(sys.stderr, "encoding", "utf-8")
        messages = io.BufferedWriter(_Messages(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(messages, encoding, "laptime.plain", line_buffering=True)


@contextmanager
def printable_streams() -> Iterator[None]:
    """Within the block, sys.stdout and sys.stderr write only what can be shown."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (PrintableStream(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def console(*, stderr: bool = False) -> Console:
    """A console of rich for laptime's own reports: it may write colours, and no text in it can."""
    from laptime.report.kit.terminal import ReportConsole

    stream = sys.stderr if stderr else sys.stdout
    return ReportConsole(file=getattr(stream, "styled", stream), stderr=stderr)
