"""A fifth set of programs with a remedy each, written before the what-if that was mended by the fourth was tried on it.

Other architectures and habits than in the sets before: motion between pictures, Fourier transforms, fields along rays,
flows, spikes, adapters, codes of sound, a search in Python, weights that stay on the host, attention by hand:
`whatif_truth.py --set fifth`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from whatif_fifth_nets import (
    Adapted,
    Boards,
    Codes,
    Couplings,
    Field,
    Motion,
    Readers,
    Scenes,
    Spikes,
    Waves,
    residual,
    sound_net,
)
from whatif_models import CUDA, DEVICE, HALF, SMALL, Step
from whatif_third import Made, compiled, graphed, kept
from whatif_workloads import Workload, captured


def motion() -> Made:
    """How one picture moves into the next, corrected six times."""
    side = 256 if not SMALL else 32
    model = Motion(96 if not SMALL else 8).to(DEVICE)
    return graphed(kept(model, *(torch.randn(1, 3, side, side, device=DEVICE) for _ in range(2))))


def waves() -> Made:
    """Six layers of convolutions as long as their input, by Fourier transforms."""
    width, length = (256, 1024) if not SMALL else (16, 16)
    model = Waves(width, length, 6 if not SMALL else 1).to(DEVICE, HALF)
    return graphed(kept(model, torch.randn(2, length, width, device=DEVICE, dtype=HALF)))


def rays() -> Made:
    """1,024 rays with 48 places each ask a field for colour and density."""
    rays, places = (1024, 48) if not SMALL else (8, 4)
    model = Field(128 if not SMALL else 8, 8 if not SMALL else 2).to(DEVICE, HALF)
    far = torch.linspace(1, 4, places, device=DEVICE)
    return graphed(kept(model, torch.randn(rays, 3, device=DEVICE), torch.randn(rays, 3, device=DEVICE), far))


def flows() -> Made:
    """A normalising flow of 32 couplings, 512 rows."""
    model = Couplings(64, 256 if not SMALL else 8, 32 if not SMALL else 2).to(DEVICE)
    return graphed(kept(model, torch.randn(512 if not SMALL else 4, 64, device=DEVICE)))


def readers() -> Made:
    """128 vectors read 4,096 others and then each other, eight layers."""
    width, given = (512, 256) if not SMALL else (16, 8)
    model = Readers(width, given, 8 if not SMALL else 1).to(DEVICE, HALF)
    return graphed(kept(model, torch.randn(1, 4096 if not SMALL else 16, given, device=DEVICE, dtype=HALF)))


def spikes() -> Made:
    """Neurons that fire, three layers and 48 moments."""
    width, moments = (512, 48) if not SMALL else (16, 3)
    model = Spikes(width).to(DEVICE, HALF)
    return graphed(kept(model, torch.rand(moments, 64, width, device=DEVICE, dtype=HALF)))


def adapters() -> Made:
    """Adapters are trained beside the weights of a transformer that stay, a whole step; then as one graph."""
    width, words = (640, 4000) if not SMALL else (32, 50)
    model = Adapted(width, 6 if not SMALL else 1, words)
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], 1e-4, capturable=CUDA)
    tokens = torch.randint(0, words, (4, 128 if not SMALL else 8), device=DEVICE)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        logits = model(tokens)[:, :-1]
        functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten()).backward()
        optimizer.step()

    return graphed(train)


def codes() -> Made:
    """Four codes of sound a step, which the host reads; attention and MLP beside each other in each layer."""
    width, layers, positions = (1024, 20, 1024) if not SMALL else (32, 1, 16)
    model = Codes(width, layers, positions)

    def step(run: Step) -> None:
        with torch.no_grad():
            run()
        model.token.tolist()

    return partial(step, model.advance), lambda: partial(step, captured(torch.no_grad()(model.advance)))


def search() -> Made:
    """Python looks for moves in a tree, a net judges 32 boards, Python keeps what it says; then the net is a graph."""
    count, side = (32, 9) if not SMALL else (2, 5)
    model = Boards(96 if not SMALL else 8, 8 if not SMALL else 1).to(DEVICE, HALF)
    boards = torch.zeros(count, 4, side, side, device=DEVICE, dtype=HALF)
    with torch.no_grad():
        place = model(boards).clone()
    moves = side * side
    worth, visits = [[0.0] * moves for _ in range(count)], [[1.0] * moves for _ in range(count)]

    def judge() -> None:
        with torch.no_grad():
            place.copy_(model(boards))

    def choose(at: int) -> int:
        total = math.sqrt(sum(visits[at]))
        return max(range(moves), key=lambda i: worth[at][i] / visits[at][i] + total / (1 + visits[at][i]))

    def step(run: Step) -> None:
        chosen = [choose(at) for at in range(count)]
        seen = np.zeros((count, 4, moves), np.float32)
        for at, move in enumerate(chosen):
            seen[at, move % 4, move] = 1
        boards.copy_(torch.from_numpy(seen.reshape(count, 4, side, side)))
        run()
        for at, (move, said) in enumerate(zip(chosen, place.tolist(), strict=True)):
            worth[at][move] += said[-1]
            visits[at][move] = visits[at][move] % 50 + 1

    return partial(step, judge), lambda: partial(step, captured(judge))


def scenes() -> Made:
    """What each pixel shows, by convolutions with holes."""
    side = 320 if not SMALL else 64
    model = Scenes(96 if not SMALL else 8, 9 if not SMALL else 1).to(DEVICE, HALF).eval()
    return graphed(kept(model, torch.randn(1, 3, side, side, device=DEVICE, dtype=HALF)))


class Packed(Dataset):  # type: ignore[type-arg]
    """Measurements that are unpacked and scaled on the processor."""

    def __init__(self) -> None:
        chance, size = np.random.default_rng(0), 1 << (16 if not SMALL else 9)
        walks = [np.cumsum(chance.integers(-3, 4, size)).astype(np.int16) for _ in range(8)]
        self.packed = [zlib.compress(walk.tobytes(), 6) for walk in walks]

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        walk = np.frombuffer(zlib.decompress(self.packed[index % 8]), np.int16).astype(np.float32)
        return torch.from_numpy((walk - walk.mean()) / (walk.std() + 1))[None, ::4], index % 10


def packed() -> Made:
    """Training on measurements that are unpacked on the processor; then six workers unpack."""
    net = sound_net(64 if not SMALL else 8, 14 if not SMALL else 1, 10)
    optimizer = torch.optim.RMSprop(net.parameters(), 1e-4)

    def train(batches: Iterator[Any]) -> None:
        values, labels = next(batches)
        loss = functional.cross_entropy(net(values.to(DEVICE)), labels.to(DEVICE))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def batches(workers: int) -> Iterator[Any]:
        return iter(DataLoader(Packed(), batch_size=16 if not SMALL else 2, num_workers=workers))

    return partial(train, batches(0)), lambda: partial(train, batches(6 if CUDA else 1))


class Rooms(Dataset):  # type: ignore[type-arg]
    """Sounds as they come back from walls."""

    walls = np.random.default_rng(1).standard_normal((16, 96)).astype(np.float32)

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, index: int) -> torch.Tensor:
        sound = np.sin(np.arange(16_384 if not SMALL else 512, dtype=np.float32) * (0.01 + index % 7 / 50))
        return torch.from_numpy(np.convolve(sound, self.walls[index % 16], "same").astype(np.float32))[None]


def rooms() -> Made:
    """Sounds are changed on the processor and sorted on the device; then six workers change them."""
    net = sound_net(64 if not SMALL else 8, 40 if not SMALL else 1, 10).requires_grad_(False)
    place = torch.zeros(8 if not SMALL else 2, 10, device=DEVICE)

    def sort(batches: Iterator[Any]) -> None:
        place.copy_(net(next(batches).to(DEVICE)))

    def batches(workers: int) -> Iterator[Any]:
        return iter(DataLoader(Rooms(), batch_size=len(place), num_workers=workers))

    return partial(sort, batches(0)), lambda: partial(sort, batches(6 if CUDA else 1))


def offloaded() -> Made:
    """Weights stay in pinned memory and come layer by layer; then each comes while the layer before is computed."""
    width, count, layers = (4096, 8192, 8) if not SMALL else (16, 4, 2)
    weights = [(torch.randn(width, width) / math.sqrt(width)).to(HALF) for _ in range(layers)]
    weights = [weight.pin_memory() for weight in weights] if CUDA else weights
    x = torch.randn(count, width, device=DEVICE, dtype=HALF)
    places = [torch.empty(width, width, device=DEVICE, dtype=HALF) for _ in range(2)]

    def one_after_another() -> None:
        y = x
        for weight in weights:
            places[0].copy_(weight, non_blocking=True)
            y = functional.silu(y @ places[0])

    def remedied() -> Step:
        if not CUDA:
            return one_after_another
        side, turn = torch.cuda.Stream(), iter(range(10**9))
        arrived, free = ([torch.cuda.Event() for _ in range(2)] for _ in range(2))

        def fetch(i: int) -> None:
            with torch.cuda.stream(side):
                side.wait_event(free[i % 2])
                places[i % 2].copy_(weights[i % layers], non_blocking=True)
                arrived[i % 2].record()

        for event in free:
            event.record()
        fetch(0)

        def step() -> None:
            y, here = x, torch.cuda.current_stream()
            for _ in weights:
                i = next(turn)
                fetch(i + 1)
                here.wait_event(arrived[i % 2])
                y = functional.silu(y @ places[i % 2])
                free[i % 2].record()

        return step

    return one_after_another, remedied


def listening() -> Made:
    """Sounds in pageable memory become spectra on the device and are heard; then pinned, and fetched a step ahead."""
    rows, length, width = (48, 160_000, 384) if not SMALL else (2, 1600, 8)
    sounds = [torch.randn(rows, length) for _ in range(2)]
    window, bands = torch.hann_window(512, device=DEVICE), torch.rand(257, 80, device=DEVICE)
    net = nn.Sequential(
        nn.Conv1d(80, width, 3, padding=1),
        *(part for _ in range(6 if not SMALL else 1) for part in (nn.GELU(), nn.Conv1d(width, width, 3, padding=1))),
    )
    net.to(DEVICE, HALF).requires_grad_(False)
    turn = iter(range(10**9))

    def hear(x: torch.Tensor) -> torch.Tensor:
        power = torch.stft(x, 512, 160, window=window, return_complex=True).abs().square()
        return net(torch.log(power.transpose(1, 2) @ bands + 1e-6).transpose(1, 2).to(HALF)).mean(-1)

    def remedied() -> Step:
        if not CUDA:
            return lambda: hear(sounds[next(turn) % 2].to(DEVICE))
        pinned, side = [one.pin_memory() for one in sounds], torch.cuda.Stream()
        ahead: list[torch.Tensor] = []

        def fetch() -> None:
            with torch.cuda.stream(side):
                ahead.append(pinned[next(turn) % 2].to(DEVICE, non_blocking=True))

        def step() -> None:
            here = torch.cuda.current_stream()
            here.wait_stream(side)
            x = ahead.pop()
            x.record_stream(here)
            fetch()
            hear(x)

        fetch()
        return step

    return lambda: hear(sounds[next(turn) % 2].to(DEVICE)), remedied


def capped() -> Made:
    """Attention by hand whose scores are capped and lean to near places, four layers; then compiled."""
    rows, heads, length, size = (8, 16, 1024, 64) if not SMALL else (1, 2, 8, 4)
    width = heads * size
    weights = [torch.randn(2, width, 3 * width, device=DEVICE, dtype=HALF) / math.sqrt(width) for _ in range(4)]
    places = torch.arange(length, device=DEVICE)
    lean = -(places[:, None] - places).abs().to(HALF) * 0.01
    later = places[None] > places[:, None]

    def forward(x: torch.Tensor) -> torch.Tensor:
        for mixed, out in weights:
            parts = (x @ mixed).view(rows, length, 3, heads, size).permute(2, 0, 3, 1, 4)
            scores = parts[0] @ parts[1].transpose(-1, -2) / math.sqrt(size)
            scores = 30 * torch.tanh(scores / 30) + lean
            near = torch.softmax(scores.masked_fill(later, -1e4), -1)
            y = (near @ parts[2]).transpose(1, 2).reshape(rows, length, width)
            x = functional.layer_norm(x + y @ out[:, :width], (width,))
        return x

    return compiled(forward, torch.randn(rows, length, width, device=DEVICE, dtype=HALF))


def norms() -> Made:
    """Residual convolutions with norms of the batch are trained on 256 pictures; then compiled."""
    side = 32 if not SMALL else 8
    net = residual(128 if not SMALL else 8, 5 if not SMALL else 1)
    optimizer = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9)
    count = 256 if not SMALL else 2
    x = torch.randn(count, 3, side, side, device=DEVICE).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 100, (count,), device=DEVICE)

    def train(run: Callable[..., torch.Tensor]) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = functional.cross_entropy(run(x).float(), labels)
        loss.backward()
        optimizer.step()

    return partial(train, net), lambda: partial(train, torch.compile(net) if CUDA else net)


WORKLOADS: dict[str, Workload] = {
    "motion": Workload(motion, "graph", "how a picture moves into the next"),
    "waves": Workload(waves, "graph", "long convolutions by Fourier transforms"),
    "rays": Workload(rays, "graph", "a field is asked along rays"),
    "flows": Workload(flows, "graph", "a normalising flow"),
    "readers": Workload(readers, "graph", "a few vectors read a long input"),
    "spikes": Workload(spikes, "graph", "neurons that fire"),
    "adapters": Workload(adapters, "graph", "adapters are trained beside weights that stay"),
    "codes": Workload(codes, "graph", "four codes of sound a step, read by the host"),
    "search": Workload(search, "graph", "a search in Python asks a net"),
    "scenes": Workload(scenes, "graph", "what each pixel shows"),
    "packed": Workload(packed, "workers", "measurements unpacked by the processor, training; then 6 workers"),
    "rooms": Workload(rooms, "workers", "sounds changed by the processor, sorted; then 6 workers"),
    "offloaded": Workload(offloaded, "overlap", "weights come layer by layer; then a layer ahead"),
    "listening": Workload(listening, "overlap", "sounds from pageable memory; then pinned and a step ahead"),
    "capped": Workload(capped, "compile", "attention by hand, capped and leaning"),
    "norms": Workload(norms, "compile", "residual convolutions with norms of the batch, trained; then compiled"),
}
