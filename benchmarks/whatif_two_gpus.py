"""What-if against truth on two GPUs: what one rank's trace promises, then both ranks with the remedy. Needs two GPUs.

    python benchmarks/whatif_two_gpus.py                     # all programs, within --seconds
    python benchmarks/whatif_two_gpus.py --again FOLDER      # today's promises for the traces kept in a folder (no GPU)
    python benchmarks/whatif_two_gpus.py --device cpu        # a rehearsal on gloo: no trace is judged

Each program (two_gpu_programs.py, two_gpu_second.py) runs in a pair of processes of its own, as it is and with the
remedy on both ranks, in turns, timed without barriers. Each rank keeps a trace of both. laptime sees one rank's trace
alone, and is judged for each rank as in whatif_truth.py; then it sees both ranks' traces (`together`: laptime trace
FOLDER --whatif). Results go to benchmarks/results/whatif_two_gpus.json (or $OUT), the traces beside it into a .zip.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from whatif_truth import ROUNDS, WIDE, capture, environment, judged, ready, summary, table, timed, wait

from laptime.errors import LaptimeError
from laptime.trace.rank_whatif import read_ranks_what_if
from recorded import record

SETS = {"first": "two_gpu_programs", "second": "two_gpu_second"}
RANKS, LONGEST_S, A_ROUND_MS = 2, 60.0, 120.0
SAFE = {
    "NCCL_NVLS_ENABLE": "0",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
    "NVSHMEM_DISABLE_NVLS": "1",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "0",
    "TORCH_NCCL_ENABLE_MONITORING": "0",
    "OMP_NUM_THREADS": "2",
}
"""NVLink multicast stays off, and captures aren't looked into."""


def main() -> None:
    """Measure what fits into the time, or judge the kept traces again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="*")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--seconds", type=float, default=600.0, help="begin no program after this")
    parser.add_argument("--again", type=Path, help="a folder with a run's .json and its traces in a .zip")
    parser.add_argument("--keep", metavar="NAME", help="write what --again finds as whatif_two_gpus-NAME.json")
    parser.add_argument("--set", choices=SETS, default="first", help="which programs")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.again:
        judge_again(given.again, given.keep)
        return
    if given.child:
        run_rank(given.programs[0], given, given.child)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a time limit of another's: what was measured is written
    names = given.programs or list(the_set(given.set))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        began = time.monotonic()
        try:
            for name in names:
                if time.monotonic() - began > given.seconds:
                    break
                measured_pair(name, given, folder)
        finally:
            written(names, given, folder)


def the_set(name: str) -> dict[str, Any]:
    """The programs of that name."""
    programs: dict[str, Any] = importlib.import_module(SETS[name]).PROGRAMS
    return programs


def stem(name: str, rank: int) -> str:
    """How a rank's files of a program begin."""
    return f"{name.replace(' ', '-')}-rank{rank}"


def measured_pair(name: str, given: argparse.Namespace, folder: Path) -> None:
    """Run one program in two processes; one that hangs or breaks down costs the others nothing."""
    environ = {**os.environ, **SAFE, **({"CUDA_VISIBLE_DEVICES": ""} if given.device == "cpu" else {})}
    command = [sys.executable, __file__, name, "--set", given.set, "--device", given.device]
    command += ["--child", str(folder), "--rank"]
    began = time.monotonic()
    pair = [subprocess.Popen([*command, str(rank)], env=environ, start_new_session=True) for rank in range(RANKS)]
    try:
        while any(one.poll() is None for one in pair) and time.monotonic() - began < LONGEST_S:
            if any(one.poll() not in (None, 0) for one in pair):
                break
            time.sleep(0.1)
    finally:
        for one in pair:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)  # its own workers, too
        for one in pair:
            one.wait()
    spent = time.monotonic() - began
    for rank in range(RANKS):
        target = folder / f"{stem(name, rank)}.json"
        row = json.loads(target.read_text()) if target.exists() else {"failed": f"no result after {spent:.0f} s"}
        target.write_text(json.dumps(row | {"seconds": round(spent, 1)}))
        if "failed" in row or "by_wall_clock" in row:
            print(table({f"{name} {rank}": row}, head=False), f" ({spent:.1f} s)", flush=True)
        else:
            print(
                f"{name} {rank}: {row['before_ms']:.3f} ms, then {row['after_ms']:.3f} ms ({spent:.1f} s)", flush=True
            )


