"""Programs with a remedy each: one step as it is, and the same step with the remedy. For whatif_truth.py.

A workload is a function that gives (the step, a function that makes the step with the remedy). The models are plain
torch with random weights, so that nothing is downloaded, and the host works in numpy, whose time no profiler stretches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from whatif_copies import both_ways, uploads
from whatif_models import CUDA, DEVICE, HALF, SMALL, Block, Decoder, Pictures, Step, residual_net


@dataclass(frozen=True)
class Workload:
    """What is measured, and which of laptime's remedies the second step has."""

    build: Callable[[], tuple[Step, Callable[[], Step]]]
    remedy: str
    what: str


def captured(body: Step, errors: str = "global") -> Step:
    """The same work as one graph replay.

    errors: torch's capture_error_mode: whose calls of the device a capture allows meanwhile.
    """
    if not CUDA:
        return body
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            body()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode=errors):
        body()
    return graph.replay


def decode() -> tuple[Step, Callable[[], Step]]:
    """Greedy decode of one row; each token goes to the host, as a stopping check needs it."""
    model = Decoder()

    def then_read(advance: Step) -> None:
        advance()
        model.token[0, 0].item()

    return partial(then_read, model.advance), lambda: partial(then_read, captured(model.advance))


def sampling() -> tuple[Step, Callable[[], Step]]:
    """Decode of 16 rows that samples on the host: top-p in numpy between two forwards."""
    model = Decoder(layers=16, rows=16)
    chance = np.random.default_rng(0)

    def sample(logits: torch.Tensor) -> None:
        values = logits.float().cpu().numpy()
        order = np.argsort(-values, axis=-1)
        ordered = np.exp(np.take_along_axis(values, order, -1) - values.max(-1, keepdims=True))
        share = np.cumsum(ordered, -1) / ordered.sum(-1, keepdims=True)
        kept = np.maximum((share < 0.9).sum(-1), 1)
        chosen = np.take_along_axis(order, (chance.random(len(order)) * kept).astype(int)[:, None], -1)
        model.token.copy_(torch.from_numpy(chosen))
        model.position.copy_((model.position + 1) % len(model.places))

    def remedied() -> Step:
        place = model.logits()

        def forward() -> None:
            place.copy_(model.logits())

        replay = captured(forward)
        return lambda: (replay(), sample(place))

    return lambda: sample(model.logits()), remedied


def vision() -> tuple[Step, Callable[[], Step]]:
    """A request with an image: made smaller and normalised in numpy, then encoded, then read by a language model."""
    side, patch, width = (1024, 16, 768) if not SMALL else (64, 16, 64)
    tower = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(width, 12 if not SMALL else 4, 4 * width, 0.0, "gelu", batch_first=True),
        12 if not SMALL else 1,
        enable_nested_tensor=False,
    )
    reader = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(width, 12 if not SMALL else 4, 4 * width, 0.0, "gelu", batch_first=True),
        16 if not SMALL else 1,
        enable_nested_tensor=False,
    )
    split, head = nn.Conv2d(3, width, patch, patch), nn.Linear(width, 1000)
    for module in (tower, reader, split, head):
        module.to(DEVICE, HALF).requires_grad_(False).train()  # so that no fused path of the encoder is taken
    picture = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    pixels = torch.zeros(1, 3, side // 2, side // 2, device=DEVICE, dtype=HALF)
    answer = torch.zeros(1, dtype=torch.long, device=DEVICE)

    def prepared() -> torch.Tensor:
        smaller = picture.reshape(side // 2, 2, side // 2, 2, 3).astype(np.float32).mean((1, 3)) / 255
        normal = (smaller - np.float32(0.5)) / np.float32(0.27)
        return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1)))[None]

    def forward() -> None:
        patches = split(pixels).flatten(2).transpose(1, 2)
        answer.copy_(head(reader(tower(patches)))[:, -1].argmax(-1))

    def request(run: Step) -> None:
        with torch.no_grad():
            pixels.copy_(prepared().to(DEVICE))
            run()
            answer.item()

    return partial(request, forward), lambda: partial(request, captured(forward))


