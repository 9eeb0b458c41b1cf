"""Programs of two ranks with a remedy that both apply: for whatif_two_gpus.py.

A program gives the step of a rank and a function that makes the step with the remedy. Both ranks run the same steps and
meet in collectives. Models are plain torch with random weights; without a GPU all is small, and remedies that need one
are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from whatif_models import CUDA, DEVICE, HALF, SMALL, Decoder, Layer, Norm, Pictures, Step, residual_net
from whatif_workloads import Workload
from whatif_workloads import captured as captured_alone

RANKS = 2
Made = tuple[Step, Callable[[], Step]]


def captured(body: Step) -> Step:
    """The same work as one graph replay. The communicator's own thread may look at the device meanwhile."""
    return captured_alone(body, "thread_local")


def replayed_logits(logits: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """The same logits from one graph replay, always in one place."""
    place = logits()

    def forward() -> None:
        place.copy_(logits())

    replay = captured(forward)

    def replayed() -> torch.Tensor:
        replay()
        return place

    return replayed


def summed(x: torch.Tensor) -> torch.Tensor:
    """The sum over the ranks."""
    dist.all_reduce(x)
    return x


def gathered(x: torch.Tensor) -> torch.Tensor:
    """The ranks' parts one behind another, along the last dimension."""
    parts = torch.empty(RANKS * len(x), *x.shape[1:], device=x.device, dtype=x.dtype)
    dist.all_gather_into_tensor(parts, x.contiguous())
    return torch.cat(parts.chunk(RANKS), dim=-1)


class Shard(Layer):
    """A rank's part of a decoder layer: some heads and a part of the MLP's width, each summed over the ranks."""

    def __init__(self, width: int, heads: int, cache: tuple[int, int], own: tuple[int, int]) -> None:
        """own: how many heads and how much of the MLP's width this rank has. cache: its rows and positions."""
        super().__init__(width, heads, *cache)
        self.heads = own[0]
        wide = self.heads * self.size
        self.query, self.key, self.value = (nn.Linear(width, wide, bias=False) for _ in range(3))
        self.out = nn.Linear(wide, width, bias=False)
        self.gate, self.up = (nn.Linear(width, own[1], bias=False) for _ in range(2))
        self.down = nn.Linear(own[1], width, bias=False)
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(cache[0], self.heads, cache[1], self.size))

    def finish(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """Output projection and MLP."""
        rows, _, count, _ = attended.shape
        x = x + summed(self.out(attended.transpose(1, 2).reshape(rows, count, -1)))
        return x + summed(self.mlp(self.norm_mlp(x)))

    def mlp(self, y: torch.Tensor) -> torch.Tensor:
        """This rank's part of the MLP."""
        return self.down(functional.silu(self.gate(y)) * self.up(y))


class Experts(Shard):
    """The same with a rank's half of eight experts instead of an MLP."""

    def __init__(self, width: int, heads: int, cache: tuple[int, int], own: tuple[int, int]) -> None:
        super().__init__(width, heads, cache, own)
        self.router = nn.Linear(width, 8, bias=False)
        self.inward = nn.Parameter(torch.randn(4, width, own[1] // 2) / math.sqrt(width))
        self.outward = nn.Parameter(torch.randn(4, own[1] // 2, width) / math.sqrt(own[1]))

    def mlp(self, y: torch.Tensor) -> torch.Tensor:
        """Each token by the experts of this rank that are among its two."""
        flat = y.reshape(-1, y.shape[-1])
        chance = torch.softmax(self.router(flat).float(), -1)
        best, which = chance.topk(2, -1)
        share = torch.zeros_like(chance).scatter_(-1, which, best / best.sum(-1, keepdim=True))
        hidden = functional.silu(torch.matmul(flat[None], self.inward))
        made = torch.matmul(hidden, self.outward)
        mine = share.to(y.dtype).t()[dist.get_rank() * 4 :][:4]
        return (made * mine[:, :, None]).sum(0).view_as(y)


def decoder(layers: int, *, rows: int = 1, kind: type[Shard] = Shard, heads: tuple[int, int] = (8, 8)) -> Decoder:
    """A decoder of which each rank has a part. heads: how many of 16 each rank has; MLPs are parted likewise."""
    model = Decoder(1, rows=rows)
    width, positions = model.embedding.embedding_dim, len(model.places)
    own = heads[dist.get_rank()]
    parts = [
        kind(width, 16, (rows, positions), (own, 3 * width * own // 16)) for _ in range(layers if not SMALL else 2)
    ]
    model.layers = nn.ModuleList(parts).to(DEVICE, HALF).requires_grad_(False)
    return model


def read(advance: Step, model: Decoder) -> None:
    """A token, which goes to the host, as a stopping check needs it."""
    advance()
    model.token[0, 0].item()


def tp_decode() -> Made:
    """Greedy decode, tensor-parallel."""
    model = decoder(24)
    return partial(read, model.advance, model), lambda: partial(read, captured(model.advance), model)


def tp_experts() -> Made:
    """Decode of 16 rows, tensor-parallel, with experts; nobody reads the tokens."""
    model = decoder(12, rows=16, kind=Experts)
    return model.advance, lambda: captured(model.advance)


def tp_sampling() -> Made:
    """Decode of 8 rows, tensor-parallel; both ranks sample in numpy between two forwards."""
    model = decoder(16, rows=8)
    chance = np.random.default_rng(0)

    def step(forward: Callable[[], torch.Tensor]) -> None:
        values = forward().float().cpu().numpy()
        order = np.argsort(-values, axis=-1)
        ordered = np.exp(np.take_along_axis(values, order, -1) - values.max(-1, keepdims=True))
        share = np.cumsum(ordered, -1) / ordered.sum(-1, keepdims=True)
        chosen = (chance.random(len(order)) * np.maximum((share < 0.9).sum(-1), 1)).astype(int)
        model.token.copy_(torch.from_numpy(np.take_along_axis(order, chosen[:, None], -1)))
        model.position.copy_((model.position + 1) % len(model.places))

    return partial(step, model.logits), lambda: partial(step, replayed_logits(model.logits))


def unequal() -> Made:
    """Greedy decode of 32 rows, tensor-parallel; the second rank has 9 of 16 heads and of 16 parts of the MLPs."""
    model = decoder(16, rows=32, heads=(7, 9))
    return partial(read, model.advance, model), lambda: partial(read, captured(model.advance), model)


class Gathering(nn.Module):
    """An encoder's layer by columns: each rank has half of the outputs of each product, and they are gathered."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads // RANKS
        self.norm, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixed, self.out = nn.Linear(width, 3 * width // RANKS), nn.Linear(width, width // RANKS)
        self.up, self.down = nn.Linear(width, 4 * width // RANKS), nn.Linear(4 * width, width // RANKS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, count, _ = x.shape
        mixed = self.mixed(self.norm(x)).view(rows, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(*mixed).transpose(1, 2).reshape(rows, count, -1)
        x = x + gathered(self.out(gathered(attended)))
        return x + gathered(self.down(gathered(functional.gelu(self.up(self.norm_mlp(x))))))


class Scattering(nn.Module):
    """A layer whose norms see half of the sequence on each rank: gathered before each product, scattered behind it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads // RANKS
        self.norm, self.norm_mlp = Norm(width), Norm(width)
        self.mixed = nn.Linear(width, 3 * width // RANKS, bias=False)
        self.out = nn.Linear(width // RANKS, width, bias=False)
        self.up = nn.Linear(width, 4 * width // RANKS, bias=False)
        self.down = nn.Linear(4 * width // RANKS, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: this rank's half of the tokens, by width."""
        whole = self._whole(self.norm(x))
        mixed = self.mixed(whole).view(len(whole), 3, self.heads, -1).permute(1, 2, 0, 3)
        attended = functional.scaled_dot_product_attention(*mixed, is_causal=True)
        x = x + self._half(self.out(attended.transpose(0, 1).reshape(len(whole), -1)))
        return x + self._half(self.down(functional.gelu(self.up(self._whole(self.norm_mlp(x))))))

    def _whole(self, x: torch.Tensor) -> torch.Tensor:
        whole = torch.empty(RANKS * len(x), x.shape[1], device=x.device, dtype=x.dtype)
        dist.all_gather_into_tensor(whole, x)
        return whole

    def _half(self, x: torch.Tensor) -> torch.Tensor:
        half = torch.empty(len(x) // RANKS, x.shape[1], device=x.device, dtype=x.dtype)
        dist.reduce_scatter_tensor(half, x)
        return half


def without_gradients(model: nn.Module, x: torch.Tensor) -> Made:
    """A forward as it is, and as one graph."""
    model.to(DEVICE, HALF).requires_grad_(False)
    place = model(x).clone()

    def forward() -> None:
        with torch.no_grad():
            place.copy_(model(x))

    return forward, lambda: captured(forward)


def tp_encoder() -> Made:
    """An encoder over 4 rows of 128 tokens by columns: everything is gathered."""
    width = 1024 if not SMALL else 64
    model = nn.Sequential(*(Gathering(width, 16) for _ in range(12 if not SMALL else 1)))
    return without_gradients(model, torch.randn(4, 128 if not SMALL else 8, width, device=DEVICE, dtype=HALF))


def sequence_parallel() -> Made:
    """Prefill of 1,024 tokens: gathered before and scattered behind each product."""
    width = 1024 if not SMALL else 64
    model = nn.Sequential(*(Scattering(width, 16) for _ in range(16 if not SMALL else 1)))
    return without_gradients(model, torch.randn(512 if not SMALL else 8, width, device=DEVICE, dtype=HALF))


def parallel(model: nn.Module) -> nn.Module:
    """Data-parallel."""
    return DistributedDataParallel(model, device_ids=[torch.cuda.current_device()] if CUDA else None)


def trained(model: nn.Module) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """A training step: forward, backward, SGD; it gives the loss."""
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)

    def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def ddp_loader() -> Made:
    """Data-parallel training; pictures are made in Python, then by workers; the loss goes to the host."""
    train = trained(parallel(residual_net(64 if not SMALL else 8, 8 if not SMALL else 1)))

    def step(batches: Iterator[Any]) -> None:
        x, y = next(batches)
        train(x.to(DEVICE), y.to(DEVICE)).item()

    def loader(workers: int) -> Step:
        batch = 12 if not SMALL else 2
        return partial(step, iter(DataLoader(Pictures(), batch, num_workers=workers, persistent_workers=workers > 0)))

    return loader(0), lambda: loader(8 if not SMALL else 1)


def ddp_copies() -> Made:
    """Data-parallel training on pageable batches; then they are pinned, and copied a step ahead."""
    train = trained(parallel(residual_net(64 if not SMALL else 8, 6 if not SMALL else 1)))
    shape = (256, 3, 224, 224) if not SMALL else (2, 3, 16, 16)
    batches = [torch.randn(shape) for _ in range(2)]
    labels = torch.zeros(shape[0], dtype=torch.long, device=DEVICE)
    turn = [0]

    def pageable() -> None:
        turn[0] += 1
        train(batches[turn[0] % 2].to(DEVICE), labels)

    def remedied() -> Step:
        if not CUDA:
            return pageable
        pinned, places = [batch.pin_memory() for batch in batches], [batch.to(DEVICE) for batch in batches]
        side = torch.cuda.Stream()

        def ahead() -> None:
            turn[0] += 1
            here = turn[0] % 2
            torch.cuda.current_stream().wait_stream(side)  # this step's batch is there
            side.wait_stream(torch.cuda.current_stream())  # the step before has read the other place
            with torch.cuda.stream(side):
                places[1 - here].copy_(pinned[1 - here], non_blocking=True)
            train(places[here], labels)

        return ahead

    return pageable, remedied


class Reader(nn.Module):
    """A small encoder with a head, in single operators."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, width)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": Norm(width),
                    "mixed": nn.Linear(width, 3 * width),
                    "out": nn.Linear(width, width),
                    "norm_mlp": Norm(width),
                    "up": nn.Linear(width, 4 * width),
                    "down": nn.Linear(4 * width, width),
                }
            )
            for _ in range(layers)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        rows, count, width = x.shape
        for layer in self.layers:
            mixed = layer["mixed"](layer["norm"](x)).view(rows, count, 3, 8, width // 8).permute(2, 0, 3, 1, 4)
            attended = functional.scaled_dot_product_attention(*mixed)
            x = x + layer["out"](attended.transpose(1, 2).reshape(rows, count, width))
            y = layer["up"](layer["norm_mlp"](x))
            x = x + layer["down"](0.5 * y * (1 + torch.tanh(0.8 * (y + 0.04 * y * y * y))))
        return self.head(x.mean(1))


def reader(layers: int) -> nn.Module:
    """It on this rank's device."""
    return Reader(layers if not SMALL else 1, 512 if not SMALL else 64).to(DEVICE)


def tokens(rows: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch and its labels."""
    size = (rows, count) if not SMALL else (2, 8)
    return torch.randint(0, 1000, size, device=DEVICE), torch.zeros(size[0], dtype=torch.long, device=DEVICE)


def averaged() -> Made:
    """Data-parallel training by hand: a sum over the ranks for each parameter, then SGD; and all of it as a graph."""
    model, (x, y) = reader(6), tokens(8, 128)
    weights = list(model.parameters())

    def step() -> None:
        loss = functional.cross_entropy(model(x), y)
        gradients = [summed(gradient.contiguous()) for gradient in torch.autograd.grad(loss, weights)]
        with torch.no_grad():
            torch._foreach_add_(weights, gradients, alpha=-1e-3 / RANKS)

    return step, lambda: captured(step)


def ddp_compile() -> Made:
    """Data-parallel training, 64 rows of 128 tokens; then the model inside is compiled."""
    x, y = tokens(64, 128)
    eager, model = trained(parallel(reader(4))), reader(4)
    return partial(eager, x, y), lambda: partial(trained(parallel(torch.compile(model) if CUDA else model)), x, y)


PROGRAMS = {
    "tp decode": Workload(tp_decode, "graph", "greedy decode, tensor-parallel, each token read"),
    "ddp loader": Workload(ddp_loader, "workers", "DDP training, pictures made in Python"),
    "sequence": Workload(sequence_parallel, "graph", "sequence-parallel prefill, gathered and scattered"),
    "ddp copies": Workload(ddp_copies, "overlap", "DDP training, pageable batches"),
    "averaged": Workload(averaged, "graph", "training step, gradients averaged by hand"),
    "unequal": Workload(unequal, "graph", "tensor-parallel decode, 7 and 9 of 16 parts"),
    "tp experts": Workload(tp_experts, "graph", "decode with experts, tensor-parallel, not read"),
    "tp encoder": Workload(tp_encoder, "graph", "encoder by columns, all gathered"),
    "tp sampling": Workload(tp_sampling, "graph", "tensor-parallel decode, sampled in numpy"),
    "ddp compile": Workload(ddp_compile, "compile", "DDP training, the model compiled"),
}
