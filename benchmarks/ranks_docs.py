"""Write the seven cases of ranks_truth.py into docs/trace-ranks.md: what events measured beside what laptime said.

python benchmarks/ranks_docs.py
"""

from __future__ import annotations

from typing import Any

from into_docs import ROOT, machine, result
from whatif_docs import fill

PAGE = ROOT / "docs" / "trace-ranks.md"
TIMES = ("compute_ms", "exposed_ms", "waited_ms")


def main() -> None:
    """Fill the marked block."""
    fill(PAGE, {"truth": table(result("ranks_truth"))})


def table(recorded: dict[str, Any]) -> str:
    """One row per case, both ranks in a cell, and the command."""
    lines = ["| case | compute | exposed | waiting | who is waited for |", "|---|---|---|---|---|"]
    for name, case in recorded["figures"]["cases"].items():
        cells = [f"{both(case['said'][time])} ({both(case['truth'][time])})" for time in TIMES]
        said = waited_for(case["said"])
        lines.append(f"| {name} | {' | '.join(cells)} | {said} |")
    steps = recorded["figures"]["steps"]
    return (
        "\n".join(lines)
        + f"\n\nIn ms over {steps} steps; `{recorded['command']}`, two {machine(recorded)}; read again with `--kept`.\n"
    )


def waited_for(said: dict[str, Any]) -> str:
    """The rank that is named, or what is said instead."""
    named = said["straggler"]
    return f"rank {named}" if named is not None else str(said["headline"]).partition(". ")[2]


def both(ranks_ms: list[float]) -> str:
    """Rank 0's time and rank 1's."""
    return ", ".join(f"{ms:,.0f}" if ms >= 1000 else f"{ms:.3g}" for ms in ranks_ms)


if __name__ == "__main__":
    main()