def loader() -> tuple[Step, Callable[[], Step]]:
    """A training step that fetches its batch itself; then eight workers fetch."""
    model = residual_net(64 if not SMALL else 8, 12 if not SMALL else 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def train(batches: Iterator[Any]) -> None:
        pictures, labels = next(batches)
        loss = functional.cross_entropy(
            model(pictures.to(DEVICE, non_blocking=True)), labels.to(DEVICE, non_blocking=True)
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def batches(workers: int) -> Iterator[Any]:
        return iter(DataLoader(Pictures(), batch_size=16, num_workers=workers))

    return partial(train, batches(0)), lambda: partial(train, batches(8 if CUDA else 1))


def training() -> tuple[Step, Callable[[], Step]]:
    """A small transformer's whole training step, then as one graph."""
    width, layers, length = (512, 8, 256) if not SMALL else (32, 1, 16)
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(width, 8, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True), layers
    ).to(DEVICE)
    head = nn.Linear(width, 1000).to(DEVICE)
    weights = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, 1e-4, capturable=CUDA, foreach=True)
    x = torch.randn(2, length, width, device=DEVICE)
    labels = torch.randint(0, 1000, (2 * length,), device=DEVICE)

    def forward_backward() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE, torch.bfloat16, cache_enabled=False):
            loss = functional.cross_entropy(head(model(x)).flatten(0, 1).float(), labels)
        loss.backward()
        optimizer.step()

    return forward_backward, lambda: captured(forward_backward)


