"""The operator table beside AMD's TraceLens: how long both take, and whether they say the same.

    LAPTIME_TRACES=FOLDER TRACELENS=E/bin/TraceLens_generate_perf_report_pytorch python benchmarks/trace_operators.py

`laptime` is the whole command (trace FILE --json), with everything else that it says of a trace. TraceLens writes its
tables as CSV. TraceLens has no package on the index (the name `tracelens` there belongs to another project): install it
from a checkout of github.com/AMD-AGI/TraceLens into an environment of its own. Runs take turns.

Agreement: the device time of each operator's own launches; operations and bytes of each operator with a shape.
A difference counts from 0.1 % on, and from 1 µs.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trace_speed import figures, in_turns

from recorded import record

FILES = (
    "TraceLens@171dd747__traces__h100__Qwen",
    "TraceLens@2026__mi300__google_owlv2-large",
    "TraceLens@2026__xdit_flux_aiter",
    "TraceLens@2026__ddp_resnet18",
    "TraceLens@2026__mi300__resnet_act_checkpoint_ddp",
)
MB = 1 << 20


def rows(path: Path) -> Iterator[dict[str, str]]:
    """A table's rows; none where the peer wrote no such table."""
    if path.exists():
        with path.open(newline="") as file:
            yield from csv.DictReader(file)


def near(one: float, other: float, least: float = 0.0) -> bool:
    """Whether two figures are the same within 0.1 %, or within `least`."""
    return abs(one - other) <= max(0.001 * max(abs(one), abs(other)), least)


def agreement(analysis: dict, folder: Path) -> dict[str, object]:
    """What of the peer's tables laptime's analysis confirms, and what it doesn't."""
    ours = {
        row["name"]: row["own_ns"] / 1e6 for row in analysis["launched_by"]["launchers"] if row["kind"] == "operator"
    }
    times = {row["name"]: float(row["total_direct_kernel_time_ms"]) for row in rows(folder / "ops_summary.csv")}
    known = {name: ms for name, ms in times.items() if name in ours and ms > 0.001}
    differ = {name: [ours[name], ms] for name, ms in known.items() if not near(ours[name], ms, 0.001)}
    work: dict[tuple[str, str], tuple[float, float | None]] = {}
    for row in analysis["launched_by"]["work"]:
        if row["flop"]:
            work[row["operator"], row["shape"].rpartition(" (")[0]] = (
                row["flop"] / 1e9,
                row["bytes"] and row["bytes"] / MB,
            )
    flop = moved = compared = 0
    unlike = []
    for row in rows(folder / "unified_perf_summary.csv"):
        key = (row["name"], shape(row["Input Dims"]))
        if key not in work or not row["GFLOPS"]:
            continue
        compared += 1
        own = work[key]
        same = near(own[0], float(row["GFLOPS"]))
        flop += same
        alike = bool(row["Data Moved (MB)"]) and own[1] is not None and near(own[1], float(row["Data Moved (MB)"]))
        moved += alike
        if not (same and alike):
            unlike.append([*key, *own, float(row["GFLOPS"]), row["Data Moved (MB)"]])
    return {
        "operators": len(times),
        "operator_times_compared": len(known),
        "operator_times_alike": len(known) - len(differ),
        "operator_times_unlike": dict(list(differ.items())[:8]),
        "shapes_compared": compared,
        "flop_alike": flop,
        "bytes_alike": moved,
        "unlike": unlike[:12],
    }


def shape(dims: str) -> str:
    """The peer's dimensions as laptime writes them: tensors only, the first four."""
    try:
        sizes = ast.literal_eval(dims)
    except (ValueError, SyntaxError):
        return "?"
    tensors = ["×".join(map(str, one)) for one in sizes if one and all(isinstance(size, int) for size in one)]
    return ", ".join(tensors[:4]) + (", …" if len(tensors) > 4 else "")


def main() -> None:
    """Run both in turns over the files, write benchmarks/results/trace_operators.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, default=os.environ.get("LAPTIME_TRACES"), help="folder of real traces")
    parser.add_argument("--peer", default=os.environ.get("TRACELENS"), help="the peer's command")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for start in FILES:
            real = next(path for path in sorted(Path(options.traces).iterdir()) if path.name.startswith(start))
            path = folder / f"{len(results)}.json.gz"  # the peer takes no @ in a name
            path.write_bytes(real.read_bytes())
            print(real.name, flush=True)
            tables = folder / f"tables{len(results)}"
            commands = {"laptime": [sys.executable, "-m", "laptime", "trace", "FILE", "--json"]}
            peer = [options.peer, "--profile_json_path", "FILE", "--output_csvs_dir", str(tables)]
            taken = in_turns(commands | {"tracelens": peer}, path, options.rounds)
            said = subprocess.run([*commands["laptime"][:-2], str(path), "--json"], capture_output=True, check=True)
            results[start] = figures(taken, path, ["tracelens"]) | agreement(json.loads(said.stdout), tables)
    environment = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "tracelens": "github.com/AMD-AGI/TraceLens at 171dd747",
    }
    print(record("trace_operators", results, environment))


if __name__ == "__main__":
    main()
