"""Write the outcomes of whatif_truth.py into docs/trace-whatif.md, between its markers.

python benchmarks/whatif_docs.py
"""

from __future__ import annotations

from typing import Any

from into_docs import ROOT, result

PAGE = ROOT / "docs" / "trace-whatif.md"
RUNS = {"first": "whatif_truth", "unseen": "whatif_truth-unseen"}
ABOVE = {"first": "", "unseen": "**Programs that were not seen before** were then measured once:\n\n"}


def main() -> None:
    """Fill each block whose run is recorded."""
    page = PAGE.read_text(encoding="utf-8")
    for name, recorded in RUNS.items():
        if not (ROOT / "benchmarks" / "results" / f"{recorded}.json").exists():
            continue
        before, begin, rest = page.partition(f"<!-- {name}:begin -->\n")
        _, end, after = rest.partition(f"<!-- {name}:end -->")
        page = before + begin + ABOVE[name] + table(result(recorded)) + end + after
    PAGE.write_text(page, encoding="utf-8")
    print(PAGE.relative_to(ROOT))


def table(recorded: dict[str, Any]) -> str:
    """One row per program, and the command."""
    where, rows = recorded["environment"], recorded["figures"]["workloads"]
    lines = ["| program | remedy | before | promised | measured | inside |", "|---|---|---:|---:|---:|---|"]
    inside = 0
    for row in rows.values():
        if "failed" in row:
            lines.append(f"| {row.get('what', '?')} | | | | failed | |")
            continue
        ends = promise(row)
        held = ends is not None and ends[0] <= row["after_ms"] <= ends[1]
        inside += held
        middle = "" if ends is None else f" (±{(ends[1] - ends[0]) / (ends[1] + ends[0]) * 100:.0f} %)"
        said = "none" if ends is None else f"{ends[0]:.3g} to {ends[1]:.3g} ms{middle}"
        word = "yes" if held else "no"
        times = f"{row['before_ms']:.3g} ms | {said} | {row['after_ms']:.3g} ms"
        lines.append(f"| {row['what']} | {remedy(row)} | {times} | {word} |")
    head = f"`{recorded['command']}`: {where['gpu'] or where['device']}, "
    head += f"torch {where['torch']}. {inside} of {len(rows)} inside.\n\n"
    return head + "\n".join(lines) + "\n"


def remedy(row: dict[str, Any]) -> str:
    """The remedy's name in the what-if: the first run asked for `compile` under another name."""
    return "compile" if row["remedy"] == "compiled" else str(row["remedy"])


def promise(row: dict[str, Any]) -> list[float] | None:
    """The range with `--tpot`, in ms."""
    ends: list[float] | None = row["all_promises_ms"].get(remedy(row))
    return ends


if __name__ == "__main__":
    main()
