"""How often does P95 hold inside what was measured, over many draws of every table? One draw says little of 80 rows.

python benchmarks/estimate_draws.py --tables FOLDER [--others FOLDER] [--devices FOLDER] [--draws 8] [--rows 400]

Each draw takes other rows of the table and holds out another fifth of them, at random and (where rows repeat) by whole
configurations. Nothing is set for one table. A bound that holds with 95 % holds in fewer than 93 % of 80 rows in one
split of five.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from device_tables import device_tables
from estimate_splits import judge
from further_tables import LatencyTable, latency_tables, table_splits
from other_tables import other_tables

import laptime
from recorded import record

KINDS = ("random", "new configurations")
Tables = Callable[..., Iterator[LatencyTable]]


def main() -> None:
    """Print a row for each table and kind and write benchmarks/results/estimate_draws.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=os.environ.get("LAPTIME_TABLES"))
    parser.add_argument(
        "--others", type=Path, default=os.environ.get("LAPTIME_OTHER_TABLES"), help="the folder of other_tables.py"
    )
    parser.add_argument(
        "--devices", type=Path, default=os.environ.get("LAPTIME_DEVICE_TABLES"), help="the folder of device_tables.py"
    )
    parser.add_argument("--only", default="", help="parts of tables' names, with commas between")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--rows", type=int, default=400, help="rows that a table is drawn down to")
    asked = parser.parse_args()
    sources: list[tuple[Tables, Path | None]] = [
        (latency_tables, asked.tables),
        (other_tables, asked.others),
        (device_tables, asked.devices),
    ]
    environment = {"python": platform.python_version(), "laptime": laptime.__version__, "rows": asked.rows}
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for tables, folder in sources:
        for seed in range(asked.draws if folder is not None else 0):
            for table in tables(Path(folder), most_rows=asked.rows, seed=seed):
                chosen = any(part in table.name for part in asked.only.split(","))
                for split in table_splits(table, seed=seed) if chosen else ():
                    if split.kind in KINDS:
                        found.setdefault((table.name, split.kind), []).append(judge(split, peers=False))
            rows = [_row(table, kind, draws) for (table, kind), draws in found.items()]
            record("estimate_draws", rows, environment)  # what is there if it is stopped
    for row in rows:
        print(row, flush=True)


def _row(table: str, kind: str, draws: list[dict[str, Any]]) -> dict[str, Any]:
    """Over all held-out rows of the draws; and in how many of them the bound held in fewer than 93 %."""
    each = [one["laptime"] for one in draws]
    given = [one["test_rows"] * (1 - one["laptime"]["abstained"]) for one in draws]
    total = max(sum(given), 1.0)
    return {
        "table": table,
        "kind": kind,
        "draws": len(draws),
        "coverage": sum(n * (one["coverage"] or 0.0) for n, one in zip(given, each, strict=True)) / total,
        "width": sum(n * (one["width"] or 0.0) for n, one in zip(given, each, strict=True)) / total,
        "abstained": 1 - sum(given) / sum(one["test_rows"] for one in draws),
        "mape": sum(one["mape"] for one in each) / len(each),
        "below_93": sum((one["coverage"] or 0.0) < 0.93 for one in each),
        "rows_with_bound": round(total),
    }


if __name__ == "__main__":
    main()
