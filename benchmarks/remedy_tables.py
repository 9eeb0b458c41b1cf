"""The recorded figures of benchmarks/remedy.py as the tables of docs/appendix/remedy-figures.md."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- remedy:begin -->\n", "<!-- remedy:end -->"
SUPERSEDES = {"lengths-qwen3-4b": "scaling", "precision-qwen3-4b": "logits"}
"""Parts that replace a part of another name in earlier runs."""


def into_docs() -> None:
    """Fill the page between its markers from benchmarks/results/remedy*.json, one environment line for each file."""
    page = ROOT / "docs" / "appendix" / "remedy-figures.md"
    content = page.read_text(encoding="utf-8")
    before, rest = content.split(BEGIN)
    files = sorted((ROOT / "benchmarks" / "results").glob("remedy*.json"), key=lambda path: path.stem)
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    shown = [_shown(run, _later_parts(runs[i + 1 :])) for i, run in enumerate(runs)]
    tables = "\n".join(_run(run, parts) for run, parts in zip(runs, shown, strict=True) if parts)
    page.write_text(before + BEGIN + tables + _promises(shown) + END + rest.split(END)[1], encoding="utf-8")


def _later_parts(runs: list[dict[str, Any]]) -> set[str]:
    """Parts that a later file measured again, by this or another name."""
    again = {part for run in runs for part, figures in run["figures"]["parts"].items() if set(figures) != {"failed"}}
    return again | {SUPERSEDES[part] for part in again if part in SUPERSEDES}


def _shown(run: dict[str, Any], measured_again: set[str]) -> dict[str, Any]:
    return {p: f for p, f in run["figures"]["parts"].items() if p not in measured_again and set(f) != {"failed"}}


def kept(parts: dict[str, Any]) -> dict[str, Any]:
    """How often a promise was kept, and how far its (geometric) middle was off."""
    pairs = [
        (
            f"{part} {row['name']}",
            row["kept"],
            math.sqrt(row["promise"]["low_ms"] * row["promise"]["high_ms"]) / row["tpot_ms"]["value"] - 1,
        )
        for part, value in parts.items()
        for row in (value.get("rows", []) if "headline" in value else [])
        if row.get("promise") and row.get("tpot_ms")
    ]
    return {
        "pairs": len(pairs),
        "kept": sum(bool(pair[1]) for pair in pairs),
        "missed": [pair[0] for pair in pairs if not pair[1]],
        "median_error_of_middle": median(abs(pair[2]) for pair in pairs) if pairs else None,
    }


def _promises(shown: list[dict[str, Any]]) -> str:
    """One line over all of the runs above."""
    figures = kept({f"{i} {part}": value for i, parts in enumerate(shown) for part, value in parts.items()})
    if not figures["pairs"]:
        return ""
    return (
        f"\nOf {figures['pairs']} promises above (a model and a remedy each) {figures['kept']} were kept; the middles "
        f"of their ranges were off by {figures['median_error_of_middle']:.1%} (median).\n"
    )


def _run(run: dict[str, Any], parts: dict[str, Any]) -> str:
    where = run["environment"]
    lines = [f"{where['gpu']}, driver {where['driver']}, torch {where['torch']}, transformers {where['transformers']}:"]
    for part, figures in parts.items():
        if "headline" in figures:
            lines += _proof(figures)
        elif part == "shapes":
            lines += _shapes(figures)
        elif part.startswith("lengths-"):
            lines += _lengths(figures)
    static = [figures for part, figures in parts.items() if part.startswith("compiled-") and figures.get("rows")]
    if static:
        lines += _compiled(static)
    precise = [figures for part, figures in parts.items() if part.startswith("precision-") and figures.get("rows")]
    if precise:
        lines += _precision(precise)
    if "rows" in parts.get("scaling", {}):
        lines += _scaling(parts["scaling"]["rows"])
    if "rows" in parts.get("logits", {}):
        lines += _logits(parts["logits"]["rows"])
    return "\n".join(lines) + "\n"


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _proof(figures: dict[str, Any]) -> list[str]:
    config, rows = figures["config"], []
    what = [f"prompt {config['prompt_tokens']}", f"{config['new_tokens']} new tokens"]
    if config.get("image_tokens"):
        what.append(f"{config['image_tokens']} of the prompt's tokens an image")
    if config.get("top_k"):
        what.append(f"top-k {config['top_k']}")
    for row in figures["rows"]:
        if row["failed"]:
            rows.append([row["name"], row["failed"], *[""] * 8])
            continue
        promise, speedup = row["promise"], row["speedup"]
        said = f"{promise['low_ms']:.3g} to {promise['high_ms']:.3g}" if promise else ""
        allocations, launches, pays = row["allocations_per_step"], row["launches_per_step"], row["pays_after_tokens"]
        rows.append(
            [
                row["name"],
                f"{row['tpot_ms']['value']:.3g}",
                said + ("" if row["kept"] in (True, None) else ", missed"),
                f"{speedup['value']:.3g}" if speedup else "",
                _share(row["bandwidth_share"]),
                "" if launches is None else str(launches),
                "" if allocations is None else f"{allocations:.0f}",
                "" if row["prepare_s"] is None else f"{row['prepare_s']:.1f} s",
                "" if pays is None else f"{pays} tokens",
                f"{row['call_ms']['value']:.0f} ms",
            ]
        )
    columns = [
        "remedy",
        "ms a token",
        "promised",
        "speed-up",
        "of copy",
        "launches",
        "allocations",
        "prepared",
        "pays after",
    ]
    title = f"{_name(figures)}, {', '.join(what)}, floor {figures['floor_ms']:.2f} ms a token:"
    return ["", title, "", *_table([*columns, "generate()"], rows)]


def _lengths(figures: dict[str, Any]) -> list[str]:
    """Every cell with eager's beside it."""
    rows = []
    for row in sorted(figures["rows"], key=lambda r: (r["batch"], r["positions"])):
        low, high = row["promised_ms"]
        inside = "" if row["fast"] is None or low <= row["fast"] <= high else ", missed"
        rows.append(
            [
                str(row["batch"]),
                str(row["positions"]),
                _ms(row, "fast"),
                f"{low:.2f} to {high:.2f}{inside}",
                f"{row['floor_ms']:.2f}",
                _share(row["share"]),
                _ms(row, "eager"),
                "" if row["speedup"] is None else f"{row['speedup']:.3g}",
            ]
        )
    columns = [
        "rows",
        "positions",
        "fast ms",
        "predicted",
        "floor ms",
        "of copy",
        "eager ms",
        "speed-up",
    ]
    title = f"{_name(figures)}, a step over batch and cache length (copy {figures['copy_gb_per_s']:.0f} GB/s):"
    return ["", title, "", *_table(columns, rows)]


