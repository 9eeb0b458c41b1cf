"""What-if against truth: each program's promised step from its trace, then the remedy's step measured. Needs a GPU.

    python benchmarks/whatif_truth.py                        # all workloads, within --seconds
    python benchmarks/whatif_truth.py --again FOLDER         # today's promises for the traces kept in a folder (no GPU)

Of each workload (whatif_workloads.py) the step as it is and the step with the remedy are timed in turns, without and
then with the profiler. The trace of the first is all that laptime sees. It is asked with `--tpot`, the step's time
without the profiler (`by_wall_clock`), and with the trace alone, judged by the wall clock (`trace_alone`) and by the
step in the trace taken after the remedy (`by_trace`: the profiler slows graphs too). Results go to
benchmarks/results/whatif_truth.json (or $OUT), the traces beside it into a .zip.
Two GPUs would be needed for training over ranks: that is not measured here.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from laptime.errors import LaptimeError
from laptime.trace.analysis import read_trace
from laptime.trace.result import SURE, TraceAnalysis
from recorded import record

KEPT = ("schemaVersion", "deviceProperties", "displayTimeUnit", "baseTimeNanoseconds", "traceEvents")
ROUNDS = 7
SETS = ("first", "unseen", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
REST_S = 0.4
"""Between rounds, where workers load ahead: they work on after a round, and would slow the next one of the step without
them. The first seven sets had no such rest."""

WIDE = 0.15
"""A range is narrow enough when its ends are at most this share from its middle."""


def main() -> None:
    """Measure what fits into the time, or judge the kept traces again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*")
    parser.add_argument("--set", choices=SETS, default="first", help="which workloads")
    parser.add_argument("--seconds", type=float, default=600.0, help="begin no workload after this")
    parser.add_argument("--again", type=Path, help="a folder with a run's .json and its traces in a .zip")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.again:
        judge_again(given.again)
        return
    workloads = the_set(given.set)
    names = given.workloads or list(workloads)
    if given.child:
        run_all({name: workloads[name] for name in names}, given.child, given.seconds)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a time limit of another's: what was measured is written
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            each_measured(names, given.set, folder, given.seconds)
        finally:
            written(names, given.set, folder)


def each_measured(names: list[str], set_name: str, folder: Path, seconds: float) -> None:
    """Measure until the time is over, in processes: a program that breaks down costs the others nothing."""
    began, left = time.monotonic(), list(names)
    while left and time.monotonic() - began < seconds:
        rest = seconds - (time.monotonic() - began)
        command = [sys.executable, __file__, *left, "--set", set_name]
        command += ["--child", str(folder), "--seconds", f"{rest:.0f}"]
        try:
            subprocess.run(command, timeout=rest + 90, check=False)
        except subprocess.TimeoutExpired:
            print("a workload took too long", flush=True)
        done = [name for name in left if (folder / f"{name}.json").exists()]
        if len(done) < len(left) and not (folder / "late").exists():  # it broke down: without that one again
            broken = next(name for name in left if name not in done)
            (folder / f"{broken}.json").write_text(json.dumps({"failed": "the process ended"}))
        elif len(done) < len(left):
            break
        left = [name for name in left if not (folder / f"{name}.json").exists()]


def written(names: list[str], set_name: str, folder: Path) -> None:
    """Write the result and the traces of what was measured, and print them."""
    rows = {name: json.loads(file.read_text()) for name in names if (file := folder / f"{name}.json").exists()}
    figures = {"summary": summary(rows), "workloads": rows, "not_run": [name for name in names if name not in rows]}
    name_of = "whatif_truth" if set_name == "first" else f"whatif_truth-{set_name}"
    target = record(name_of, figures, json.loads(environment()))
    with zipfile.ZipFile(target.parent / f"{name_of}-traces.zip", "w") as archive:
        for path in sorted(folder.glob("*.json.gz")):
            archive.write(path, path.name)
    print(table(rows))
    print(json.dumps(figures["summary"]), target)


def environment() -> str:
    """The machine's description."""
    import msgspec
    import torch

    from laptime.measure.environment import describe

    return msgspec.json.encode(describe(torch.device("cuda" if torch.cuda.is_available() else "cpu"))).decode()