def judged_together(rows: list[dict[str, Any]], traces: list[Path]) -> dict[str, Any]:
    """What both ranks' traces promise, with the time without the profiler and alone, beside the measured step.

    Args:
        rows: both ranks' measured times.
        traces: both ranks' traces before the remedy.
    """
    before, after = (statistics.mean(row[f"{when}_ms"] for row in rows) for when in ("before", "after"))
    judged: dict[str, Any] = {"before_ms": before, "after_ms": after}
    for way, tpot_ms in (("by_wall_clock", before), ("trace_alone", None)):
        try:
            analysis = read_ranks_what_if(*traces, tpot_ms=tpot_ms)
        except LaptimeError as error:
            judged[way] = {"promised_ms": None, "refused": str(error), "inside": None, "half_width": None}
            continue
        row = next((row for row in analysis.whatif if row.remedy == rows[0]["remedy"]), None)
        ends = None if row is None else [row.step_ns_low / 1e6, row.step_ns_high / 1e6]
        step = analysis.step
        judged[way] = {
            "promised_ms": ends,
            "inside": None if ends is None else ends[0] <= after <= ends[1],
            "half_width": None if ends is None else (ends[1] - ends[0]) / (ends[1] + ends[0]),
            "floor_ms": None if row is None or row.floor_ns is None else row.floor_ns / 1e6,
            "step_ms": None if step is None or step.wall_ns is None else step.wall_ns / 1e6,
            "replay_ms": None if step is None or step.replay_ns is None else step.replay_ns / 1e6,
            "refused": "" if step is None else step.refused,
            "headline": analysis.headline,
        }
    return judged


def all_together(rows: dict[str, Any], folder: Path) -> dict[str, Any]:
    """For each program what both ranks' traces promise; without those that failed or whose traces are not here."""
    result = {}
    for name in dict.fromkeys(name.rsplit(" ", 1)[0] for name in rows):
        own = [rows.get(f"{name} {rank}", {}) for rank in range(RANKS)]
        traces = [folder / f"{stem(name, rank)}-before.json.gz" for rank in range(RANKS)]
        if all("after_ms" in row for row in own) and all(trace.exists() for trace in traces):
            result[name] = judged_together(own, traces)
    return result


def together_table(rows: dict[str, Any], both: dict[str, Any]) -> str:
    """One line a program: what either rank's trace promised, what both did, and what was measured."""
    lines = ["program        remedy   |   before | rank 0 alone         | rank 1 alone         | both ranks' traces"]
    for name, one in both.items():
        own = [rows[f"{name} {rank}"] for rank in range(RANKS)]
        parts = [f"{name:14} {own[0]['remedy']:8} | {one['before_ms']:8.3f}"]
        for judged_ in (*(row.get("by_wall_clock", {}) for row in own), one["by_wall_clock"]):
            ends = judged_.get("promised_ms")
            parts.append(f"{'none':20}" if ends is None else f"{ends[0]:8.3f}..{ends[1]:8.3f}  ")
        word = {None: "-", True: "inside", False: "OUTSIDE"}[one["by_wall_clock"]["inside"]]
        lines.append(f"{' | '.join(parts)} | {one['after_ms']:8.3f} {word}")
    return "\n".join(lines)


def together_summary(both: dict[str, Any]) -> dict[str, Any]:
    """Of all programs how many were promised something by both ranks' traces, and how many ended inside."""
    result = {}
    for way in ("by_wall_clock", "trace_alone"):
        made = [one[way] for one in both.values() if one[way]["promised_ms"]]
        result[way] = {
            "programs": len(both),
            "promised": len(made),
            "inside": sum(one["inside"] for one in made),
            "within_15_percent": sum(one["half_width"] <= WIDE for one in made),
        }
    return result


def run_rank(name: str, given: argparse.Namespace, folder: Path) -> None:
    """One rank of one program: measure, keep the traces, judge them."""
    rank, device = given.rank, given.device
    import torch
    import torch.distributed as dist

    target = folder / f"{stem(name, rank)}.json"
    try:
        if device == "cuda":
            torch.cuda.set_device(rank)
        else:
            torch.set_num_threads(1)
        store = (folder / f"{name.replace(' ', '-')}.store").as_uri()
        dist.init_process_group("gloo" if device == "cpu" else "nccl", init_method=store, rank=rank, world_size=RANKS)
        row = measure(the_set(given.set)[name], folder / stem(name, rank), rank)
        write(target, row)
        if device == "cuda":
            traces = (folder / f"{stem(name, rank)}-{when}.json.gz" for when in ("before", "after"))
            row |= judged(row, *traces)
            write(target, row)
    except Exception as error:  # what was measured stays
        row = json.loads(target.read_text()) if target.exists() else {}
        write(target, row | {"failed": f"{type(error).__name__}: {error}"[:400]})
        time.sleep(3)  # the other may have its own reason to write
        os._exit(1)
    (folder / f"{stem(name, rank)}.done").touch()
    other, until = folder / f"{stem(name, 1 - rank)}.done", time.monotonic() + LONGEST_S
    while not other.exists() and time.monotonic() < until:  # it may need this process until then
        time.sleep(0.05)
    sys.stdout.flush()
    os._exit(0)  # captured collectives make an orderly end hang


