"""The instants of each request, taken where vLLM's front end knows them: its own, put on perf_counter.

vLLM keeps the arrival on a wall clock and the rest on a monotonic one. Each is put on perf_counter by the tightest of
several brackets: two readings of perf_counter around one of the other clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from laptime.engines.request import Instant, Outcome, RequestFlag, RequestSample
from laptime.engines.vllm.versions import warn
from laptime.engines.vllm.writer import LineWriter

OUTCOMES: dict[str, Outcome] = {"stop": "finished", "length": "finished", "repetition": "finished"}
KEPT = 100_000
"""Requests whose hand-over is remembered at most; a request that is given up never says so."""


def offset_ns(read_ns: Callable[[], int], tries: int = 16) -> tuple[int, int]:
    """What to add to a clock's reading to have it on perf_counter, and half the width of the tightest bracket."""
    best, width = 0, -1
    for _ in range(tries):
        before, other, after = time.perf_counter_ns(), read_ns(), time.perf_counter_ns()
        if width < 0 or after - before < width:
            best, width = (before + after) // 2 - other, after - before
    return best, (width + 1) // 2


class RequestRecorder:
    """Makes a RequestSample of each request that ends."""

    def __init__(self, put: Callable[[RequestSample], None]) -> None:
        self._put = put
        self._handed: dict[str, int] = {}
        self.monotonic_ns, self.monotonic_error_ns = offset_ns(time.monotonic_ns)

    def handed(self, internal_id: str) -> None:
        """The front end gives a request to the engine's core."""
        if len(self._handed) >= KEPT:
            self._handed.clear()
        self._handed[internal_id] = time.perf_counter_ns()

    def finished(self, internal_id: str, figures: Any, stats: Any) -> None:
        """A request ended. figures: vLLM's FinishedRequestStats. stats: its RequestStateStats."""
        delivered = time.perf_counter_ns()
        wall_ns, _ = offset_ns(time.time_ns, tries=3)
        arrival = Instant(round(stats.arrival_time * 1e9) + wall_ns, "engine")
        handed = self._handed.pop(internal_id, None)
        reason = str(figures.finish_reason)
        flags: list[RequestFlag] = ["preempted"] if stats.num_preemptions else []
        if reason == "abort":
            flags.append("aborted")
        self._put(
            RequestSample(
                load="engine",
                request_id=internal_id,
                server_id=figures.request_id,
                engine_id=internal_id,
                repeat=0,
                outcome=OUTCOMES.get(reason, "cut-off"),
                due=arrival,
                arrival=arrival,
                handed=None if handed is None else Instant(handed, "engine"),
                queued=self._instant(stats.queued_ts),
                scheduled=self._instant(stats.scheduled_ts),
                first_token=self._instant(stats.first_token_ts),
                last_token=self._instant(stats.last_token_ts),
                delivered=Instant(delivered, "engine"),
                done=Instant(delivered, "engine"),
                prompt_tokens=figures.num_prompt_tokens,
                cached_tokens=figures.num_cached_tokens,
                output_tokens=figures.num_generation_tokens,
                finish_reason=reason,
                flags=flags,
                engine={
                    "queued_time": figures.queued_time,
                    "prefill_time": figures.prefill_time,
                    "decode_time": figures.decode_time,
                    "inference_time": figures.inference_time,
                    "e2e_latency": figures.e2e_latency,
                    "mean_time_per_output_token": figures.mean_time_per_output_token,
                    "time_to_first_token": stats.first_token_latency,
                    "preemptions": stats.num_preemptions,
                },
                started_unix_ms=stats.arrival_time * 1e3,
            )
        )

    def _instant(self, monotonic_s: float) -> Instant | None:
        return Instant(round(monotonic_s * 1e9) + self.monotonic_ns, "engine") if monotonic_s else None


def install(folder: Path, output_processor: type) -> None:
    """Hook vLLM's OutputProcessor: its `add_request`, and what it does when a request has finished."""
    import os

    writer: LineWriter[RequestSample] = LineWriter(folder, lambda: f"requests-vllm-{os.getpid()}", lambda items: items)
    recorder = RequestRecorder(writer.put)
    add, finish = output_processor.add_request, output_processor._update_stats_from_finished  # type: ignore[attr-defined]

    def add_request(self: Any, request: Any, *rest: Any, **options: Any) -> Any:
        recorder.handed(request.request_id)
        return add(self, request, *rest, **options)

    def update_stats_from_finished(self: Any, state: Any, reason: Any, iteration: Any) -> Any:
        result = finish(self, state, reason, iteration)
        if iteration is not None:
            try:
                recorder.finished(state.request_id, iteration.finished_requests[-1], state.stats)
            except Exception as error:
                warn(f"a request is not written ({error!r})")
        return result

    output_processor.add_request = add_request  # type: ignore[attr-defined]
    output_processor._update_stats_from_finished = update_stats_from_finished  # type: ignore[attr-defined]
