"""The door that vLLM opens by itself: entry points `vllm.general_plugins` and `vllm.stat_logger_plugins`.

Without LAPTIME_VLLM nothing is hooked and nothing is imported. vLLM calls `general` in each of its processes.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from laptime.data.files import write_whole
from laptime.engines.engine_run import EngineInfo, boot_id
from laptime.engines.vllm.versions import folder, installed, refusal, warn

_installed = False


def general() -> None:
    """Hook this process, if LAPTIME_VLLM names a folder and this version of vLLM is known. It may be called again."""
    global _installed
    where = folder()
    if where is None or _installed:
        return
    _installed = True
    found = installed()
    why = refusal(found)
    if why is not None:
        warn(why)
        return
    try:
        _install(where, found or "")
    except Exception as error:
        warn(f"nothing is measured: {error!r}")


def _install(where: Path, found: str) -> None:
    from vllm.v1.engine.output_processor import OutputProcessor
    from vllm.v1.worker.worker_base import WorkerWrapperBase

    from laptime.engines.vllm import request_marks, worker_marks

    where.mkdir(parents=True, exist_ok=True)
    offset, error = request_marks.offset_ns(time.monotonic_ns)
    info = EngineInfo(
        engine="vllm",
        version=found,
        pid=os.getpid(),
        boot_id=boot_id(),
        clock_offset_ns=offset,
        clock_error_ns=error,
        created_unix_ms=time.time() * 1e3,
    )
    write_whole(where / f"engine-{os.getpid()}.json", msgspec.json.encode(info))
    request_marks.install(where, OutputProcessor)
    worker_marks.install(where, WorkerWrapperBase)
