"""What comparing two large runs costs: time and peak memory, beside loading them whole.

    python benchmarks/big_compare.py --samples 200000

Two folders of the same sweep, written as benchmarks/million_samples.py writes them. Each task runs in a process of its
own, three times each in turn; the figures are medians.
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
from pathlib import Path

from benchmarks.million_samples import write_run
from benchmarks.recorded import record

TASKS = {
    "compare": "from laptime.comparisons import compare_two_runs; "
    "from laptime.comparisons.compared_run import load_compared as load; "
    "answer = compare_two_runs(load(a), load(b)).verdict",
    "peer: compare of whole samples": "from laptime.comparisons import compare_two_runs; "
    "from laptime.data.run_folder import load_run as load; "
    "answer = compare_two_runs(load(a), load(b)).verdict",
}
PROGRAM = """
import json, resource, sys
a, b = sys.argv[1:]
{task}
own = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([own.ru_utime + own.ru_stime, own.ru_maxrss / 1024, answer]))
"""


def environment() -> dict[str, object]:
    """What the figures belong to. Processor time is compared: other work on the machine counts little in it."""
    return {"python": platform.python_version(), "platform": platform.platform(), "processors": os.cpu_count(),
            "load_average": os.getloadavg()}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folders = [str(Path(name) / side) for side in "ab"]
        for folder in folders:
            write_run(Path(folder), asked.samples)
        figures: dict[str, list[tuple[float, float, str]]] = {task: [] for task in TASKS}
        for _ in range(asked.rounds):
            for task, program in TASKS.items():
                words = [sys.executable, "-c", PROGRAM.format(task=program), *folders]
                figures[task].append(tuple(json.loads(subprocess.check_output(words))))
    rows = {
        task: {
            "processor_s": round(statistics.median(one[0] for one in runs), 2),
            "peak_mib": round(statistics.median(one[1] for one in runs)),
            "verdict": runs[0][2],
        }
        for task, runs in figures.items()
    }
    for task, row in rows.items():
        print(f"{task:32} {row['processor_s']:8.2f} s of processor {row['peak_mib']:8} MiB   {row['verdict']}")
    record("big_compare", {"samples_of_each_run": asked.samples, "rounds": asked.rounds, "tasks": rows}, environment())


if __name__ == "__main__":
    main()
