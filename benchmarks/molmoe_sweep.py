"""The sweep that the estimator learns from: MolmoE-1B's shapes on one GPU, 108 configurations of 8 samples each.

    python benchmarks/molmoe_sweep.py                # on the GPU: writes the run folder, or resumes it
    laptime audit benchmarks/sweeps/molmoe-1b        # must say: clean
    laptime export benchmarks/sweeps/molmoe-1b --format parquet --out benchmarks/data/molmoe-1b-h200.parquet

Where $OUT is set the run folder is made there, for a machine that returns files from it.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from laptime.sweeps.config_reading import read_sweep_config
from laptime.sweeps.run import Execution, Reporting, sweep

HERE = Path(__file__).parent


def main() -> None:
    """Run what is missing, telling every half minute how far it is."""
    folder = Path(os.environ.get("OUT") or HERE / "sweeps") / "molmoe-1b"
    sweep_config = read_sweep_config(HERE / "sweeps" / "molmoe-1b.yaml")
    said = [0.0]

    def show(standing: object) -> None:
        if time.monotonic() - said[0] > 30:
            said[0] = time.monotonic()
            print(standing, flush=True)

    resume = (folder / "run.json").exists()
    outcome = sweep(sweep_config, folder, Execution(resume=resume), Reporting(show=show), argv=sys.argv)
    print(outcome)


if __name__ == "__main__":
    main()
