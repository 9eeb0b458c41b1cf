"""How often a sweep's summary reports an interaction of two knobs where there is none, with noisy and slow visits.

    python benchmarks/sweep_interactions.py [--simulations 200]

The sweeps are those of visited_sweep.py without interactions. Slow: one visit in ten takes 20 % longer. A false alarm
is a sweep with any interaction of the total. Beside it how often one is reported where each two knobs change each
other's ratio by 15 % (as a standard deviation). Writes its table into docs/appendix/sweep-intervals.md.
"""

from __future__ import annotations

import argparse
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from laptime.sweeps.summary import summarise_sweep
from visited_sweep import Case, simulated

PAGE = Path(__file__).parents[1] / "docs" / "appendix" / "sweep-intervals.md"
SLOW, SHARE = 1.2, 0.1
SHAPES = ((18, 2, 1), (18, 2, 2), (18, 4, 4), (54, 1, 1), (54, 2, 2))
VISITS = ((0.01, False), (0.03, False), (0.01, True))


def reported(case: Case, slow: bool, draw: np.random.Generator) -> bool:
    """Whether an interaction of the total is reported in one simulated sweep."""
    frame, _ = simulated(draw, case)
    if slow:
        visit = (pl.col("config_id") != pl.col("config_id").shift(1)).fill_null(value=True).cum_sum()
        frame = frame.with_columns(visit=visit)
        hit = draw.random(int(frame["visit"].max() or 0) + 1) < SHARE  # type: ignore[arg-type]
        factor = np.where(hit[frame["visit"].to_numpy()], SLOW, 1.0)
        frame = frame.with_columns(total_ms=pl.col("total_ms") * pl.Series(factor)).drop("visit")
    return any(one.stage == "total" for one in summarise_sweep(frame).interactions)


def into_docs(rows: list[dict[str, Any]], simulations: int) -> None:
    """Put the table between the markers of the page."""
    lines = [
        "| settings | rounds × repeats | visits | reported where there is none | where there are some |",
        "|---" * 5 + "|",
    ]
    for row in rows:
        visits = f"{row['visit_sd']:.0%}{', one in ten 20 % slower' if row['slow'] else ''}"
        cells = (
            row["settings"],
            f"{row['rounds']} × {row['repeats']}",
            visits,
            f"{row['false']:.1%}",
            f"{row['true']:.0%}",
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    text = PAGE.read_text(encoding="utf-8")
    block = (
        "\n".join([*lines, "", f"{simulations} sweeps in each cell (python benchmarks/sweep_interactions.py)."]) + "\n"
    )
    marked = re.compile(r"(<!-- interactions:begin -->\n).*?(<!-- interactions:end -->)", re.DOTALL)
    PAGE.write_text(marked.sub(lambda found: found[1] + block + found[2], text), encoding="utf-8")


def main() -> None:
    """Simulate, print a row for each case, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=200)
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for settings, rounds, repeats in SHAPES:
        for visit_sd, slow in VISITS:
            row: dict[str, Any] = {
                "settings": settings, "rounds": rounds, "repeats": repeats, "visit_sd": visit_sd, "slow": slow
            }  # fmt: skip
            for name, there in (("false", False), ("true", True)):
                draw = np.random.default_rng(7)
                case = Case(settings, rounds, repeats, visit_sd, there)
                row[name] = sum(reported(case, slow, draw) for _ in range(asked.simulations)) / asked.simulations
            rows.append(row)
            print(row, flush=True)
    from recorded import record

    environment = {"python": platform.python_version(), "numpy": np.__version__, "platform": platform.platform()}
    print(record("sweep_interactions", {"simulations": asked.simulations, "cases": rows}, environment).name)
    into_docs(rows, asked.simulations)


if __name__ == "__main__":
    main()
