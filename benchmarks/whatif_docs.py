"""Write the outcomes of whatif_truth.py into docs/trace-whatif.md and two pages of its appendix.

python benchmarks/whatif_docs.py
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from into_docs import RESULTS, ROOT, result

from laptime.trace.tolerance import REACH

PAGE = ROOT / "docs" / "trace-whatif.md"
OUTCOMES = ROOT / "docs" / "appendix" / "whatif-outcomes.md"
LATER = OUTCOMES.with_name("whatif-later-outcomes.md")
FIRST = ("first", "unseen")
RUNS = {
    "first": "whatif_truth",
    "unseen": "whatif_truth-unseen",
    "third": "whatif_truth-third",
    "fourth": "whatif_truth-fourth",
    "fifth": "whatif_truth-fifth",
    "sixth": "whatif_truth-sixth",
    "seventh": "whatif_truth-seventh",
    "eighth": "whatif_truth-eighth",
    "ninth": "whatif_truth-ninth",
}
COMMITS = {
    "third": "c64f338",
    "fourth": "916f006",
    "fifth": "8e8f02e",
    "sixth": "10dbaf5",
    "seventh": "5778c97",
    "eighth": "e926f97",
}
"""Of which laptime a run was asked, where the copy on the machine bore another commit."""

WIDE = 0.15


def main() -> None:
    """Fill each block whose run is recorded."""
    known = {name: result(run) for name, run in RUNS.items() if (RESULTS / f"{run}.json").exists()}
    fill(PAGE, {"askings": askings(known), "ranges": ranges()})
    tables = {name: table(recorded) for name, recorded in known.items()}
    fill(OUTCOMES, {name: one for name, one in tables.items() if name in FIRST})
    fill(LATER, {name: one for name, one in tables.items() if name not in FIRST})


def fill(page: Path, blocks: dict[str, str]) -> None:
    """Put each block between its markers."""
    text = page.read_text(encoding="utf-8")
    for name, block in blocks.items():
        before, begin, rest = text.partition(f"<!-- {name}:begin -->\n")
        _, end, after = rest.partition(f"<!-- {name}:end -->")
        text = before + begin + block + end + after
    page.write_text(text, encoding="utf-8")
    print(page.relative_to(ROOT))


def askings(known: dict[str, dict[str, Any]]) -> str:
    """One row per run: how many promises its outcomes kept, as they were made then."""
    lines = ["| asked | of laptime | programs | promised | inside | within ±15 % |", "|---|---|---:|---:|---:|---:|"]
    for name, recorded in known.items():
        rows = recorded["figures"]["workloads"].values()
        ends = [(row, promise(row)) for row in rows if "failed" not in row]
        made = [(row, one) for row, one in ends if one is not None]
        inside = sum(one[0] <= row["after_ms"] <= one[1] for row, one in made)
        narrow = sum(half_width(one) <= WIDE for _, one in made)
        commit = COMMITS.get(name) or (recorded["environment"].get("git_commit") or "?")[:7]
        lines.append(f"| {name} | `{commit}` | {len(ends)} | {len(made)} | {inside} | {narrow} |")
    return "\n".join(lines) + "\n"


def ranges() -> str:
    """What the ranges are made of, and each program left out in turn."""
    figures = result("whatif_ranges")["figures"]
    shift, reach, count = figures["shift"], figures["reach"], figures["programs"]
    off = {kind: f"{abs(one) * 100:.1f} % {'below' if one < 0 else 'above'}" for kind, one in shift.items()}
    times = median(figures["kernels_in_graphs"])
    lines = [
        f"Over {count} programs outcomes lay {off['graph']} the middle for graphs and {off['other']} it for others.",
        f"The reach is {reach:.3f} in logarithms; {REACH} is kept: it keeps ranges within ±15 %.",
        f"With each program left out in turn, {figures['left_out_inside']} of {count} are inside.",
        f"In the traces of graphs kernels took {times:.2f} times as long as eager (median).",
    ]
    return "\n".join(lines) + "\n"


def table(recorded: dict[str, Any]) -> str:
    """One row per program, and the command."""
    where, rows = recorded["environment"], recorded["figures"]["workloads"]
    lines = ["| program | remedy | before | promised | measured | inside |", "|---|---|---:|---:|---:|---|"]
    inside = 0
    for name, row in rows.items():
        if "failed" in row:
            lines.append(f"| {name} | | | | failed | |")
            continue
        ends = promise(row)
        held = ends is not None and ends[0] <= row["after_ms"] <= ends[1]
        inside += held
        middle = "" if ends is None else f" (±{half_width(ends) * 100:.0f} %)"
        said = "none" if ends is None else f"{ends[0]:.3g} to {ends[1]:.3g} ms{middle}"
        word = "yes" if held else "no"
        times = f"{row['before_ms']:.3g} ms | {said} | {row['after_ms']:.3g} ms"
        lines.append(f"| {row['what']} | {remedy(row)} | {times} | {word} |")
    head = f"`{recorded['command']}`: {where['gpu'] or where['device']}, "
    head += f"torch {where['torch']}. {inside} of {len(rows)} inside.\n\n"
    if note := recorded["figures"].get("note"):
        head += f"{note}\n\n"
    return head + "\n".join(lines) + "\n"


def remedy(row: dict[str, Any]) -> str:
    """The remedy's name in the what-if: the first run asked for `compile` under another name."""
    return "compile" if row["remedy"] == "compiled" else str(row["remedy"])


def promise(row: dict[str, Any]) -> list[float] | None:
    """The range with `--tpot`, in ms; of a run that ended before it wrote its file, as it was printed."""
    if "all_promises_ms" not in row:
        return list(row["by_wall_clock"]["promised_ms"])
    ends: list[float] | None = row["all_promises_ms"].get(remedy(row))
    return ends


def half_width(ends: list[float]) -> float:
    """How far the ends are from the middle, as a share of it."""
    return (ends[1] - ends[0]) / (ends[1] + ends[0])


if __name__ == "__main__":
    main()
