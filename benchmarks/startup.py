"""Does the command answer at once? `laptime --help`, `--version` and `import laptime`, whole processes, on any machine.

    python benchmarks/startup.py [--rounds 20]

Processor time is that of the process and what it starts: other work on the machine changes it little.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

from laptime.data.stats import median_interval, ratio_of_medians
from recorded import as_installed, record

TRACE = Path(__file__).parents[1] / "tests" / "trace" / "data" / "decode-graph.json.gz"
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # as laptime trace sets it
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import numpy": [sys.executable, "-c", "import numpy"],
    "laptime --version": [sys.executable, "-m", "laptime", "--version"],
    "laptime trace --json": [sys.executable, "-m", "laptime", "trace", str(TRACE), "--json"],
    "laptime --help": [sys.executable, "-m", "laptime", "--help"],
    "import laptime": [sys.executable, "-c", "import laptime"],
    "import torch": [sys.executable, "-c", "import torch"],
}


def processor_s() -> float:
    """What processes that were waited for have taken of the processors."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Time the commands in turns and write benchmarks/results/startup.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    as_installed()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    spent: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(options.rounds):
        for name, command in COMMANDS.items():
            before, begin = processor_s(), time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
            times[name].append(time.perf_counter() - begin)
            spent[name].append(processor_s() - before)
    probe = "import laptime, sys; print('torch' in sys.modules)"
    imported = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout.strip()
    figures = {
        "seconds": {name: median_interval(values) for name, values in times.items()},
        "processor_seconds": {name: median_interval(values) for name, values in spent.items()},
        "help_to_torch_import": ratio_of_medians(times["laptime --help"], times["import torch"], paired=True),
        "importing_laptime_imports_torch": imported == "True",
    }
    for name, values in times.items():
        print(f"{name:22} {median_interval(values).value:.3f} s, processor {median_interval(spent[name]).value:.3f} s")
    print(f"import laptime imports torch: {imported}")
    environment = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
    }
    print(record("startup", figures, environment).relative_to(Path.cwd()))


if __name__ == "__main__":
    main()
