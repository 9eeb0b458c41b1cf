"""Traces of a graph's capture and of its replays, and of the same model without a graph: to check `--capture`.

    python benchmarks/trace_pairs.py OUT

Writes OUT/capture.json.gz, OUT/replay.json.gz, OUT/eager.json.gz and OUT/train.json.gz (shapes, stacks and memory
recorded), and OUT/pairs.json with what laptime says of them. Each operator should take as long in the replays as
without the graph: the same kernels run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from laptime.trace.analysis import read_trace


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
    return out


def main() -> None:
    """Record the traces, then say what laptime finds in them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    with torch.inference_mode():
        model = Decoder().to("cuda", torch.bfloat16).eval()
        ids = torch.randint(0, 32_000, (4, 128), device="cuda")
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                model(ids)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()

        def capture() -> None:
            with torch.cuda.graph(graph):
                model(ids)

        paths = {"capture": traced(out / "capture.json.gz", capture)}
        for _ in range(3):
            graph.replay()
        torch.cuda.synchronize()
        paths["replay"] = traced(out / "replay.json.gz", lambda: [graph.replay() for _ in range(8)])
        paths["eager"] = traced(out / "eager.json.gz", lambda: [model(ids) for _ in range(8)])
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
    paths["train"] = traced(out / "train.json.gz", train)
    said: dict[str, object] = {"torch": torch.__version__, "card": torch.cuda.get_device_name(0)}
    for name, path in paths.items():
        said[name] = json.loads(read_trace(path).to_json())
    said["named"] = json.loads(read_trace(paths["replay"], capture=paths["capture"]).to_json())
    for value in said.values():
        if isinstance(value, dict):
            value.pop("modal_step", None)
    (out / "pairs.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
