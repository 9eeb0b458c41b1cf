"""Nets of whatif_ninth.py that no library here has, and games of Reversi."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

WAYS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]


def turned_by(board: list[list[int]], row: int, column: int, side: int) -> list[tuple[int, int]]:
    """The stones that a move turns; none where it isn't allowed."""
    found: list[tuple[int, int]] = []
    if board[row][column]:
        return found
    for down, right in WAYS:
        line, r, c = [], row + down, column + right
        while 0 <= r < 8 and 0 <= c < 8 and board[r][c] == -side:
            line.append((r, c))
            r, c = r + down, c + right
        if 0 <= r < 8 and 0 <= c < 8 and board[r][c] == side:
            found += line
    return found


class Boards(Dataset[Any]):
    """Beginnings of games of Reversi, played by chance as they are asked for."""

    def __init__(self, moves: int) -> None:
        self.moves = moves

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, at: int) -> tuple[Any, ...]:
        chance, side = np.random.default_rng(at), 1
        board = [[0] * 8 for _ in range(8)]
        board[3][3] = board[4][4] = -1
        board[3][4] = board[4][3] = 1
        planes, chosen = np.zeros((self.moves, 3, 8, 8), np.float32), np.zeros(self.moves, np.int64)
        for move in range(self.moves):
            may = {(r, c): gone for r in range(8) for c in range(8) if (gone := turned_by(board, r, c, side))}
            stones = np.array(board)
            planes[move, 0], planes[move, 1] = stones == side, stones == -side
            if may:
                place = list(may)[int(chance.integers(len(may)))]
                for row, column in (place, *may[place]):
                    board[row][column] = side
                planes[move, 2, place[0], place[1]] = len(may) / 16
                chosen[move] = 8 * place[0] + place[1]
            side = -side
        ahead = np.sign(np.sum(board))
        return planes, chosen, np.full((self.moves, 1), ahead, np.float32)


