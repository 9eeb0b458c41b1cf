"""Traces of a graph's capture and of its replays, and of the same model without a graph: to check `--capture`.

    python benchmarks/trace_pairs.py FOLDER
    python benchmarks/trace_pairs.py FOLDER --recorded

Records capture.json.gz, replay.json.gz, eager.json.gz and train.json.gz into the folder (shapes, modules, memory), and
compares each operator's calls and device time in the replays with those without a graph: the same kernels run.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from laptime.trace.analysis import read_trace
from recorded import record


class Layer(nn.Module):
    """A decoder's layer, small."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.heads = width // 64

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, tokens, width)."""
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.norm(x)).view(batch, tokens, 3, self.heads, 64).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(nn.functional.silu(self.up(self.norm2(x))))


class Decoder(nn.Module):
    """Twelve layers and a head."""

    def __init__(self, width: int = 1024, layers: int = 12, words: int = 32_000) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.layers = nn.ModuleList(Layer(width) for _ in range(layers))
        self.head = nn.Linear(width, words, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids: (batch, tokens)."""
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def traced(out: Path, run: Any) -> Path:
    """Trace what `run` does, with everything recorded."""
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    recorded = {"record_shapes": True, "with_stack": True, "profile_memory": True}
    with profile(activities=activities, **recorded) as prof:
        run()
        torch.cuda.synchronize()
    prof.export_chrome_trace(str(out))
    reduced(out)
    return out


CALLS = 8
KEPT = ("schemaVersion", "deviceProperties", "displayTimeUnit")
CATEGORIES = frozenset(
    {"cpu_op", "cuda_runtime", "cuda_driver", "kernel", "gpu_memset", "gpu_memcpy", "user_annotation"}
)


def reduced(path: Path) -> None:
    """Keep what a reader uses: no Python frame but modules, no path, no name of a machine."""
    with gzip.open(path, "rt") as file:
        content = json.load(file)
    events = [
        {key: event[key] for key in ("ph", "cat", "name", "pid", "tid", "ts", "dur", "args") if key in event}
        for event in content["traceEvents"]
        if event.get("cat") in CATEGORIES
        or event.get("name") == "[memory]"
        or str(event.get("name")).startswith("nn.Module: ")
    ]
    kept = {key: content[key] for key in KEPT if key in content} | {"traceEvents": events}
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed:
        packed.write(json.dumps(kept).encode())


def record_all(out: Path) -> None:
    """Record the traces. Needs a GPU."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    with torch.inference_mode():
        model = Decoder().to("cuda", torch.bfloat16).eval()
        ids = torch.randint(0, 32_000, (4, 128), device="cuda")
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(3):
                model(ids)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()

        def capture() -> None:
            with torch.cuda.graph(graph):
                model(ids)

        traced(out / "capture.json.gz", capture)
        for _ in range(3):
            graph.replay()
        torch.cuda.synchronize()
        traced(out / "replay.json.gz", lambda: [graph.replay() for _ in range(CALLS)])
        traced(out / "eager.json.gz", lambda: [model(ids) for _ in range(CALLS)])
    model = Decoder(layers=4).to("cuda", torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def train() -> None:
        for _ in range(6):
            with torch.profiler.record_function("training step"):
                logits = model(ids)
                nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids.flatten()).backward()
                optimizer.step()
                optimizer.zero_grad()

    train()
    traced(out / "train.json.gz", train)


def compared(out: Path) -> dict[str, object]:
    """Each operator's and each module's calls and device time, without a graph and in its replays."""
    eager = read_trace(out / "eager.json.gz").launched_by
    replay = read_trace(out / "replay.json.gz", capture=out / "capture.json.gz").launched_by
    if eager is None or replay is None or replay.capture is None:
        sys.exit("the traces name nobody")
    found: dict[str, object] = {
        "card": None if eager.card is None else eager.card.name,
        "replays": replay.capture.replays,
        "replays_named": replay.capture.named,
        "kernels_named": replay.capture.activities,
    }
    for kind in ("operator", "module"):
        ours = {row.name: row for row in replay.launchers if row.kind == kind}
        rows = {}
        for row in eager.launchers:
            other = ours.get(row.name)
            if row.kind == kind and (kind == "module" or row.own_ns):
                ns = "total_ns" if kind == "module" else "own_ns"
                rows[row.name] = {
                    "calls": [row.calls, other.calls if other else 0],
                    "eager_ns": getattr(row, ns),
                    "replay_ns": getattr(other, ns) if other else 0,
                }
        found[kind] = rows
    return found


def main() -> None:
    """Record the traces where there is a GPU, then write benchmarks/results/trace_pairs-h200.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--recorded", action="store_true", help="the traces are there already")
    options = parser.parse_args()
    if not options.recorded:
        record_all(options.out)
    environment = {"traces": "torch 2.11.0, NVIDIA H200", "python": platform.python_version()}
    print(record("trace_pairs-h200", compared(options.out), environment))


if __name__ == "__main__":
    main()