def _compiled(parts: list[dict[str, Any]]) -> list[str]:
    """The compiled static cache's step, and what the mean of a short call makes of it."""
    rows = [
        [
            _name(figures),
            str(row["batch"]),
            str(row["positions"]),
            f"{row['compiled']:.2f}",
            f"{max(row['steps_ms']):.1f}",
            ", ".join(f"{ms:.1f}" for ms in row["calls_ms"]),
        ]
        for figures in parts
        for row in figures["rows"]
    ]
    columns = ["model", "rows", "positions", "step ms, median", "slowest step", "mean of each call"]
    title = 'transformers\' compiled static cache, 12 steps behind a prompt, `cache_implementation="static"`:'
    return ["", title, "", *_table(columns, rows)]


def _ms(row: dict[str, Any], way: str) -> str:
    value = row.get(way)
    return f"{value:.2f}" if value is not None else row["failed"].get(way, "")


def _precision(parts: list[dict[str, Any]]) -> list[str]:
    rows = [
        [
            _name(figures),
            row["way"],
            *(f"{row[key]:.4f} ({row[key + '_most']:.4f})" for key in ("step", "whole", "eager")),
            f"{row['same_choice']:.0%}",
        ]
        for figures in parts
        for row in figures["rows"]
    ]
    columns = ["model", "way", "from a float32 step", "from the float32 model", "from eager", "float32's choice"]
    what = f"{parts[0]['prompts']} prompts, {parts[0]['positions']} positions each"
    title = f"Relative distance of a bfloat16 step's logits, median (largest) of {what}:"
    return ["", title, "", *_table(columns, rows)]


def _shapes(figures: dict[str, Any]) -> list[str]:
    """The fastest shape of each product beside cuBLAS, and whole steps."""
    rows = []
    for batch in sorted({p["rows"] for p in figures["products"]}):
        for role in dict.fromkeys(p["role"] for p in figures["products"]):
            products = [p for p in figures["products"] if (p["rows"], p["role"]) == (batch, role)]
            kernels = [p for p in products if p["shape"] is not None]
            cublas = next((p for p in products if p["shape"] is None), None)
            if kernels and cublas:
                best = min(kernels, key=lambda p: p["ms"])
                cells = (f"{p['ms']:.2f} ({_share(p['share'])})" for p in (best, cublas))
                rows.append([str(batch), role, *cells])
    title = f"{_name(figures)}, all products of a role in one graph, the fastest shape of each, ms (share of copy):"
    steps = [
        [str(s["rows"]), s["name"], f"{s['ms']:.2f}", _share(s["share"]), f"{s['apart']:.3f}"] for s in figures["steps"]
    ]
    costs = [[str(c["rows"]), c["kind"], f"{c['us']:.1f}", f"{c['bytes_us']:.1f}"] for c in figures.get("costs", [])]
    apart = f"{_name(figures)}, what a kind of kernel costs (the step less the step without it), each:"
    return [
        *["", title, "", *_table(["rows", "product", "laptime", "cuBLAS"], rows)],
        *["", apart, "", *_table(["rows", "kernel", "µs", "its bytes at copy bandwidth, µs"], costs)],
        *[
            "",
            f"{_name(figures)}, whole steps at 512 positions, by block shapes (as it is: those before this run):",
            "",
        ],
        *_table(["rows", "shapes", "ms", "of copy", "logits from the plain step's"], steps),
    ]


def _scaling(rows: list[dict[str, Any]]) -> list[str]:
    positions = sorted({row["positions"] for row in rows})
    cells = []
    for batch in sorted({row["batch"] for row in rows}):
        by_positions = {row["positions"]: row for row in rows if row["batch"] == batch}
        cells.append(
            [str(batch), *(f"{by_positions[p]['step_ms']:.2f} ({_share(by_positions[p]['share'])})" for p in positions)]
        )
    title = (
        "FastDecoder's step of Qwen3-4B in ms, and its share of copy bandwidth (from two rows on "
        "by cuBLAS, before there were kernels for it):"
    )
    return ["", title, "", *_table(["rows", *(f"{p} positions" for p in positions)], cells)]


def _logits(rows: list[dict[str, Any]]) -> list[str]:
    ways = ("eager again", "static", "plain step", "kernels")
    cells = [[row["model"].removeprefix("preset:"), *(f"{row[way]:.3f}" for way in ways)] for row in rows]
    title = "Relative distance of one step's bfloat16 logits from eager decoding's:"
    return ["", title, "", *_table(["model", *ways], cells)]


def _name(figures: dict[str, Any]) -> str:
    return str(figures["model"]).removeprefix("preset:")


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