class Player(nn.Module):
    """Residual convolutions over a board, a head for the move and one for the result."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
            )
            for _ in range(blocks)
        )
        self.move = nn.Sequential(nn.Conv2d(width, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 64))
        self.worth = nn.Sequential(nn.Conv2d(width, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 1), nn.Tanh())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.enter(x)
        for block in self.blocks:
            x = functional.relu(x + block(x))
        return self.move(x), self.worth(x)


class Told(nn.Module):
    """Two convolutions along time, scaled and shifted by what is known."""

    def __init__(self, one: int, other: int, known: int) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Sequential(nn.Conv1d(n, other, 5, padding=2), nn.GroupNorm(8, other), nn.Mish()) for n in (one, other)
        )
        self.tell = nn.Sequential(nn.Mish(), nn.Linear(known, 2 * other))
        self.skip = nn.Conv1d(one, other, 1) if one != other else nn.Identity()

    def forward(self, x: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        scale, shift = self.tell(known)[..., None].chunk(2, 1)
        return self.second(scale * self.first(x) + shift) + self.skip(x)


class Policy(nn.Module):
    """A U-Net along time that takes the noise out of a plan."""

    def __init__(self, moves: int, widths: tuple[int, int, int], sees: int) -> None:
        super().__init__()
        first, middle, last = widths
        known = first + sees
        self.half = first // 2
        self.moment = nn.Sequential(nn.Linear(first, 4 * first), nn.Mish(), nn.Linear(4 * first, first))
        pairs = ((moves, first), (first, first), (first, middle), (middle, middle), (middle, last), (last, last))
        self.down = nn.ModuleList(Told(*pair, known) for pair in pairs)
        self.smaller = nn.ModuleList(nn.Conv1d(n, n, 3, 2, 1) for n in (first, middle))
        self.low = nn.ModuleList(Told(last, last, known) for _ in range(2))
        back = ((2 * last, middle), (middle, middle), (2 * middle, first), (first, first))
        self.up = nn.ModuleList(Told(*pair, known) for pair in back)
        self.larger = nn.ModuleList(nn.ConvTranspose1d(n, n, 4, 2, 1) for n in (middle, first))
        self.leave = nn.Sequential(nn.Conv1d(first, first, 5, padding=2), nn.GroupNorm(8, first), nn.Mish())
        self.say = nn.Conv1d(first, moves, 1)

    def forward(self, x: torch.Tensor, moment: torch.Tensor, sees: torch.Tensor) -> torch.Tensor:
        rate = torch.exp(-9.2 * torch.arange(self.half, device=x.device) / (self.half - 1))
        angle = moment.float()[:, None] * rate
        known = torch.cat((self.moment(torch.cat((angle.sin(), angle.cos()), -1).to(x.dtype)), sees), 1)
        kept = []
        for i in range(3):
            x = self.down[2 * i + 1](self.down[2 * i](x, known), known)
            kept.append(x)
            x = self.smaller[i](x) if i < 2 else x
        for block in self.low:
            x = block(x, known)
        for i in range(2):
            x = self.up[2 * i](torch.cat((x, kept.pop()), 1), known)
            x = self.larger[i](self.up[2 * i + 1](x, known))
        return self.say(self.leave(x))


def critic(given: int, width: int) -> nn.Module:
    """What a state and a move are worth."""
    return nn.Sequential(nn.Linear(given, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))


class Actor(nn.Module):
    """A move by chance, and how likely it was."""

    def __init__(self, sees: int, moves: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(sees, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.middle, self.spread = nn.Linear(width, moves), nn.Linear(width, moves)

    def forward(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.body(state)
        spread = -5 + 3.5 * (torch.tanh(self.spread(x)) + 1)
        drawn = torch.randn_like(spread)
        move = torch.tanh(self.middle(x) + spread.exp() * drawn)
        chance = -0.5 * drawn.square() - spread - 0.919 - torch.log(1 - move.square() + 1e-6)
        return move, chance.sum(1, keepdim=True)


class Cells(nn.Module):
    """How unlikely counts of genes are to a variational net whose noise is negative binomial."""

    def __init__(self, genes: int, width: int, hidden: int) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.Linear(genes, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1))
        self.middle, self.spread = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.write = nn.Sequential(nn.Linear(hidden, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, genes))
        self.even = nn.Parameter(torch.zeros(genes))

    def forward(self, counts: torch.Tensor) -> torch.Tensor:
        x = self.read(torch.log1p(counts))
        middle, spread = self.middle(x), self.spread(x)
        drawn = middle + (spread / 2).exp() * torch.randn_like(middle)
        mean = self.write(drawn).softmax(-1) * counts.sum(1, keepdim=True) + 1e-8
        even = self.even.exp()
        both = torch.log(even + mean)
        like = even * (self.even - both) + counts * (mean.log() - both)
        like = like + torch.lgamma(counts + even) - torch.lgamma(even) - torch.lgamma(counts + 1)
        apart = 0.5 * (spread.exp() + middle.square() - 1 - spread).sum(1)
        return (apart - like.sum(1)).mean()


def of_length_one(x: torch.Tensor) -> torch.Tensor:
    """The same direction, in single operators."""
    wide = x.float()
    return (wide / wide.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-6)).to(x.dtype)


class Even(nn.Module):
    """A layer whose vectors are kept at length one: it goes a little from where it was to what it found."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mixed, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.wide, self.narrow = nn.Linear(width, 4 * width, bias=False), nn.Linear(2 * width, width, bias=False)
        self.scale, self.gain = nn.Parameter(torch.ones(width // heads)), nn.Parameter(torch.ones(4 * width))
        self.steps = nn.ParameterList(torch.full((width,), 0.05) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.mixed(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = (of_length_one(one) * self.scale for one in (query, key))
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=query.shape[-1] ** 0.5)
        found = of_length_one(self.out(seen.transpose(1, 2).flatten(2)))
        x = of_length_one(x + self.steps[0] * (found - x))
        value, gate = (self.wide(x) * self.gain).chunk(2, -1)
        found = of_length_one(self.narrow(value * functional.silu(gate)))
        return of_length_one(x + self.steps[1] * (found - x))
