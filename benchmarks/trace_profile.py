"""Where does the time of `laptime trace FILE --json` go? Stage by stage, with the memory taken up to each one's end.

    LAPTIME_TRACES=FOLDER python benchmarks/trace_profile.py

The files are those of trace_speed.py. The stages are timed in one process, so that they add up;
`total_two_processes` is the same with a large file read by two, as the command does it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trace_speed import kineto_files, nsys_file

from recorded import as_installed, record

STAGES = Path(__file__).with_name("trace_stages.py")


def whole(path: Path, processes: int) -> tuple[float, dict[str, Any]]:
    """One analysis in a fresh process: how long that took as a whole, and its stages."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, STAGES, path, str(processes)],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # as the command sets it
    )
    return time.perf_counter() - begin, json.loads(done.stdout)


def profile(path: Path, rounds: int) -> dict[str, Any]:
    """Medians over rounds of each stage, and of the whole in one process and in two."""
    path.read_bytes()
    one, two = [], []
    for _ in range(rounds):
        one.append(whole(path, 1))
        two.append(whole(path, 2))
    rest = [wall - sum(run["seconds"].values()) for wall, run in one]
    seconds = {"start: interpreter": statistics.median(rest)}
    seconds |= {stage: statistics.median(run["seconds"][stage] for _, run in one) for stage in one[0][1]["seconds"]}
    return {
        "file_mb": round(path.stat().st_size / 1_000_000, 1),
        "seconds": {stage: round(value, 4) for stage, value in seconds.items()},
        "peak_mb": {stage: round(mb, 1) for stage, mb in one[0][1]["peak_mb"].items()},
        "read_one_process": round(statistics.median(run["read"] for _, run in one), 3),
        "read_two_processes": round(statistics.median(run["read"] for _, run in two), 3),
        "total_one_process": round(statistics.median(wall for wall, _ in one), 3),
        "total_two_processes": round(statistics.median(wall for wall, _ in two), 3),
    }


def main() -> None:
    """Make the files, profile each, write benchmarks/results/trace_profile.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, default=os.environ.get("LAPTIME_TRACES"), help="folder of real traces")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    as_installed()
    traces = Path(options.traces) if options.traces else None
    profiles = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made_of, files = kineto_files(traces, folder, ("kineto_55mb", "kineto_300mb"))
        for name, path in {**files, "nsys_million": nsys_file(traces, folder)}.items():
            figures = profiles[name] = profile(path, options.rounds)
            print(name, f"{figures['file_mb']} MB", flush=True)
            for stage, seconds in figures["seconds"].items():
                print(f"  {stage:20} {seconds:7.3f} s {figures['peak_mb'].get(stage, '')!s:>7}")
            for total in ("read_one_process", "read_two_processes", "total_one_process", "total_two_processes"):
                print(f"  {total:20} {figures[total]:7.3f} s", flush=True)
    environment = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        **{name: version(name) for name in ("msgspec", "numpy", "isal")},
        "made_of": made_of,
    }
    print(record("trace_profile", profiles, environment))


if __name__ == "__main__":
    main()
