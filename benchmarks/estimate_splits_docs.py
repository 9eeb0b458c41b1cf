"""Write the figures of estimate_splits.py and online_worlds.py into docs/appendix.

python benchmarks/estimate_splits_docs.py
"""

from __future__ import annotations

import re
from typing import Any

from into_docs import ROOT, result

PEERS = {"forest_cqr": "forest, CQR", "lightgbm_split": "LightGBM, split", "catboost_cqr": "CatBoost, CQR"}


def main() -> None:
    """Fill both blocks."""
    for page, name, block in (("estimate.md", "splits", splits()), ("fit.md", "worlds", worlds())):
        file = ROOT / "docs" / "appendix" / page
        text = re.sub(
            rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)",
            lambda found, block=block: found[1] + block + found[2],
            file.read_text(encoding="utf-8"),
            flags=re.DOTALL,
        )
        file.write_text(text, encoding="utf-8")
        print(file.relative_to(ROOT))


def splits() -> str:
    """A row for each table and way of holding out: coverage, mean width and the share without a bound."""
    recorded = result("estimate_splits")
    head = ["table", "held out", "laptime", "off by", *PEERS.values()]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in recorded["figures"]:
        what = f"{row['kind']}: {row['split']}".replace("_", " ")
        if "laptime" not in row:
            lines.append(f"| {row['table']} | {what} | {row.get('stopped') or row.get('refused')} |" + " |" * 4)
            continue
        cells = [_bound(row["laptime"]), f"{100 * row['laptime']['mape']:.1f} %"]
        cells += [_bound(row[peer]) if peer in row else "" for peer in PEERS]
        lines.append(f"| {row['table']} | {what} | " + " | ".join(cells) + " |")
    where = recorded["environment"]
    return "\n".join(lines) + (
        f"\n\nEach table was drawn down to {where['rows']} rows. A cell: how often the 95 % bound held, at which mean "
        f"of bound / actual, and for how many rows none was given. LightGBM {where['lightgbm']}, scikit-learn "
        f"{where['scikit_learn']}, CatBoost {where['catboost']}; the file of results has split conformal and CQR of "
        "all three.\n"
    )


def _bound(one: dict[str, Any]) -> str:
    if one["coverage"] is None:
        return "none"
    none = f", none for {one['abstained']:.0%}" if one["abstained"] > 0.004 else ""
    return f"{100 * one['coverage']:.1f} % at {one['width']:.2f}{none}".replace("%,", " %,")


def worlds() -> str:
    """A row for each world."""
    figures = result("online_worlds")["figures"]
    ways = ("laptime", "ACI", "conformal PID", "knows the past", "knows the law")
    lines = ["| world | at once | noise | " + " | ".join(ways) + " |", "|---" * (3 + len(ways)) + "|"]
    for row in figures["worlds"]:
        cells = []
        for way in ways:
            one = row[way]
            none = f", none {100 * one['none']:.0f} %" if one["none"] > 0.004 else ""
            cells.append(f"{100 * one['coverage']:.1f} % at {one['width']:.2f}{none}")
        lines.append(f"| {row['world']} | {row['at_once']} | {row['noise']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\n{figures['streams']} streams of 1500 requests in each world.\n"


if __name__ == "__main__":
    main()
