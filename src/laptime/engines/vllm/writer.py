"""Lines of JSON, written by a thread of their own, so that no step and no request waits for the disk."""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from laptime.data.line_file import open_for_lines
from laptime.engines.vllm.versions import warn

EVERY_S = 0.25
"""What a kill can lose."""

Item = TypeVar("Item")


class LineWriter(Generic[Item]):
    """Takes items, turns them into lines later. It starts anew in a process that was forked.

    lines: called in the thread with what waited; it returns what to encode, one value a line. It may keep items for the
    next time.
    """

    def __init__(self, folder: Path, name: Callable[[], str], lines: Callable[[list[Item]], Iterable[Any]]) -> None:
        self._folder = folder
        self._name = name
        self._lines = lines
        self._pid = -1
        self._waiting: deque[Item] = deque()
        self._lock = threading.Lock()
        self._file: Any = None
        self._stop = threading.Event()

    def put(self, item: Item) -> None:
        """Keep an item. Costs an append."""
        if self._pid != os.getpid():
            self._start()
        self._waiting.append(item)

    def _start(self) -> None:
        self._pid = os.getpid()
        self._waiting = deque()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._file = None
        threading.Thread(target=self._work, name="laptime-lines", daemon=True).start()
        atexit.register(self.flush)

    def _work(self) -> None:
        while not self._stop.wait(EVERY_S):
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        with self._lock:
            items = [self._waiting.popleft() for _ in range(len(self._waiting))]
            try:
                encoded = [msgspec.json.encode(value) for value in self._lines(items)]
                if not encoded:
                    return
                if self._file is None:
                    self._folder.mkdir(parents=True, exist_ok=True)
                    self._file = os.fdopen(open_for_lines(self._folder / f"{self._name()}.jsonl"), "ab")
                self._file.write(b"\n".join(encoded) + b"\n")
                self._file.flush()
            except Exception as error:
                self._stop.set()
                warn(f"nothing more is written to {self._folder} ({error!r})")
