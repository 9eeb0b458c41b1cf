"""Promise and delivery of every remedy, on several models. Needs a GPU; each part runs in a process of its own.

    python benchmarks/remedy.py                  # all parts, as many as fit into --seconds
    python benchmarks/remedy.py scaling olmoe    # some
    python benchmarks/remedy.py --docs           # write the figures recorded last into docs/remedy.md

Parts: `long` is Qwen3-4B with 256 new tokens (end to end), `scaling` the step over batch and cache length against its
own roofline, `logits` how far bfloat16 logits lie from those of eager decoding, the others one model each with every
remedy. A part that fails or takes too long is recorded as that.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from laptime.measure.environment import describe
from laptime.models.loading import load_model
from laptime.remedy.bandwidth import copy_gb_per_s
from laptime.remedy.choosing import Sampling
from laptime.remedy.decoder import FastDecoder
from laptime.remedy.plain_step import decode_one_token
from laptime.remedy.proof import prove
from laptime.workload.inputs import make_inputs
from recorded import record

ALL = ("buffers", "fusion", "graph", "compiled", "kernels", "fast")
ROUNDS = 6
PARTS: dict[str, dict[str, Any]] = {
    "long": {"model": "preset:qwen3-4b", "prompt": 512, "new": 256, "only": ("compiled", "fast")},
    "scaling": {"model": "preset:qwen3-4b"},
    "logits": {"models": ("preset:qwen3-4b", "preset:llama-3-8b", "preset:olmoe-1b-7b")},
    "qwen3-4b": {"model": "preset:qwen3-4b", "prompt": 512, "new": 48, "only": ("static", *ALL)},
    "olmoe": {"model": "preset:olmoe-1b-7b", "prompt": 512, "new": 48, "only": ALL},
    "llama-3-8b": {"model": "preset:llama-3-8b", "prompt": 512, "new": 48, "only": ALL},
    "molmoe": {"model": "preset:molmoe-1b", "prompt": 64, "new": 48, "only": ALL, "image": (1344, 1008)},
    "olmoe-top-4": {"model": "preset:olmoe-1b-7b", "prompt": 512, "new": 48, "only": ("compiled", "fast"), "top_k": 4},
}


def main() -> None:
    """Run the parts and write what they found after each of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--docs", action="store_true", help="write the recorded figures into docs/remedy.md")
    parser.add_argument("--write", type=Path, help="(for a part's own process)")
    given = parser.parse_args()
    if given.docs:
        into_docs()
        return
    if given.write:
        part = given.parts[0]
        made = scaling() if part == "scaling" else logits() if part == "logits" else proof(part)
        given.write.write_text(json.dumps(made))
        return
    began = time.monotonic()
    found: dict[str, Any] = {}
    name = "remedy" if list(given.parts) == list(PARTS) else "remedy-" + "-".join(given.parts)
    for part in given.parts:
        left = given.seconds - (time.monotonic() - began)
        found[part] = in_process(part, left) if left > 30 else {"failed": "no time left"}
        show(part, found[part])
        record(name, {"parts": found, "promises": kept(found)}, json.loads(environment()))
    print(json.dumps(kept(found)))