def the_set(name: str) -> dict[str, Any]:
    """The workloads of that name."""
    module = importlib.import_module("whatif_workloads" if name == "first" else f"whatif_{name}")
    workloads: dict[str, Any] = module.WORKLOADS
    return workloads


def run_all(workloads: dict[str, Any], folder: Path, seconds: float) -> None:
    """Each workload in turn; a sticky error of the device ends the process, and the parent begins anew."""
    import torch

    began = time.monotonic()
    for name, workload in workloads.items():
        if time.monotonic() - began > seconds:
            (folder / "late").touch()
            return
        started = time.monotonic()
        try:
            torch.manual_seed(0)
            measured = measure(workload, folder, name)
            row = {**measured, **judged(measured, folder / f"{name}-before.json.gz", folder / f"{name}-after.json.gz")}
        except Exception as error:  # one that fails costs the others nothing
            row = {"failed": f"{type(error).__name__}: {error}"[:400]}
        row["seconds"] = round(time.monotonic() - started, 1)
        (folder / f"{name}.json").write_text(json.dumps(row))
        print(table({name: row}, head=False), f" ({row['seconds']} s)", flush=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # raises when the device is lost
            torch.cuda.empty_cache()


def measure(workload: Any, folder: Path, name: str) -> dict[str, Any]:
    """The step's time before and after in ms, in turns, and a trace of each."""
    before, make_after = workload.build()
    ready(before)
    after = make_after()
    ready(after)
    counts = [min(max(int(150 / (timed(step, 2) + 1e-3)), 3), 200) for step in (before, after)]
    times: tuple[list[float], list[float]] = ([], [])
    rest = REST_S if workload.remedy == "workers" else 0.0
    for _ in range(ROUNDS):
        for step, count, own in zip((before, after), counts, times, strict=True):
            own.append(timed(step, count))
            time.sleep(rest)
    for when, step in (("before", before), ("after", after)):
        capture(step, folder / f"{name}-{when}.json.gz")
    return {
        "what": workload.what,
        "remedy": workload.remedy,
        "before_ms": statistics.median(times[0]),
        "after_ms": statistics.median(times[1]),
        "before_rounds_ms": times[0],
        "after_rounds_ms": times[1],
        "steps_a_round": counts,
    }


def ready(step: Callable[[], Any]) -> None:
    """Warm up."""
    for _ in range(4):
        step()
    wait()


def wait() -> None:
    """Until the device is done."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(step: Callable[[], Any], count: int) -> float:
    """Milliseconds a step, of `count` in a row."""
    step()
    wait()
    began = time.perf_counter()
    for _ in range(count):
        step()
    wait()
    return (time.perf_counter() - began) * 1e3 / count


def capture(step: Callable[[], Any], target: Path) -> None:
    """Six steps as torch's profiler sees them, without the machine's particulars."""
    import torch
    from torch.profiler import ProfilerActivity, profile, schedule

    for _ in range(3):
        step()
    wait()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "trace.json"
        with profile(
            activities=activities,
            schedule=schedule(wait=0, warmup=2, active=6, repeat=1),
            on_trace_ready=lambda made: made.export_chrome_trace(str(file)),
        ) as profiler:
            for _ in range(8):
                step()
                profiler.step()
            wait()
        whole = json.loads(file.read_text())
    kept = json.dumps({key: whole[key] for key in KEPT if key in whole})
    target.write_bytes(gzip.compress(kept.encode(), 6, mtime=0))


def judged(measured: dict[str, Any], before: Path, after: Path) -> dict[str, Any]:
    """What laptime promises from the trace before, and whether the step after is inside."""
    alone = read_trace(before)
    untraced: TraceAnalysis | None = None
    try:
        untraced = read_trace(before, tpot_ms=measured["before_ms"])
    except LaptimeError as error:  # it takes the time for one of another configuration, and promises nothing
        print(error)
    traced_after = read_trace(after).steps
    after_ms = None if traced_after.wall_ns is None else traced_after.wall_ns / 1e6
    return {
        "headline": alone.headline,
        "advice": alone.advice,
        "steps": {"method": alone.steps.method, "confidence": alone.steps.confidence, "uneven": alone.steps.uneven},
        "traced_before_ms": None if alone.steps.wall_ns is None else alone.steps.wall_ns / 1e6,
        "traced_busy_ms": None if alone.steps.busy_ns is None else alone.steps.busy_ns / 1e6,
        "traced_kernels": alone.steps.kernels_per_step,
        "traced_after_ms": after_ms,
        "kernels_after": traced_after.kernels_per_step,
        "by_wall_clock": outcome(untraced, measured["remedy"], measured["after_ms"]),
        "trace_alone": outcome(alone, measured["remedy"], measured["after_ms"]),
        "by_trace": outcome(alone, measured["remedy"], after_ms),
        "all_promises_ms": {
            row.remedy: [row.step_ns_low / 1e6, row.step_ns_high / 1e6] for row in (untraced or alone).whatif
        },
    }


def outcome(analysis: TraceAnalysis | None, remedy: str, measured_ms: float | None) -> dict[str, Any]:
    """The promised range in ms, whether the measured step lies inside, and how far from the middle its ends are."""
    row = None if analysis is None else next((row for row in analysis.whatif if row.remedy == remedy), None)
    if analysis is None or row is None or measured_ms is None:
        return {"promised_ms": None, "measured_ms": measured_ms, "inside": None, "half_width": None}
    low, high = row.step_ns_low / 1e6, row.step_ns_high / 1e6
    return {
        "promised_ms": [round(low, 4), round(high, 4)],
        "measured_ms": measured_ms,
        "inside": low <= measured_ms <= high,
        "half_width": round((high - low) / (high + low), 4),
        "hedged": analysis.steps.confidence < SURE or analysis.steps.uneven,
        "floor_ms": None if row.floor_ns is None else row.floor_ns / 1e6,
    }


def summary(rows: dict[str, Any]) -> dict[str, Any]:
    """Of all outcomes how many are inside, and how many ranges are narrow."""
    result = {}
    for way in ("by_wall_clock", "trace_alone", "by_trace"):
        known = [row[way] for row in rows.values() if way in row]
        promised = [one for one in known if one["promised_ms"]]
        result[way] = {
            "workloads": len(known),
            "promised": len(promised),
            "inside": sum(one["inside"] for one in promised),
            "within_15_percent": sum(one["half_width"] <= WIDE for one in promised),
        }
    result["failed"] = [name for name, row in rows.items() if "failed" in row]
    return result


def table(rows: dict[str, Any], *, head: bool = True) -> str:
    """One line a workload: before, promised, measured, inside; by the wall clock and by the trace."""
    lines = [
        "workload       remedy    | wall before  promised            after   | traced before  promised            after"
    ]
    lines = lines if head else []
    for name, row in rows.items():
        if "failed" in row:
            lines.append(f"{name:14} failed: {row['failed']}")
            continue
        parts = [f"{name:14} {row['remedy']:9}"]
        for before, way in ((row["before_ms"], "by_wall_clock"), (row["traced_before_ms"], "by_trace")):
            one = row[way]
            low, high = one["promised_ms"] or (float("nan"),) * 2
            middle = "-" if one["half_width"] is None else f"±{one['half_width'] * 100:.0f} %"
            after = float("nan") if one["measured_ms"] is None else one["measured_ms"]
            word = {None: "-", True: "inside", False: "OUTSIDE"}[one["inside"]]
            parts.append(f"{before or 0:8.3f} {low:8.3f}..{high:8.3f} {middle:6} {after:8.3f} {word:7}")
        lines.append(" | ".join(parts))
    return "\n".join(lines)


def judge_again(folder: Path) -> None:
    """Promises of today's laptime for the traces of an earlier run; the run's own result stays as it is."""
    (result,), (traces,) = folder.glob("*.json"), folder.glob("*.zip")
    rows = json.loads(result.read_text())["figures"]["workloads"]
    again = {}
    with tempfile.TemporaryDirectory() as temporary:
        with zipfile.ZipFile(traces) as archive:
            archive.extractall(temporary)
        for name, row in rows.items():
            files = [Path(temporary) / f"{name}-{when}.json.gz" for when in ("before", "after")]
            again[name] = row if "failed" in row else {**row, **judged(row, *files)}
    print(table(again))
    print(json.dumps(summary(again)))


if __name__ == "__main__":
    main()
