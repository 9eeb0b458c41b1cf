"""Programs of whatif_eighth.py that wait to be fed: by a loader in their process, or by copies of pageable memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from whatif_eighth_nets import Fourier, Letters, Patches, in_two_places, pinned
from whatif_models import CUDA, DEVICE, HALF, SMALL, Batch, Step, fetched
from whatif_seventh_nets import library, published
from whatif_third import Made

MANY = 1 << 20


def together(items: list[tuple[Any, ...]]) -> Batch:
    """A batch, put together by numpy: torch would take threads for it."""
    return tuple(torch.from_numpy(np.stack(part)) for part in zip(*items, strict=True))


class Lines(Dataset[Any]):
    """Words drawn into a line, turned a little, blurred and made noisy as they are asked for."""

    signs = "abcdefghijklmnopqrstuvwxyz0123456789 "

    def __init__(self) -> None:
        self.font = ImageFont.load_default(size=20)

    def __len__(self) -> int:
        return MANY

    def __getitem__(self, at: int) -> tuple[Any, ...]:
        chance = np.random.default_rng(at)
        codes = chance.integers(1, len(self.signs) + 1, 14)
        line = Image.new("L", (256, 32), 255)
        text = "".join(self.signs[code - 1] for code in codes)
        ImageDraw.Draw(line).text((6, 3), text, fill=int(chance.integers(0, 90)), font=self.font)
        line = line.rotate(float(chance.uniform(-2, 2)), Image.Resampling.BICUBIC, fillcolor=255)
        line = line.filter(ImageFilter.GaussianBlur(float(chance.uniform(0.2, 1))))
        grey = np.asarray(line, dtype=np.float32) + chance.normal(0, 8, (32, 256)).astype(np.float32)
        return (grey / 127.5 - 1)[None], codes


def lines() -> Made:
    """A net of convolutions and LSTMs learns to read lines that Pillow draws; then six workers draw them."""
    rows, width = (16, 48) if not SMALL else (2, 4)
    net = Letters(width, len(Lines.signs) + 1).to(DEVICE)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)

    def train(batches: Iterator[Any]) -> None:
        given, codes = (part.to(DEVICE) for part in next(batches))
        said = net(given)
        lengths = (len(said),) * rows, (codes.shape[1],) * rows
        loss = functional.ctc_loss(said, codes, *lengths, zero_infinity=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def batches(workers: int) -> Iterator[Any]:
        return iter(DataLoader(Lines(), rows, num_workers=workers, collate_fn=together))

    return partial(train, batches(0)), lambda: partial(train, batches(6 if CUDA else 1))


class Formulas(Dataset[Any]):
    """Molecules as SMILES, parsed into atoms and bonds by Python as they are asked for."""

    def __init__(self, make: Any, atoms: int) -> None:
        self.make, self.atoms = make, atoms

    def __len__(self) -> int:
        return MANY

    def written(self, at: int) -> str:
        """A formula: a chain with branches of one atom, and a ring over every six atoms."""
        chance = np.random.default_rng(at)
        parts = []
        for i, kind in enumerate(chance.choice(list("CCCCNOSF"), self.atoms).tolist()):
            ring = str(1 + i // 6 % 9) if i % 6 in {0, 5} else ""
            parts.append(f"({kind})" if i % 6 == 2 else ("=" if i % 6 == 4 else "") + kind + ring)
        return "".join(parts)

    def __getitem__(self, at: int) -> Any:
        kinds: list[str] = []
        bonds: list[tuple[int, int, int]] = []
        rings: dict[str, int] = {}
        stack: list[int] = []
        last, order = -1, 1
        for sign in self.written(at):
            if sign in "CNOSF":
                kinds.append(sign)
                if last >= 0:
                    bonds.append((last, len(kinds) - 1, order))
                last, order = len(kinds) - 1, 1
            elif sign == "=":
                order = 2
            elif sign == "(":
                stack.append(last)
            elif sign == ")":
                last = stack.pop()
            elif sign in rings:
                bonds.append((rings.pop(sign), last, 1))
            else:
                rings[sign] = last
        around: list[list[int]] = [[] for _ in kinds]
        for one, other, _ in bonds:
            around[one].append(other)
            around[other].append(one)
        atoms = [
            [float(kind == one) for one in "CNOSF"]
            + [float(len(near) == n) for n in range(5)]
            + [sum(kinds[i] == one for i in near) / 4 for one in "CNOSF"]
            + [len({k for i in near for j in around[i] for k in around[j]}) / 16]
            for kind, near in zip(kinds, around, strict=True)
        ]
        ends = [[one, other] for one, other, _ in bonds] + [[other, one] for one, other, _ in bonds]
        kind_of_bond = [[float(order == 1), float(order == 2)] for _ in range(2) for _, _, order in bonds]
        return self.make(
            x=torch.tensor(atoms),
            edge_index=torch.tensor(ends).t().contiguous(),
            edge_attr=torch.tensor(kind_of_bond),
            y=torch.tensor([sum(kind == "N" for kind in kinds) / len(kinds)]),
        )


def smiles() -> Made:
    """AttentiveFP by torch_geometric learns from molecules that Python parses; then four workers parse them."""
    geometric = library("torch_geometric.nn")
    width, rows, atoms = (128, 24, 36) if not SMALL else (8, 2, 12)
    formulas = Formulas(library("torch_geometric.data").Data, atoms)
    net = geometric.AttentiveFP(16, width, 1, edge_dim=2, num_layers=3, num_timesteps=2, dropout=0.1).to(DEVICE)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, weight_decay=1e-5)

    def train(batches: Iterator[Any]) -> None:
        batch = next(batches).to(DEVICE, non_blocking=True)
        optimizer.zero_grad()
        said = net(batch.x, batch.edge_index, batch.edge_attr, batch.batch)[:, 0]
        functional.mse_loss(said, batch.y).backward()
        optimizer.step()

    def batches(workers: int) -> Iterator[Any]:
        loader = library("torch_geometric.loader").DataLoader
        return iter(loader(formulas, batch_size=rows, num_workers=workers, pin_memory=CUDA))

    return partial(train, batches(0)), lambda: partial(train, batches(4 if CUDA else 1))


class Clouds(Dataset[Any]):
    """Clouds of points, cut into patches around points that lie far apart, as they are asked for."""

    def __init__(self, near: Any, points: int, patches: int) -> None:
        self.near, self.points, self.patches = near, points, patches

    def __len__(self) -> int:
        return MANY

    def __getitem__(self, at: int) -> tuple[Any, ...]:
        chance = np.random.default_rng(at)
        raw = chance.standard_normal((self.points, 3), dtype=np.float32)
        raw /= np.sqrt((raw**2).sum(1, keepdims=True)) + np.abs(raw[:, at % 3 : at % 3 + 1])
        angle = chance.uniform(0, 2 * np.pi)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        raw = np.stack((cos * raw[:, 0] - sin * raw[:, 1], sin * raw[:, 0] + cos * raw[:, 1], raw[:, 2]), 1)
        cloud = raw * chance.uniform(0.8, 1.25, 3).astype(np.float32)
        cloud += np.clip(chance.normal(0, 0.01, cloud.shape), -0.03, 0.03).astype(np.float32)
        chosen, far = [0], np.full(self.points, np.inf, dtype=np.float32)
        for _ in range(self.patches - 1):
            np.minimum(far, ((cloud - cloud[chosen[-1]]) ** 2).sum(1), out=far)
            chosen.append(int(far.argmax()))
        centres = cloud[chosen]
        _, places = self.near(cloud).query(centres, k=min(32, self.points))
        return cloud[places] - centres[:, None], centres, np.int64(at % 3)


def clouds() -> Made:
    """A transformer learns from clouds that numpy and scipy cut into patches; then five workers cut them."""
    rows, points, patches = (8, 1024, 64) if not SMALL else (2, 64, 4)
    sets = Clouds(library("scipy.spatial").cKDTree, points, patches)
    net = Patches(*((384, 5, 3) if not SMALL else (12, 1, 3))).to(DEVICE)
    optimizer = torch.optim.AdamW(net.parameters(), 5e-4, weight_decay=0.05)

    def train(batches: Iterator[Any]) -> float:
        cut, centres, kinds = (part.to(DEVICE) for part in next(batches))
        with torch.autocast(DEVICE, torch.bfloat16):
            said = net(cut, centres)
        loss = functional.cross_entropy(said.float(), kinds, label_smoothing=0.2)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 10)
        optimizer.step()
        return float(loss.item())

    def batches(workers: int) -> Iterator[Any]:
        return iter(DataLoader(sets, rows, shuffle=True, num_workers=workers, collate_fn=together))

    return partial(train, batches(0)), lambda: partial(train, batches(5 if CUDA else 1))


def tagging() -> Made:
    """An audio spectrogram transformer tags sounds from pageable memory; then pinned and a step ahead."""
    rows, columns = (48, 1024) if not SMALL else (2, 40)
    sizes = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6, "num_hidden_layers": 6}
    if SMALL:
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1}
    model = published("audio-spectrogram-transformer", attention="sdpa", max_length=columns, num_mel_bins=128, **sizes)
    head = torch.nn.Linear(sizes["hidden_size"], 527).to(DEVICE, HALF).requires_grad_(False)
    stored = [(torch.from_numpy(np.random.default_rng(i).random((rows, columns, 128), np.float32)),) for i in range(3)]
    turn = itertools.cycle(stored)

    def tag(sounds: torch.Tensor) -> Any:
        with torch.no_grad():
            seen = model(input_values=((sounds + 4.27) / 9.14).to(HALF)).pooler_output
            return head(seen).float().sigmoid().topk(5).indices.tolist()

    def remedied() -> Step:
        return fetched(itertools.cycle([pinned(one) for one in stored]), tag)

    return lambda: tag(next(turn)[0].to(DEVICE)), remedied


def emulator() -> Made:
    """A Fourier neural operator is trained on fields from pageable memory; then pinned and a step ahead."""
    fields, side, rows, width, modes = (5, 256, 16, 32, 16) if not SMALL else (2, 16, 2, 4, 4)
    net = Fourier(fields, width, modes, 4 if not SMALL else 1).to(DEVICE)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    shape, stored = (rows, fields, side, side), []
    for i in range(2):
        chance = np.random.default_rng(i)
        stored.append(tuple(torch.from_numpy(chance.standard_normal(shape, np.float32)) for _ in range(2)))
    turn = itertools.cycle(stored)

    def train(now: torch.Tensor, later: torch.Tensor) -> None:
        optimizer.zero_grad()
        off = (net(now) - later).flatten(1).norm(dim=1) / later.flatten(1).norm(dim=1)
        off.mean().backward()
        optimizer.step()

    def remedied() -> Step:
        return in_two_places(itertools.cycle([pinned(one) for one in stored]), stored[0], train)

    return lambda: train(*(part.to(DEVICE) for part in next(turn))), remedied


def corpus() -> Made:
    """The nearest of many passages whose vectors lie in pageable memory, part by part; then pinned and a part ahead."""
    asked, rows, width = (2048, 50_000, 768) if not SMALL else (4, 64, 16)
    parts = [(torch.randn(rows, width, device=DEVICE).to(HALF).cpu(),) for _ in range(3)]
    questions = torch.randn(asked, width, device=DEVICE, dtype=HALF)
    best = torch.full((asked, 16), float("-inf"), device=DEVICE, dtype=HALF)
    where, start = torch.zeros(asked, 16, dtype=torch.long, device=DEVICE), itertools.cycle(range(0, 3 * rows, rows))
    turn = itertools.cycle(parts)

    def look(part: torch.Tensor) -> None:
        values, places = (questions @ part.t()).topk(16)
        both = torch.cat((best, values), 1)
        every = torch.cat((where, places + next(start)), 1)
        values, chosen = both.topk(16)
        best.copy_(values)
        where.copy_(every.gather(1, chosen))

    def remedied() -> Step:
        return in_two_places(itertools.cycle([pinned(one) for one in parts]), parts[0], look)

    return lambda: look(next(turn)[0].to(DEVICE)), remedied