def piecewise() -> tuple[Step, Callable[[], Step]]:
    """Decode as serving engines run it: a graph for what lies between two attentions; then one graph for all."""
    model = Decoder(layers=24, rows=8, positions=1024)
    x, turn, mask = model.begin()
    turn, mask = tuple(t.clone() for t in turn), mask.clone()
    heads = model.layers[0].heads
    inside = x.clone()
    query = torch.zeros(len(x), heads, 1, x.shape[-1] // heads, device=DEVICE, dtype=HALF)
    attended = torch.zeros_like(query)

    def first() -> None:
        start, (cos, sin), seen = model.begin()
        inside.copy_(start)
        turn[0].copy_(cos)
        turn[1].copy_(sin)
        mask.copy_(seen)
        query.copy_(model.layers[0].project(inside, model.position, turn))

    def between(one: int) -> None:
        inside.copy_(model.layers[one].finish(inside, attended))
        if one + 1 < len(model.layers):
            query.copy_(model.layers[one + 1].project(inside, model.position, turn))
        else:
            model.token.copy_(model.end(inside).argmax(-1, keepdim=True))
            model.position.copy_((model.position + 1) % len(model.places))

    def step(pieces: list[Step]) -> None:
        for piece, layer in zip(pieces, [None, *model.layers], strict=True):
            if layer is not None:
                attended.copy_(layer.attend(query, mask))
            piece()

    bodies: list[Step] = [first, *(partial(between, i) for i in range(len(model.layers)))]
    pieces = [captured(body) for body in bodies]

    def before() -> None:
        step(pieces)
        model.token[0, 0].item()

    def remedied() -> Step:
        replay = captured(partial(step, bodies))
        return lambda: (replay(), model.token[0, 0].item())

    return before, remedied


def denoising() -> tuple[Step, Callable[[], Step]]:
    """A diffusion-like U-Net, two rows of 32 x 32; then as one graph."""
    widths = (64, 128, 256, 256) if not SMALL else (8, 16)
    pairs = list(pairwise(widths))
    enter, leave = nn.Conv2d(4, widths[0], 3, padding=1), nn.Conv2d(widths[0], 4, 3, padding=1)
    down = nn.ModuleList(nn.ModuleList((Block(one, other), Block(other, other))) for one, other in pairs)
    up = nn.ModuleList(nn.ModuleList((Block(2 * other, one), Block(one, one))) for one, other in reversed(pairs))
    attention = nn.MultiheadAttention(widths[-1], 8, batch_first=True)
    for module in (enter, leave, down, up, attention):
        module.to(DEVICE, HALF).requires_grad_(False)
    latents = torch.randn(2, 4, 32, 32, device=DEVICE, dtype=HALF)
    start = latents.clone()
    frequency = torch.linspace(0, 1, 128, device=DEVICE)
    time = torch.full((2, 1), 50.0, device=DEVICE)

    def denoise() -> None:
        with torch.no_grad():
            when = torch.sin(time * frequency).to(HALF)
            x, kept = enter(latents), []
            for pair in down:
                for block in pair:
                    x = block(x, when)
                kept.append(x)
                x = functional.avg_pool2d(x, 2)
            rows = x.flatten(2).transpose(1, 2)
            x = (rows + attention(rows, rows, rows, need_weights=False)[0]).transpose(1, 2).reshape(x.shape)
            for pair in up:
                x = functional.interpolate(x, scale_factor=2)
                x = torch.cat((x, kept.pop()), 1)
                for block in pair:
                    x = block(x, when)
            latents.copy_(start * 0.1 + latents * 0.8 - leave(x) * 0.1)

    return denoise, lambda: captured(denoise)


def tiny() -> tuple[Step, Callable[[], Step]]:
    """A simulation: 800 kernels of two microseconds."""
    place, speed = (torch.randn(4096, device=DEVICE) for _ in range(2))

    def move() -> None:
        for _ in range(200):
            speed.mul_(0.99).add_(torch.sin(place), alpha=-0.01)
            place.add_(speed, alpha=0.01)

    return move, lambda: captured(move)


def fused() -> tuple[Step, Callable[[], Step]]:
    """Large rows through GEMMs and hand-written activations, in single operators; then compiled, without a graph."""
    width, rows = (2048, 8192) if not SMALL else (32, 16)
    weights = [torch.randn(width, width, device=DEVICE, dtype=HALF) / math.sqrt(width) for _ in range(16)]
    x = torch.randn(rows, width, device=DEVICE, dtype=HALF)

    def forward(y: torch.Tensor) -> torch.Tensor:
        for weight in weights:
            z = y @ weight
            z = 0.5 * z * (1 + torch.tanh(0.79788456 * (z + 0.044715 * z * z * z)))
            y = y + 0.5 * z
        return y

    def step(run: Callable[[torch.Tensor], torch.Tensor]) -> None:
        with torch.no_grad():
            run(x)

    return partial(step, forward), lambda: partial(step, torch.compile(forward) if CUDA else forward)


def two_streams() -> tuple[Step, Callable[[], Step]]:
    """Two towers side by side on two streams, launched by the host; then as one graph with both."""
    width, deep = (1024, 40) if not SMALL else (32, 2)
    towers = [
        [torch.randn(width, width, device=DEVICE, dtype=HALF) / math.sqrt(width) for _ in range(deep)] for _ in range(2)
    ]
    x = torch.randn(64, width, device=DEVICE, dtype=HALF)
    total = torch.zeros_like(x)
    side = torch.cuda.Stream() if CUDA else None

    def tower(weights: list[torch.Tensor]) -> torch.Tensor:
        y = x
        for weight in weights:
            y = functional.gelu(y @ weight) + 0.1 * y
        return y

    def forward() -> None:
        if side is None:
            total.copy_(tower(towers[0]) + tower(towers[1]))
            return
        here = torch.cuda.current_stream()
        side.wait_stream(here)
        with torch.cuda.stream(side):
            other = tower(towers[1])
        one = tower(towers[0])
        here.wait_stream(side)
        other.record_stream(here)
        total.copy_(one + other)

    return forward, lambda: captured(forward)


WORKLOADS: dict[str, Workload] = {
    "decode": Workload(decode, "graph", "eager decode, one row"),
    "vision": Workload(vision, "graph", "image prepared in numpy, then encoded and read"),
    "loader": Workload(loader, "workers", "training that fetches its own batches; then 8 workers"),
    "training": Workload(training, "graph", "a small transformer's training step"),
    "piecewise": Workload(piecewise, "graph", "serving-like decode, a graph between two attentions"),
    "denoising": Workload(denoising, "graph", "a diffusion-like U-Net"),
    "tiny": Workload(tiny, "graph", "800 kernels of about two microseconds"),
    "sampling": Workload(sampling, "graph", "decode of 16 rows, top-p in numpy"),
    "uploads": Workload(uploads, "overlap", "pageable copies before each forward; then pinned and fetched ahead"),
    "both-ways": Workload(both_ways, "overlap", "pinned copies there and back on one stream; then on three"),
    "two-streams": Workload(two_streams, "graph", "two towers on two streams"),
    "fused": Workload(fused, "compile", "GEMMs and hand-written activations; then torch.compile"),
}
