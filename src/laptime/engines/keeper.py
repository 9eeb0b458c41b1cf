"""What keeps finished requests: it writes them to the run folder while others are under way."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from types import TracebackType

import msgspec

from laptime.data.line_file import LineFile
from laptime.data.record import Scalar
from laptime.data.run_folder import RunFolder
from laptime.data.stats import quantile
from laptime.engines.request import ClientWakes, RequestSample, record_of
from laptime.errors import LaptimeError

WORKER = "client"


class Keeper:
    """Puts finished requests on the disk from a thread of its own, so that no request waits for the disk."""

    def __init__(self, folder: RunFolder | None) -> None:
        self._folder = folder
        self._lines: LineFile | None = None
        self._wakes: LineFile | None = None
        self._waiting: queue.SimpleQueue[tuple[RequestSample, dict[str, Scalar]] | None] = queue.SimpleQueue()
        self._failed: LaptimeError | None = None
        self._thread = threading.Thread(target=self._work, name="laptime-keeper", daemon=True)

    def __enter__(self) -> Keeper:
        if self._folder is not None:
            self._folder.begin()
            self._lines = LineFile(self._folder.path / f"requests-{WORKER}.jsonl")
            self._wakes = LineFile(self._folder.path / f"wakes-{WORKER}.jsonl")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.put(None)
        self._thread.join()
        for lines in (self._lines, self._wakes):
            if lines is not None:
                lines.close()
        if self._folder is not None:
            self._folder.close()
        if self._failed is not None and error is None:
            raise self._failed

    def put(self, request: RequestSample, config: dict[str, Scalar]) -> None:
        """Keep a finished request. Raises LaptimeError when an earlier one couldn't be written."""
        if self._failed is not None:
            raise self._failed
        if self._folder is not None:
            self._waiting.put((request, config))

    def put_sample(self, request: RequestSample, config: dict[str, Scalar]) -> None:
        """Write the sample of a request that is on the disk already."""
        assert self._folder is not None
        self._folder.append(record_of(request, config, WORKER))

    def put_wakes(self, load: str, lateness_ms: Sequence[float]) -> None:
        """Write how late the client woke during a load that is over. Raises LaptimeError when that fails."""
        if self._wakes is None or not lateness_ms:
            return
        p95, p99 = quantile(lateness_ms, 0.95), quantile(lateness_ms, 0.99)
        self._wakes.append(msgspec.json.encode(ClientWakes(load=load, wakes=len(lateness_ms), p95_ms=p95, p99_ms=p99)))

    def _work(self) -> None:
        ended = False
        while not ended:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            ended = batch[-1] is None
            try:
                self._write([one for one in batch if one is not None])
            except LaptimeError as error:
                self._failed = error
                return

    def _write(self, batch: Sequence[tuple[RequestSample, dict[str, Scalar]]]) -> None:
        if not batch or self._lines is None or self._folder is None:
            return
        self._lines.append(b"\n".join(msgspec.json.encode(request) for request, _ in batch))
        self._folder.append_all([record_of(request, config, WORKER) for request, config in batch])
