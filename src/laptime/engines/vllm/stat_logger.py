"""vLLM's own figures of its load, through its public door for them: entry point `vllm.stat_logger_plugins`.

vLLM makes this logger wherever laptime is installed beside it; without LAPTIME_VLLM it does nothing.
"""

from __future__ import annotations

import os
import time
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase

from laptime.engines.engine_run import EngineLoad
from laptime.engines.vllm.versions import folder, installed, refusal
from laptime.engines.vllm.writer import LineWriter

EVERY_NS = 20_000_000


class LoadLogger(StatLoggerBase):
    """Writes how many requests run and wait, and how full the cache is, at most fifty times a second."""

    def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
        where = folder()
        self._writer: LineWriter[EngineLoad] | None = None
        self._next = 0
        if where is not None and refusal(installed()) is None:
            self._writer = LineWriter(where, lambda: f"load-vllm{engine_index}-{os.getpid()}", lambda items: items)

    def record(
        self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
    ) -> None:
        """Called by vLLM after each step."""
        now = time.perf_counter_ns()
        if self._writer is None or scheduler_stats is None or now < self._next:
            return
        self._next = now + EVERY_NS
        self._writer.put(
            EngineLoad(
                ns=now,
                running=scheduler_stats.num_running_reqs,
                waiting=scheduler_stats.num_waiting_reqs,
                cache_share=scheduler_stats.kv_cache_usage,
            )
        )

    def log_engine_initialized(self) -> None:
        """Called by vLLM once."""