def write(target: Path, row: dict[str, Any]) -> None:
    """Write a row whole or not at all."""
    beside = target.with_suffix(".part")
    beside.write_text(json.dumps(row))
    beside.replace(target)


def measure(program: Any, target: Path, rank: int) -> dict[str, Any]:
    """The step's time before and after in ms, in turns, and a trace of each; the ranks run as many steps."""
    import torch
    import torch.distributed as dist
    from two_gpu_programs import DEVICE

    torch.manual_seed(0)
    before, make_after = program.build()
    ready(before)
    after = make_after()
    ready(after)
    agreed = torch.tensor(
        [min(max(int(A_ROUND_MS / (timed(step, 3) + 1e-3)), 3), 150) for step in (before, after)], device=DEVICE
    )
    dist.broadcast(agreed, 0)
    counts = agreed.tolist()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for step, count, own in zip((before, after), counts, times, strict=True):
            own.append(timed(step, count))
    for when, step in (("before", before), ("after", after)):
        capture(step, target.with_name(f"{target.name}-{when}.json.gz"))
    wait()
    return {
        "what": program.what,
        "remedy": program.remedy,
        "rank": rank,
        "before_ms": statistics.median(times[0]),
        "after_ms": statistics.median(times[1]),
        "before_rounds_ms": times[0],
        "after_rounds_ms": times[1],
        "steps_a_round": counts,
    }


def written(names: list[str], given: argparse.Namespace, folder: Path) -> None:
    """Write the result and the traces of what was measured, and print them."""
    rows = {
        f"{name} {rank}": json.loads(file.read_text())
        for name in names
        for rank in range(RANKS)
        if (file := folder / f"{stem(name, rank)}.json").exists()
    }
    if given.device == "cpu":
        print("not run:", [name for name in names if f"{name} 0" not in rows])
        print("failed:", {name: row["failed"] for name, row in rows.items() if "failed" in row})
        return
    not_run = [name for name in names if f"{name} 0" not in rows]
    both = all_together(rows, folder)
    figures = {
        "summary": summary(rows),
        "together_summary": together_summary(both),
        "programs": rows,
        "together": both,
        "not_run": not_run,
    }
    name_of = "whatif_two_gpus" if given.set == "first" else f"whatif_two_gpus-{given.set}"
    target = record(name_of, figures, json.loads(environment()))
    with zipfile.ZipFile(target.parent / f"{name_of}-traces.zip", "w") as archive:
        for path in sorted(folder.glob("*.json.gz")):
            archive.write(path, path.name)
    print(table({name: row for name, row in rows.items() if "failed" in row or "by_wall_clock" in row}))
    print(together_table(rows, both))
    print(json.dumps(figures["summary"]), json.dumps(figures["together_summary"]), target)


def judge_again(folder: Path, kept_as: str | None) -> None:
    """Promises of today's laptime for the traces of an earlier run; the run's own result stays as it is."""
    (result,), (traces,) = folder.glob("*.json"), folder.glob("*.zip")
    earlier = json.loads(result.read_text())
    rows = earlier["figures"]["programs"]
    again = {}
    with tempfile.TemporaryDirectory() as temporary:
        with zipfile.ZipFile(traces) as archive:
            archive.extractall(temporary)
        for name, row in rows.items():
            program, rank = name.rsplit(" ", 1)
            files = [Path(temporary) / f"{stem(program, int(rank))}-{when}.json.gz" for when in ("before", "after")]
            again[name] = {**row, **judged(row, *files)} if all(file.exists() for file in files) else row
        both = all_together(rows, Path(temporary))
    print(table(again))
    print(together_table(again, both))
    print(json.dumps(summary(again)), json.dumps(together_summary(both)))
    if kept_as:
        figures = {"summary": summary(again), "together_summary": together_summary(both)}
        record(f"whatif_two_gpus-{kept_as}", {**figures, "programs": again, "together": both}, earlier["environment"])


if __name__ == "__main__":
    main()