def in_process(part: str, seconds: float) -> dict[str, Any]:
    """The part's figures from a process of its own: one that dies takes no other with it."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "found.json"
        command = [sys.executable, __file__, part, "--write", str(target)]
        try:
            said = subprocess.run(command, timeout=seconds, capture_output=True, text=True)
        except subprocess.TimeoutExpired:
            return {"failed": f"took more than {seconds:.0f} s"}
        if said.returncode or not target.exists():
            lines = [line for line in said.stderr.splitlines() if line.strip()]
            print("\n".join(lines[-12:]), flush=True)
            return {"failed": lines[-1][:300] if lines else f"exit code {said.returncode}"}
        found: dict[str, Any] = json.loads(target.read_text())
        return found


def proof(part: str) -> dict[str, Any]:
    """The report of `laptime remedy` for one part."""
    spec = PARTS[part]
    loaded = load_model(spec["model"], device="cuda")
    if "top_k" in spec:
        for layer in loaded.model.model.layers:
            layer.mlp.gate.top_k = spec["top_k"]
    made = make_inputs(loaded, prompt_tokens=spec["prompt"], image_size=spec.get("image"), new_tokens=spec["new"])
    report = prove(
        loaded.model,
        dict(made.kwargs),
        name=spec["model"],
        new_tokens=spec["new"],
        rounds=ROUNDS,
        config={"prompt_tokens": made.prompt_tokens, "image_tokens": made.image_tokens, "top_k": spec.get("top_k")},
        only=spec["only"],
        progress=lambda what: print(what, flush=True),
    )
    value: dict[str, Any] = json.loads(report.to_json())
    return value


@torch.no_grad()
def scaling() -> dict[str, Any]:
    """Time of a captured step of Qwen3-4B over batch and cache length, against the bytes it reads."""
    loaded = load_model(PARTS["scaling"]["model"], device="cuda")
    bandwidth = copy_gb_per_s(loaded.device) or math.nan
    rows = []
    with FastDecoder(loaded.model) as decoder:
        for batch in (1, 8, 32):
            for positions in (128, 512, 2048, 8192):
                session = decoder.session(batch, positions + 96, Sampling())
                step_ms = min(replays_ms(session, positions) for _ in range(3))
                read = decoder.plan.weight_bytes(batch) + decoder.plan.cache_bytes(positions, batch)
                row = {"batch": batch, "positions": positions, "step_ms": step_ms, "floor_ms": read / bandwidth / 1e6}
                rows.append({**row, "share": row["floor_ms"] / step_ms, "capture_s": session.captured.seconds})
                del session
                decoder._sessions.clear()
                torch.cuda.empty_cache()
    return {"rows": rows, "copy_gb_per_s": bandwidth}


@torch.no_grad()
def logits() -> dict[str, Any]:
    """Relative distance of a decode step's logits from those of eager decoding: transformers' static cache, the plain
    step, the kernels. A second eager call says how far eager lies from itself."""
    rows = []
    for name in PARTS["logits"]["models"]:
        loaded = load_model(name, device="cuda")
        made = dict(make_inputs(loaded, prompt_tokens=512, new_tokens=4).kwargs)
        call = {"max_new_tokens": 2, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
        own, again = (loaded.model.generate(**made, **call) for _ in range(2))
        static = loaded.model.generate(**made, **call, cache_implementation="static", disable_compile=True)
        with FastDecoder(loaded.model) as decoder:
            ids = decoder.generate(**made, max_new_tokens=2)
            state = decoder.session(1, ids.shape[1], Sampling()).state
            fast = state.logits.clone()
            state.position.copy_(state.begin)
            state.token.copy_(ids[:, -2])
            plain = decode_one_token(decoder.plan, state).float()
        eager = own.logits[1].float()
        row = {"model": name, "same_first_token": bool((own.sequences[:, -2] == ids[:, -2]).all())}
        ways = {"eager again": again.logits[1], "static": static.logits[1], "plain step": plain, "kernels": fast}
        row.update({way: float((made.float() - eager).norm() / eager.norm()) for way, made in ways.items()})
        rows.append(row)
        del loaded, own, again, static
        torch.cuda.empty_cache()
    return {"rows": rows}


def replays_ms(session: Any, positions: int, steps: int = 40) -> float:
    """Mean time of a replay from `positions` on."""
    session.state.position.fill_(positions)
    session.state.begin.fill_(positions)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(steps):
        session.captured()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / steps


def show(part: str, found: dict[str, Any]) -> None:
    """A short table of one part."""
    if "failed" in found:
        print(f"{part}: {found['failed']}", flush=True)
        return
    if part == "scaling":
        for row in found["rows"]:
            print(
                f"batch {row['batch']:2} positions {row['positions']:5}: {row['step_ms']:6.3f} ms, "
                f"floor {row['floor_ms']:.3f}, {row['share']:.0%}",
                flush=True,
            )
        return
    if part == "logits":
        for row in found["rows"]:
            print(row, flush=True)
        return
    print(f"{part}: {found['headline']} (floor {found['floor_ms']} ms)", flush=True)
    for row in found["rows"]:
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
            f"  {row['name']:9} {tpot['value']:7.3f} [{tpot['low']:.3f}, {tpot['high']:.3f}] ms, promised {said:20} "
            f"call {row['call_ms']['value']:.0f} ms, {row['kernels_per_step']} kernels, "
            f"{row['launches_per_step']} launches, "
            f"gaps {share(row['gap_share'])}, {row['allocations_per_step']} allocations, "
            f"{share(row['bandwidth_share'])} of copy, "
            f"prepared {row['prepare_s'] or 0:.1f} s, {(row['memory_bytes'] or 0) / 1e6:.0f} MB, "
            f"same {row['tokens_same']} first {row['first_difference']} bf16 steps {row['bf16_steps']}",
            flush=True,
        )


def share(value: float | None) -> str:
    """A share as per cent."""
    return "-" if value is None else f"{value:.0%}"


def kept(found: dict[str, Any]) -> dict[str, Any]:
    """How often a promise was kept, and how far its (geometric) middle was off."""
    pairs = [
        (
            f"{part} {row['name']}",
            row["kept"],
            math.sqrt(row["promise"]["low_ms"] * row["promise"]["high_ms"]) / row["tpot_ms"]["value"] - 1,
        )
        for part, value in found.items()
        for row in value.get("rows", [])
        if row.get("promise") and row.get("tpot_ms")
    ]
    return {
        "pairs": len(pairs),
        "kept": sum(bool(pair[1]) for pair in pairs),
        "missed": [pair[0] for pair in pairs if not pair[1]],
        "median_error_of_middle": median(abs(pair[2]) for pair in pairs) if pairs else None,
    }


def into_docs() -> None:
    """Fill docs/remedy.md between its markers from benchmarks/results/remedy.json."""
    root = Path(__file__).parents[1]
    made = json.loads((root / "benchmarks" / "results" / "remedy.json").read_text(encoding="utf-8"))
    page = root / "docs" / "remedy.md"
    content = page.read_text(encoding="utf-8")
    begin, end = "<!-- remedy:begin -->\n", "<!-- remedy:end -->"
    before, rest = content.split(begin)
    page.write_text(before + begin + tables(made) + end + rest.split(end)[1], encoding="utf-8")


def tables(made: dict[str, Any]) -> str:
    """What was recorded, as markdown."""
    where, parts = made["environment"], made["figures"]["parts"]
    lines = [f"{where['gpu']}, driver {where['driver']}, torch {where['torch']}, transformers {where['transformers']}."]
    for part, found in parts.items():
        if part in ("scaling", "logits") or "failed" in found:
            continue
        config = found["config"]
        lines += [
            "",
            f"{found['model'].removeprefix('preset:')}, prompt {config['prompt_tokens']}, {config['new_tokens']} new "
            f"tokens, floor {found['floor_ms']:.2f} ms a token:",
            "",
            "| remedy | ms a token | promised | speed-up | of copy | launches | allocations | prepared | generate() |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for row in found["rows"]:
            if row["failed"]:
                lines.append(f"| {row['name']} | {row['failed']} | | | | | | | |")
                continue
            promise, speedup = row["promise"], row["speedup"]
            said = f"{promise['low_ms']:.3g} to {promise['high_ms']:.3g}" if promise else ""
            cells = (
                row["name"],
                f"{row['tpot_ms']['value']:.3g}",
                said + ("" if row["kept"] in (True, None) else ", missed"),
                f"{speedup['value']:.3g}" if speedup else "",
                share(row["bandwidth_share"]),
                str(row["launches_per_step"]),
                f"{row['allocations_per_step']:.0f}",
                "" if row["prepare_s"] is None else f"{row['prepare_s']:.1f} s",
                f"{row['call_ms']['value']:.0f} ms",
            )
            lines.append("| " + " | ".join(cells) + " |")
    if "rows" in parts.get("scaling", {}):
        rows = parts["scaling"]["rows"]
        positions = sorted({row["positions"] for row in rows})
        lines += [
            "",
            "FastDecoder's step of Qwen3-4B in ms, and its share of copy bandwidth over weights and cache:",
            "",
        ]
        lines += [
            "| rows | " + " | ".join(f"{p} positions" for p in positions) + " |",
            "|---|" + "---|" * len(positions),
        ]
        for batch in sorted({row["batch"] for row in rows}):
            mine = {row["positions"]: row for row in rows if row["batch"] == batch}
            cells = (f"{mine[p]['step_ms']:.2f} ({mine[p]['share']:.0%})" for p in positions)
            lines.append(f"| {batch} | " + " | ".join(cells) + " |")
    if "rows" in parts.get("logits", {}):
        ways = ("eager again", "static", "plain step", "kernels")
        lines += ["", "Relative distance of one step's bfloat16 logits from eager decoding's:", ""]
        lines += ["| model | " + " | ".join(ways) + " |", "|---|" + "---|" * len(ways)]
        for row in parts["logits"]["rows"]:
            lines.append(
                f"| {row['model'].removeprefix('preset:')} | " + " | ".join(f"{row[w]:.3f}" for w in ways) + " |"
            )
    return "\n".join(lines) + "\n"


def environment() -> str:
    """The machine's description, made without holding its GPU."""
    import msgspec

    return msgspec.json.encode(describe(torch.device("cuda" if torch.cuda.is_available() else "cpu"))).decode()


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "0")
    main()
