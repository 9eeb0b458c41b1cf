"""Write the figures of estimate_tables.py into docs/appendix/estimate.md, between its markers.

python benchmarks/estimate_tables_docs.py       (after estimate_tables.py)
"""

from __future__ import annotations

from typing import Any

from into_docs import ROOT, result

BEGIN, END = "<!-- tables:begin -->\n", "<!-- tables:end -->"


def main() -> None:
    """Fill the marked block."""
    file = ROOT / "docs" / "appendix" / "estimate.md"
    before, _, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    file.write_text(before + BEGIN + block(result("estimate_tables")["figures"]) + END + after, encoding="utf-8")
    print(file.relative_to(ROOT))


def block(figures: dict[str, Any]) -> str:
    """A row for each table and way of holding out, and a line for each way."""
    lines = [
        "| table | held out | splits | MAPE | forest | P95 covers | bound / actual | quantile boosting covers |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in figures["rows"]:
        held = f"{row['kind']}: {row['split']}".replace("_", " ")
        mape = percent(row["mape"]) + (f" (spread {ends(row['mape'])})" if row["splits"] > 1 else "")
        bound = ("none", "none")
        if "coverage" in row:
            bound = (f"{row['coverage']['mean']:.1f} %", f"{row['width']['mean']:.3f}")
        boosted = f"{row['boosted_coverage']['mean']:.1f} %"
        cells = (row["task"], held, row["splits"], mape, percent(row["forest_mape"]), *bound, boosted)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines.append("")
    for kind, values in figures["by_kind"].items():
        given = f"P95 covers {values['coverage']['mean']:.1f} %, bound / actual {values['width']['mean']:.3f}"
        lines.append(
            f"- {kind}, all tables: {given}; no bound for {100 * values['abstained']['mean']:.0f} % of the rows"
        )
    return "\n".join(lines) + "\n"


def percent(values: dict[str, float]) -> str:
    """A mean in percent."""
    return f"{values['mean']:.2f} %"


def ends(values: dict[str, float]) -> str:
    """The least and the largest over the splits."""
    return f"{values['low']:.2f} to {values['high']:.2f}"


if __name__ == "__main__":
    main()
