"""The sweep that the estimator learns from: MolmoE-1B's shapes on one GPU, 108 configurations of 8 samples each.

python benchmarks/molmoe_sweep.py                # on the GPU: writes the run folder, or resumes it
laptime audit benchmarks/sweeps/molmoe-1b        # must find nothing severe
laptime export benchmarks/sweeps/molmoe-1b --format parquet --to benchmarks/data/molmoe-1b-h200.parquet
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from laptime.sweeps.ledger import Standing
from laptime.sweeps.run import Execution, Reporting, sweep

SWEEPS = Path(__file__).parent / "sweeps"
LINE_EVERY_S = 30.0


def main() -> None:
    """Measure what the folder lacks, and print every half minute how far the sweep is."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=SWEEPS / "molmoe-1b")
    folder: Path = parser.parse_args().out
    last = 0.0

    def show(standing: Standing) -> None:
        nonlocal last
        if time.monotonic() - last > LINE_EVERY_S:
            last = time.monotonic()
            print(standing, flush=True)

    resume = (folder / "run.json").exists()
    print(sweep(SWEEPS / "molmoe-1b.yaml", folder, Execution(resume=resume), Reporting(show=show), sys.argv))


if __name__ == "__main__":
    main()
