"""Does the command answer at once? `laptime --help`, `--version` and `import laptime`, whole processes, on any machine.

python benchmarks/startup.py
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from laptime.data.stats import median_interval, ratio_of_medians
from recorded import as_installed, record

ROUNDS = 20
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import numpy": [sys.executable, "-c", "import numpy"],
    "laptime --version": [sys.executable, "-m", "laptime", "--version"],
    "laptime --help": [sys.executable, "-m", "laptime", "--help"],
    "import laptime": [sys.executable, "-c", "import laptime"],
    "import torch": [sys.executable, "-c", "import torch"],
}


def main() -> None:
    """Time the commands in turns and write benchmarks/results/startup.json."""
    as_installed()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            begin = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - begin)
    probe = "import laptime, sys; print('torch' in sys.modules)"
    imported = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout.strip()
    figures = {
        "seconds": {name: median_interval(values) for name, values in times.items()},
        "help_to_torch_import": ratio_of_medians(times["laptime --help"], times["import torch"], paired=True),
        "importing_laptime_imports_torch": imported == "True",
    }
    for name, values in times.items():
        print(f"{name:16} {median_interval(values).value:.3f} s")
    print(f"import laptime imports torch: {imported}")
    environment = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": len(os.sched_getaffinity(0)),
    }
    print(record("startup", figures, environment).relative_to(Path.cwd()))


if __name__ == "__main__":
    main()
