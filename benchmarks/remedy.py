"""The promised and the measured time of every remedy, on several models. Needs a GPU; each part is its own process.

    python benchmarks/remedy.py                                    # all parts, as many as fit into --seconds
    python benchmarks/remedy.py olmoe molmoe --seconds 240 --name remedy-moe
    python benchmarks/remedy.py --docs                             # write the recorded figures into the docs

Parts: `shapes` tries block shapes, `precision` compares bfloat16 steps with float32, `lengths-MODEL` measures the step
over batch and cache length beside eager's, `compiled-MODEL` transformers' compiled step of several rows, `long` is
Qwen3-4B with 256 new tokens (end to end). The others are one model each with several remedies. A part that fails or
takes too long is recorded as failed, with the rows that it has until then.
Results go to benchmarks/results/NAME.json. One name is one run on one card. When two files hold the same part, --docs
takes the file whose name sorts last.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from remedy_lengths import compiled, lengths
from remedy_precision import precision
from remedy_shapes import shapes
from remedy_tables import into_docs, kept

from laptime.measure.environment import describe
from laptime.models.loading import load_model
from laptime.remedy import RemedyOptions, prove_remedies
from laptime.workload.inputs import make_inputs
from recorded import record

ALL = ("buffers", "fusion", "graph", "compiled", "kernels", "fast")
ROUNDS = 6
LENGTHS = ("qwen3-4b", "llama-3-8b", "olmoe-1b-7b")
PARTS: dict[str, dict[str, Any]] = {
    "shapes": {"model": "preset:qwen3-4b", "guard": 150},
    "precision-qwen3-4b": {"model": "preset:qwen3-4b", "guard": 60},
    "precision-llama-3-8b": {"model": "preset:llama-3-8b", "guard": 60},
    "precision-olmoe": {"model": "preset:olmoe-1b-7b", "guard": 60},
    "long": {"model": "preset:qwen3-4b", "prompt": 512, "new": 256, "only": ("compiled", "fast"), "guard": 120},
    "qwen3-4b": {"model": "preset:qwen3-4b", "prompt": 512, "new": 48, "only": ("static", *ALL)},
    "olmoe": {"model": "preset:olmoe-1b-7b", "prompt": 512, "new": 48, "only": ALL},
    "olmoe-top-8": {"model": "preset:olmoe-1b-7b", "prompt": 512, "new": 48, "only": ("compiled", "fast"), "top_k": 8},
    "olmoe-top-4": {"model": "preset:olmoe-1b-7b", "prompt": 512, "new": 48, "only": ("compiled", "fast"), "top_k": 4},
    "llama-3-8b": {"model": "preset:llama-3-8b", "prompt": 512, "new": 48, "only": ALL},
    "molmoe": {
        "model": "preset:molmoe-1b",
        "prompt": 64,
        "new": 48,
        "only": ("graph", "compiled", "fast"),
        "image": (1344, 1008),
        "guard": 180,
    },
    **{f"lengths-{name}": {"model": f"preset:{name}", "guard": 150} for name in LENGTHS},
    **{f"compiled-{name}": {"model": f"preset:{name}"} for name in LENGTHS},
}
GUARD = 110.0
"""Seconds for a part that names none, so that one slow compiler doesn't cost the parts after it."""


def main() -> None:
    """Run the parts and record the figures after each of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--name", default="remedy", help="of the file in benchmarks/results")
    parser.add_argument(
        "--docs", action="store_true", help="write the recorded figures into docs/appendix/remedy-figures.md"
    )
    parser.add_argument("--write", type=Path, help="(for a part's own process)")
    given = parser.parse_args()
    if given.docs:
        into_docs()
        return
    if unknown := [part for part in given.parts if part not in PARTS]:
        parser.error(f"{', '.join(unknown)}: no such part; there are {', '.join(PARTS)}")
    if given.write:
        given.write.write_text(json.dumps(part_of(given.parts[0], given.write)))
        return
    began = time.monotonic()
    figures: dict[str, Any] = {}
    for part in given.parts:
        left = min(given.seconds - (time.monotonic() - began), PARTS[part].get("guard", GUARD))
        started = time.monotonic()
        figures[part] = in_process(part, left) if left > 20 else {"failed": "no time left"}
        record(given.name, {"parts": figures, "promises": kept(figures)}, json.loads(environment()))
        show(part, figures[part])
        print(f"({part}: {time.monotonic() - started:.0f} s)", flush=True)
    print("\n" + "=" * 40, flush=True)
    for part, value in figures.items():
        show(part, value)
    print(json.dumps(kept(figures)), flush=True)


def part_of(part: str, target: Path) -> dict[str, Any]:
    """One part's figures. After each row, the rows so far go to `target`."""

    def flush(so_far: dict[str, Any]) -> None:
        target.write_text(json.dumps(so_far))

    kind, model = part.partition("-")[0], PARTS[part]["model"]
    steps: dict[str, Callable[[str, Callable[[dict[str, Any]], None]], dict[str, Any]]]
    steps = {"shapes": shapes, "precision": precision, "lengths": lengths, "compiled": compiled}
    return steps[kind](model, flush) if kind in steps else proof(part)


