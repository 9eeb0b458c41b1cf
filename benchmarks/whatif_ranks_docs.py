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
    fill(PAGE, {"first": table(result("whatif_two_gpus")), "again": together(result("whatif_two_gpus-again"))})


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


def together(recorded: dict[str, Any]) -> str:
    """One row for each program: what each rank's trace promised, and what both did."""
    rows = recorded["figures"]["programs"]
    lines = [
        "| program | remedy | before | rank 0 alone | rank 1 alone | both, `--tpot` | both | replay | measured |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, one in recorded["figures"]["together"].items():
        own = [rows[f"{name} {rank}"] for rank in (0, 1)]
        known, alone = one["by_wall_clock"], one["trace_alone"]
        said = [ends(each["promised_ms"]) for each in (*(row["by_wall_clock"] for row in own), known, alone)]
        replay = "" if alone["replay_ms"] is None else f"{alone['replay_ms']:.3g} of {alone['step_ms']:.3g}"
        lines.append(
            f"| {own[0]['what']} | {own[0]['remedy']} | {one['before_ms']:.3g} ms | {' | '.join(said)} | {replay} | "
            f"{one['after_ms']:.3g} ms |"
        )
    counts = recorded["figures"]["together_summary"]
    alone = recorded["figures"]["summary"]["by_wall_clock"]
    head = f"One rank's trace: {alone['promised']} of {alone['workloads']} ranks promised, {alone['inside']} inside. "
    head += "Both ranks' traces: " + "; ".join(
        f"{words}, {counts[way]['promised']} of {counts[way]['programs']} promised, {counts[way]['inside']} inside, "
        f"{counts[way]['within_15_percent']} within ±15 %"
        for way, words in (("by_wall_clock", "with `--tpot`"), ("trace_alone", "without"))
    )
    return head + ".\n\n" + "\n".join(lines) + "\n"


def ends(promised: list[float] | None) -> str:
    """A range in ms."""
    return "none" if promised is None else f"{promised[0]:.3g} to {promised[1]:.3g}"


if __name__ == "__main__":
    main()
