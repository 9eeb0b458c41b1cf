"""Write the outcomes of whatif_two_gpus.py into a page of the appendix.

python benchmarks/whatif_ranks_docs.py
"""

from __future__ import annotations

from typing import Any

from into_docs import ROOT, result
from whatif_docs import fill, half_width, promise

PAGE = ROOT / "docs" / "appendix" / "whatif-ranks-outcomes.md"


def main() -> None:
    """Fill the block of the recorded run."""
    fill(PAGE, {"first": table(result("whatif_two_gpus"))})


def table(recorded: dict[str, Any]) -> str:
    """One row for each rank of each program, and the command."""
    where, rows = recorded["environment"], recorded["figures"]["programs"]
    lines = [
        "| program | rank | remedy | before | GPU busy, traced ms | promised | measured | inside |",
        "|---|---:|---|---:|---:|---:|---:|---|",
    ]
    inside = made = 0
    for name, row in rows.items():
        ends, after = promise(row), row["after_ms"]
        held = ends is not None and ends[0] <= after <= ends[1]
        inside, made = inside + held, made + (ends is not None)
        said = "none" if ends is None else f"{ends[0]:.3g} to {ends[1]:.3g} ms (±{half_width(ends) * 100:.0f} %)"
        busy = f"{row['traced_busy_ms']:.3g} of {row['traced_before_ms']:.3g}"
        word = "-" if ends is None else "yes" if held else "no"
        what = row["what"] if name.endswith(" 0") else ""
        lines.append(
            f"| {what} | {row['rank']} | {row['remedy']} | {row['before_ms']:.3g} ms | {busy} | {said} | "
            f"{after:.3g} ms | {word} |"
        )
    head = f"`{recorded['command']}`: {where['gpu_count']} {where['gpu']} of one host, torch {where['torch']}, laptime "
    head += f"`{where['git_commit'][:7]}`. {made} of {len(rows)} promised, {inside} of these inside.\n\n"
    return head + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