def in_process(part: str, seconds: float) -> dict[str, Any]:
    """The part's figures from a process of its own, so that a crash ends one part only."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "figures.json"
        command = [sys.executable, __file__, part, "--write", str(target)]
        errors, reason = Path(folder) / "errors.txt", None
        with errors.open("w") as stderr:
            try:
                code = subprocess.run(command, timeout=seconds, stdout=sys.stderr, stderr=stderr).returncode
            except subprocess.TimeoutExpired:
                code, reason = 0, f"took more than {seconds:.0f} s"
        if code:
            lines = [line for line in errors.read_text(errors="replace").splitlines() if line.strip()]
            print("\n".join(lines[-12:]), flush=True)
            reason = lines[-1][:300] if lines else f"exit code {code}"
        figures: dict[str, Any] = json.loads(target.read_text()) if target.exists() else {}
        if reason is not None or not figures:
            figures["failed"] = reason or "nothing was written"
        return figures


def proof(part: str) -> dict[str, Any]:
    """The report of `laptime remedy` for one part."""
    spec = PARTS[part]
    loaded = load_model(spec["model"], device="cuda")
    if "top_k" in spec:
        for layer in loaded.model.model.layers:
            layer.mlp.gate.top_k = spec["top_k"]
    inputs = make_inputs(loaded, prompt_tokens=spec["prompt"], image_size=spec.get("image"), new_tokens=spec["new"])
    report = prove_remedies(
        loaded.model,
        inputs.kwargs,
        RemedyOptions(new_tokens=spec["new"], rounds=ROUNDS, only=spec["only"]),
        name=spec["model"],
        config={
            "prompt_tokens": inputs.prompt_tokens,
            "image_tokens": inputs.image_tokens,
            "top_k": spec.get("top_k"),
        },
        progress=lambda what: print(what, flush=True),
    )
    figures: dict[str, Any] = json.loads(report.to_json())
    return figures


def show(part: str, figures: dict[str, Any]) -> None:
    """A short table of one part."""
    if figures.get("failed"):
        print(f"{part}: {figures['failed']}", flush=True)
    if set(figures) == {"failed"}:
        return
    if "headline" not in figures:
        print(f"{part}: copy {figures.get('copy_gb_per_s')} GB/s", flush=True)
        for row in figures.get("rows", figures.get("steps", [])):
            print("  " + ", ".join(f"{key} {_short(value)}" for key, value in row.items()), flush=True)
        return
    print(f"{part}: {figures['headline']} (floor {figures['floor_ms']} ms)", flush=True)
    for row in figures["rows"]:
        if row["failed"]:
            print(f"  {row['name']:9} failed: {row['failed'][:150]}", flush=True)
            continue
        tpot, promise = row["tpot_ms"], row["promise"]
        said = (
            f"{promise['low_ms']:.2f}-{promise['high_ms']:.2f} {'kept' if row['kept'] else 'MISSED'}"
            if promise
            else "-"
        )
        print(
            f"  {row['name']:9} {tpot['value']:7.3f} [{_short(tpot['low'])}, {_short(tpot['high'])}] ms, "
            f"promised {said:20} "
            f"call {row['call_ms']['value']:.0f} ms, {row['kernels_per_step']} kernels, "
            f"{row['launches_per_step']} launches, "
            f"gaps {share(row['gap_share'])}, {row['allocations_per_step']} allocations, "
            f"{share(row['bandwidth_share'])} of copy, "
            f"prepared {row['prepare_s'] or 0:.1f} s, {(row['memory_bytes'] or 0) / 1e6:.0f} MB, "
            f"same {row['tokens_same']} first {row['first_difference']} bf16 steps {row['bf16_steps']}",
            flush=True,
        )


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"({', '.join(map(_short, value))})" if isinstance(value, list) else str(value)


def share(value: float | None) -> str:
    """A share as per cent."""
    return "-" if value is None else f"{value:.0%}"


def environment() -> str:
    """The machine's description."""
    import msgspec

    return msgspec.json.encode(describe(torch.device("cuda" if torch.cuda.is_available() else "cpu"))).decode()


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "0")
    main()
