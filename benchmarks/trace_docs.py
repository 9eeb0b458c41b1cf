"""Write the figures of the benchmarks of traces into docs/trace-speed.md and docs/trace-operators.md, between markers.

python benchmarks/trace_docs.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from into_docs import ROOT, result

PAGE = ROOT / "docs" / "trace-speed.md"
FILES = {
    "kineto_55mb": "Kineto, 55 MB",
    "kineto_300mb": "Kineto, 320 MB",
    "kineto_1gb": "Kineto, 1 GB",
    "nsys_million": "nsys, 1.3 M kernels",
}
PROGRAMS = {
    "laptime": "`laptime trace FILE --json`",
    "library": "`read_trace()`, one process",
    "reader_only": "its reader alone",
    "json_loads": "`json.loads`",
    "holistic": "HolisticTraceAnalysis",
}


def main() -> None:
    """Fill every marked block of the page."""
    page = PAGE.read_text(encoding="utf-8")
    speed, profile = result("trace_speed"), result("trace_profile")
    blocks = {
        "speed": origin(speed) + seconds_and_memory(speed["figures"]),
        "ratios": ratios(speed["figures"]),
        "profile": origin(profile) + stages(profile["figures"]),
        "ranks": ranks(result("trace_ranks")),
    }
    for name, block in blocks.items():
        page = re.sub(
            rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)",
            lambda markers, block=block: markers[1] + block + markers[2],
            page,
            flags=re.DOTALL,
        )
    PAGE.write_text(page, encoding="utf-8")
    print(PAGE.relative_to(ROOT))
    write_operators(ROOT / "docs" / "trace-operators.md", result("trace_operators"))


RANK_FOLDERS = {"8_real_ranks": "8 real ranks of one small step", "8_times_55mb": "8 files of 55 MB"}


def ranks(recorded: dict[str, Any]) -> str:
    """Folders of ranks beside the peer."""
    where = recorded["environment"]
    lines = [
        f"`{recorded['command']}`: {where['cpu_count']} processors, Python {where['python']}, load average"
        f" {where['load_average']:.0f} (other work beside it; the two took turns).",
        "",
        "| folder | laptime | HolisticTraceAnalysis | times as long | processor time | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for name, own in recorded["figures"].items():
        seconds, times = own["seconds"], own["holistic_over_laptime_seconds"]
        ends = "" if times["low"] is None else f" ({times['low']:.1f} to {times['high']:.1f})"
        lines.append(
            f"| {RANK_FOLDERS[name]} | {seconds['laptime']['value']:.1f} s | {seconds['holistic']['value']:.1f} s |"
            f" {times['value']:.1f}×{ends} | {own['holistic_over_laptime_processor']['value']:.1f}× |"
            f" {own['holistic_over_laptime_peak']:.1f}× |"
        )
    return "\n".join(lines) + "\n"


OPERATOR_FILES = ("prefill, H100", "detection, MI300X", "diffusion, MI300X", "DDP training, MI300X", "DDP, recomputing")


def write_operators(page: Path, recorded: dict[str, Any]) -> None:
    """The operator table beside the peer's: time, memory, and what agrees."""
    where = recorded["environment"]
    lines = [
        f"`{recorded['command']}`: {where['cpu_count']} processors, Python {where['python']}, load average"
        f" {where['load_average']:.0f} (other work beside it; the two took turns), {where['tracelens']}.",
        "",
        "| trace | TraceLens takes | peak memory | operators: same time | shapes: same operations | same bytes |",
        "|---|---|---|---|---|---|",
    ]
    for name, own in zip(OPERATOR_FILES, recorded["figures"].values(), strict=True):
        times = own["tracelens_over_laptime_seconds"]
        lines.append(
            f"| {name} | {times['value']:.1f}× ({times['low']:.1f} to {times['high']:.1f}) |"
            f" {own['tracelens_over_laptime_peak']:.1f}× |"
            f" {own['operator_times_alike']} of {own['operator_times_compared']} |"
            f" {own['flop_alike']} of {own['shapes_compared']} | {own['bytes_alike']} of {own['shapes_compared']} |"
        )
    block = "\n".join(lines) + "\n"
    text = page.read_text(encoding="utf-8")
    text = re.sub(
        r"(<!-- operators:begin -->\n).*?(<!-- operators:end -->)",
        lambda markers: markers[1] + block + markers[2],
        text,
        flags=re.DOTALL,
    )
    page.write_text(text, encoding="utf-8")
    print(page.relative_to(ROOT))


def origin(recorded: dict[str, Any]) -> str:
    """The command and the environment, in a line."""
    where = recorded["environment"]
    peer = where.get("HolisticTraceAnalysis")
    return (
        f"`{recorded['command']}`: {where['cpu_count']} processors, Python {where['python']}, "
        f"msgspec {where['msgspec']}, numpy {where['numpy']}{f', HolisticTraceAnalysis {peer}' if peer else ''}, "
        f"load average {where['load_average']:.1f}, files made of {where['made_of']}.\n\n"
    )


def seconds_and_memory(figures: dict[str, Any]) -> str:
    """A table: rows are programs, columns files."""
    lines = [f"| | {' | '.join(FILES[name] for name in figures)} |", "|---|" + "---|" * len(figures)]
    for program, title in PROGRAMS.items():
        cells = [
            f"{figure['seconds'][program]['value']:.2f} s, {figure['peak_mb'][program]:.0f} MB"
            if program in figure["seconds"]
            else ""
            for figure in figures.values()
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def ratios(figures: dict[str, Any]) -> str:
    """How many times longer and larger the peers are."""
    lines = ["| | time (interval) | peak memory |", "|---|---|---|"]
    for name, figure in figures.items():
        for peer in ("holistic", "json_loads"):
            time = figure.get(f"{peer}_over_laptime_seconds")
            if time is not None:
                interval = f" ({time['low']:.1f} to {time['high']:.1f})" if time["low"] is not None else ""
                memory = figure[f"{peer}_over_laptime_peak"]
                lines.append(f"| {PROGRAMS[peer]}, {FILES[name]} | {time['value']:.1f}×{interval} | {memory:.1f}× |")
    return "\n".join(lines) + "\n"


def stages(figures: dict[str, Any]) -> str:
    """A table of milliseconds: rows are stages, columns files; below, the whole."""
    names = list(dict.fromkeys(stage for figure in figures.values() for stage in figure["seconds"]))
    names.sort(key=lambda stage: {"start": 0, "read": 1}.get(stage.split(":")[0], 3 if stage == "output" else 2))
    lines = [f"| ms | {' | '.join(FILES[name] for name in figures)} |", "|---|" + "---:|" * len(figures)]
    for stage in names:
        cells = [
            f"{1000 * figure['seconds'][stage]:.0f}" if stage in figure["seconds"] else ""
            for figure in figures.values()
        ]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    for total, title in {
        "total_one_process": "all of that",
        "read_one_process": "reading",
        "read_two_processes": "reading, in two processes",
        "total_two_processes": "all, in two processes",
    }.items():
        lines.append(f"| **{title}** | {' | '.join(f'{1000 * figure[total]:.0f}' for figure in figures.values())} |")
    peaks = {name: max(figure["peak_mb"].values()) for name, figure in figures.items()}
    read = {
        name: max(mb for stage, mb in figure["peak_mb"].items() if stage.startswith("read"))
        for name, figure in figures.items()
    }
    lines.append(f"| peak memory after reading, MB | {' | '.join(f'{read[name]:.0f}' for name in figures)} |")
    lines.append(f"| peak memory in the end, MB | {' | '.join(f'{peaks[name]:.0f}' for name in figures)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
