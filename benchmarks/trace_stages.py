"""One analysis with a clock on each stage, in this process: what trace_profile.py starts.

    python benchmarks/trace_stages.py FILE PROCESSES

Imports little, so that the time before the first line is the interpreter's.
"""

from __future__ import annotations

import sys
import time

STAGES = {
    "read.kineto_stream": {
        "_next": "read: file",
        "cut": "read: split",
        "listed": "read: split",
        "decode_plain": "read: decode",
        "plain_columns": "read: columns",
        "decode": "read: decode",
        "columns_of": "read: columns",
    },
    "read.kineto": {"joined": "read: join, sort", "claim": "read: join, sort"},
    "read.nsight": {"read_rows": "read: SQLite", "claim": "read: join, sort"},
    "read.tables": {"activities": "read: join, sort", "calls": "read: join, sort", "ranges": "read: join, sort"},
    "analysis": {
        "bounded": "integrity",
        "check": "integrity",
        "_incomplete": "integrity",
        "device_gaps": "gaps",
        "_device": "gaps",
        "_with_busy_times": "gaps",
        "launches": "launches",
        "gap_causes": "causes",
        "find_steps": "steps",
        "step_tokens": "steps",
        "traced_passes": "passes",
        "rank": "kernels, API",
        "api_calls": "kernels, API",
        "step_changes": "step's replay",
        "drawing": "what-if, drawing",
        "step_costs": "what-if, drawing",
        "what_if": "what-if, drawing",
        "_launched_by": "launched by",
        "device_memory": "memory",
    },
}


BETWEEN_LOOKS_S = 0.005


def peak_mb() -> float:
    """What this process has taken at most."""
    with open("/proc/self/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / 1_000_000


def measure(path: str, processes: int) -> dict[str, object]:
    """Seconds by stage; and the most memory that was taken until the last end of each."""
    begin = time.perf_counter()
    import numpy  # noqa: F401

    seconds = {"start: numpy": time.perf_counter() - begin}
    begin = time.perf_counter()
    from laptime.trace import analysis

    seconds["start: laptime"] = time.perf_counter() - begin
    peak = {"start: laptime": peak_mb()}
    if processes == 1:
        clock_stages(seconds, peak)

    def timed_part(name: str, started: float, before: float) -> float:
        spent = time.perf_counter() - started
        seconds[f"{name}: other"] = spent - (sum(seconds.values()) - before)
        return spent

    begin, before = time.perf_counter(), sum(seconds.values())
    timeline = analysis.read_timeline(path)
    read = timed_part("read", begin, before)
    begin, before = time.perf_counter(), sum(seconds.values())
    answer = analysis.analyse(timeline)
    timed_part("analysis", begin, before)
    begin = time.perf_counter()
    answer.to_json()
    seconds["output"] = time.perf_counter() - begin
    return {"seconds": seconds, "peak_mb": peak, "read": read}


def clock_stages(seconds: dict[str, float], peak: dict[str, float]) -> None:
    """Put a clock around each stage's functions, and keep the readers to one process."""
    from importlib import import_module

    looked, known = 0.0, 0.0  # a look at the memory takes as long as a small stage

    def clocked(function, stage):  # type: ignore[no-untyped-def]
        def wrapper(*args, **kwargs):  # type: ignore[no-untyped-def]
            nonlocal looked, known
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                end = time.perf_counter()
                seconds[stage] = seconds.get(stage, 0.0) + end - begin
                if end - looked > BETWEEN_LOOKS_S:
                    looked, known = end, peak_mb()
                peak[stage] = known

        return wrapper

    for name, stages in STAGES.items():
        module = import_module(f"laptime.trace.{name}")
        for function, stage in stages.items():
            setattr(module, function, clocked(getattr(module, function), stage))
    for name in ("read.kineto_stream", "read.nsight_tables"):
        import_module(f"laptime.trace.{name}").available = lambda: False


if __name__ == "__main__":
    measured = measure(sys.argv[1], int(sys.argv[2]))
    import json

    print(json.dumps(measured))
