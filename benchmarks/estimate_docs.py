"""Write what the estimator's commands print, and its benchmarks' figures, into docs.

python benchmarks/estimate_docs.py       (after decode_division.py, estimate_online.py, estimate_speed.py,
                                         estimate_recalibration.py, estimate_roofline.py and estimate_beyond.py)
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from into_docs import ROOT, result

TABLE = "benchmarks/data/molmoe-1b-h200.parquet"
ASKED = "prompt_tokens=1506 image_tokens=1440 config.blocks=12 config.top_k=4"
PAGES = ("fit.md", "estimate.md", "budget.md", "appendix/fit.md", "appendix/estimate.md")
COMMANDS = {
    "fit": f"laptime fit {TABLE} --out est/",
    "predict": f"laptime predict est/ {ASKED} output_tokens=16 --budget-ms 250",
    "tokens": f"laptime predict est/ {ASKED} --tokens 4,8,16,32 --budget-ms 250",
    "evaluate": f"laptime evaluate {TABLE} --target decode_per_token_ms --splits new-config,largest",
    "yes": f"laptime budget est/ --budget-ms 210 --config '{ASKED.replace(' ', ',')},output_tokens=16'",
    "grid": f"laptime budget est/ --budget-ms 215 --grid {TABLE}",
}


def main() -> None:
    """Fill every marked block of both pages."""
    with tempfile.TemporaryDirectory() as folder:
        blocks = {name: printed(command, Path(folder)) for name, command in COMMANDS.items()}
    blocks |= {"division": division(), "online": online(), "recalibration": recalibration(), "speed": speed()}
    blocks |= {"roofline": roofline(), "beyond": beyond()}
    for page in (ROOT / "docs" / name for name in PAGES):
        text = page.read_text(encoding="utf-8")
        for name, block in blocks.items():
            text = re.sub(
                rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)",
                lambda found, block=block: found[1] + block + found[2],
                text,
                flags=re.DOTALL,
            )
        page.write_text(text, encoding="utf-8")
        print(page.relative_to(ROOT))


def printed(command: str, folder: Path) -> str:
    """A command with what it prints, as a block; `est/` stands for a folder of this program."""
    words = command.replace("est/", f"{folder}/est/").replace("laptime ", f"{sys.executable} -m laptime ", 1)
    environment = {**os.environ, "COLUMNS": "96"}
    done = subprocess.run(words, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{command}: {done.stderr}")
    out = done.stdout.replace(f"{folder}/est", "est").replace("\xa0", " ")
    lines = [line.rstrip() for line in out.splitlines()]
    return "```\n$ " + command + "\n" + "\n".join(line for line in lines if line) + "\n```\n"


def share(value: float | None, digits: int = 1) -> str:
    """A share as per cent."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def division() -> str:
    """Decode by N beside by N - 1, and R2 beside its ceiling."""
    found = result("decode_division")["figures"]
    names = {
        "by_n_ms": "decode / N",
        "decode_per_token_ms": "decode / (N − 1)",
        "vision_ms": "vision",
        "prefill_ms": "prefill",
        "total_ms": "total",
    }
    lines = ["| | spread of all | of repeats | R² | of at most | share | P95 holds | bound / actual |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for part in ("simulated", "measured"):
        for name, row in found[part].items():
            if name == "by_tokens":
                continue
            lines.append(
                f"| {part}: {names[name]} | {share(row['cv_overall'])} | {share(row['cv_within'])} | "
                f"{row['r2']['mean']:.3f} | {row['reachable_r2']['mean']:.3f} | {share(row['share_of_reachable'])} | "
                f"{share(row['p95_coverage']['mean'])} | {row['bound_over_actual']['mean']:.2f} |"
            )
    lines += ["", "| output tokens (simulated) | answers | by N, ms | by N − 1, ms |", "|---|---|---|---|"]
    for row in found["simulated"]["by_tokens"]:
        lines.append(f"| {row['tokens']} | {row['rows']} | {row['by N']:.1f} | {row['by N - 1']:.1f} |")
    return "\n".join(lines) + "\n"


def online() -> str:
    """Coverage by requests completed since the change."""
    found = result("estimate_online")["figures"]
    bins = ["0-20", "20-40", "60-80", "80-100", "100-150", "200-250", "400-500"]
    lines = [f"| change | way | before | {' | '.join(bins)} |", "|---" * (3 + len(bins)) + "|"]
    for name, ways in found["scenarios"].items():
        for way, row in ways.items():
            cells = " | ".join(share(row["bins"][one]) for one in bins)
            lines.append(f"| {name} | {way} | {share(row['before'])} | {cells} |")
    lines += ["", "| laptime elsewhere | before | after 100 |", "|---|---|---|"]
    for name, row in found["laptime_elsewhere"].items():
        lines.append(f"| {name} | {share(row['before'])} | {share(row['after 100'])} |")
    return "\n".join(lines) + f"\n\n{found['streams']} streams; a quarter of them in the second table.\n"


def recalibration() -> str:
    """MAPE, coverage and width by N."""
    found = result("estimate_recalibration")["figures"]
    lines = ["| target | samples, way | MAPE | P95 holds | bound / actual |", "|---|---|---|---|---|"]
    for target, rows in found["targets"].items():
        for name, row in rows.items():
            lines.append(
                f"| {target} | {name} | {share(row['mape'])} | {share(row['coverage'])} | {row['width']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def roofline() -> str:
    """Errors, coverage and width without work and with it."""
    found = result("estimate_roofline")["figures"]
    lines = ["| time of | held out | MAPE | R² | P95 holds | bound / actual |", "|---|---|---|---|---|---|"]
    for target, both in found.items():
        for kind, row in both["with"]["splits"].items():
            old = both["without"]["splits"][kind]
            name = {"new-config": "new configurations", "largest": "the largest sizes"}.get(kind, kind)
            cells = [
                f"{share(old['mape'])} → {share(row['mape'])}",
                f"{old['r2']:.3f} → {row['r2']:.3f}" if min(old["r2"], row["r2"]) > 0 else "below 0",
                f"{share(old['coverage'])} → {share(row['coverage'])}",
                f"{old['width']:.2f} → {row['width']:.2f}",
            ]
            lines.append(f"| {target.removesuffix('_ms')} | {name} | {' | '.join(cells)} |")
    reached = ", ".join(
        f"{target.removesuffix('_ms')} {share(both['with']['splits']['new-config']['share_of_reachable'])}"
        for target, both in found.items()
    )
    return "\n".join(lines) + f"\n\nR² on new configurations, of what can be reached: {reached}.\n"


def beyond() -> str:
    """Splitwise's decode by batch, and other ways to calibrate beyond the training sizes."""
    found = result("estimate_beyond")["figures"]
    lines = ["| batch | rows held out | measured / predicted: least | median | most |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['batch_size']} | {row['rows']} | {row['least']:.2f} | {row['median']:.2f} | {row['most']:.2f} |"
        for row in found["decode_by_batch"]
    ]
    ways = list(next(iter(found["tables"].values()))["ways"])
    lines += ["", f"| P95 beyond holds, bound / actual | {' | '.join(ways)} |", "|---" * (1 + len(ways)) + "|"]
    for name, row in found["tables"].items():
        told = [row["ways"][way] for way in ways]
        cells = ["none" if one["coverage"] is None else f"{share(one['coverage'])}, {one['width']:.2f}" for one in told]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def speed() -> str:
    """Times beside the peers'."""
    made: dict[str, Any] = result("estimate_speed")
    found, where = made["figures"], made["environment"]
    lines = ["| one row | µs |", "|---|---|"]
    lines += [f"| {name} | {took:.1f} |" for name, took in found["one_row_us"].items()]
    lines += ["", "| 10 000 rows at once | µs a row |", "|---|---|"]
    lines += [f"| {name} | {took:.2f} |" for name, took in found["row_of_10k_us"].items()]
    lines += ["", "| many at once, and online | ms |", "|---|---|"]
    lines += [f"| {name} | {took / 1000:.3f} |" for name, took in found["table_us"].items()]
    took = "; ".join(f"{name}, {one['s']:.1f} s ({one['cpu_s']:.1f})" for name, one in found["fits"].items())
    lines.append(
        f"\nFits on two quiet cores, and the processor time of both: {took}. The rest was measured under load. "
        f"The lookup table was built in {found['table_build_s']:.1f} s. "
        f"{where['processors']} processors, load average {where['load']:.1f}, LightGBM {where['lightgbm']}, "
        f"scikit-learn {where['scikit_learn']}."
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
