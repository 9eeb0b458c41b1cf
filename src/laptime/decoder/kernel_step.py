"""The base of the steps in Triton kernels: attention, the choice of experts and of the token, and their buffers."""

from __future__ import annotations

from typing import Any

import torch

from laptime.decoder.kernels.shapes import SHAPES, Shape, Shapes
from laptime.decoder.plan import DecodePlan, Layer, Routed
from laptime.decoder.state import MOST_EOS, DecodeState, Sampling, advance


class KernelStep:
    """What the step of one row and the step of several rows share.

    x (B, hidden): the residual stream, float32. attended (B, heads D): what attention gives.
    part, part_weight: softmax sums of attention's splits. arrived: how many splits of a head have finished.
    scores, shares (B, experts), chosen (B top-k): the router's results. routers: how many of its blocks have finished.
    launch: arguments of every kernel's launch.
    """

    def __init__(
        self,
        plan: DecodePlan,
        state: DecodeState,
        sampling: Sampling,
        noise: torch.Generator | None,
        shapes: Shapes = SHAPES,
    ) -> None:
        from laptime.decoder.kernels import attention, choices  # imported here: they need triton

        self._attention, self._choices = attention, choices
        self.plan, self.state, self.sampling, self.noise, self.shapes = plan, state, sampling, noise, shapes
        batch, device = state.batch, plan.device
        self._tile = shapes.tile_of(plan.head_dim)
        self._splits = shapes.splits(state.capacity, self._tile, batch, plan.kv_heads)
        self._group = max(16, power_of_two(plan.heads // plan.kv_heads))
        routed = [layer.mlp for layer in plan.layers if isinstance(layer.mlp, Routed)]
        self._experts_most = max((mlp.router.shape[0] for mlp in routed), default=1)
        groups = batch * plan.kv_heads
        self.x = self._floats(batch, plan.hidden)
        self.attended = self._narrow(batch, plan.heads * plan.head_dim)
        self.part = self._floats(groups * self._splits * self._group, plan.head_dim)
        self.part_weight = self._floats(groups * self._splits * self._group, 2)
        self.arrived = torch.zeros(groups, dtype=torch.int32, device=device)
        self.routers = torch.zeros(batch, dtype=torch.int32, device=device)
        self.scores, self.shares = self._floats(batch, self._experts_most), self._floats(batch, self._experts_most)
        self.chosen = torch.zeros(batch * max((*plan.top_k, 1)), dtype=torch.int32, device=device)
        overlap = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 9
        self.launch: dict[str, Any] = {"PDL": overlap, "launch_pdl": True} if overlap else {"PDL": False}

    def begin(self) -> None:
        """Make the state's token the one that the next step starts from."""
        self.x.copy_(self.plan.embedding[self.state.token.long()])

    def _floats(self, *shape: int) -> torch.Tensor:
        return torch.zeros(shape, device=self.plan.device)

    def _narrow(self, *shape: int) -> torch.Tensor:
        return torch.zeros(shape, device=self.plan.device, dtype=self.plan.dtype)

    def attend(self, i: int, layer: Layer, qkv: torch.Tensor) -> None:
        """Attention of block i: from its q, k and v to `attended`; k and v go into the cache."""
        plan, state = self.plan, self.state
        norm = 0 if layer.q_norm is None else (1 if layer.q_norm.shape[0] == plan.head_dim else 2)
        q_norm, k_norm = (layer.q_norm, layer.k_norm) if norm else (layer.input_norm, layer.input_norm)
        self._attention.attend[(plan.kv_heads, self._splits, state.batch)](
            qkv, q_norm, k_norm, state.cos, state.sin, state.keys[i], state.values[i], state.position, state.shift,
            self.part, self.part_weight, self.arrived, self.attended, plan.eps, plan.scale, state.capacity,
            HEADS=plan.heads, KV_HEADS=plan.kv_heads, D=plan.head_dim, GP=self._group, S=self._splits, BT=self._tile,
            QK_NORM=norm, WIDE=power_of_two(plan.heads * plan.head_dim),
            MORE=self._splits * self._tile < state.capacity, num_warps=4, **self.launch,
        )  # fmt: skip

    def route(self, layer: Layer, mlp: Routed) -> None:
        """The experts of each row, best first, in `chosen`, and their shares in `shares`."""
        experts, k = mlp.router.shape
        shape = self.shapes.row["route"]
        self._choices.route[(blocks(experts, shape.rows), self.state.batch)](
            self.x, mlp.router, layer.post_norm, self.plan.eps, self.scores, self.chosen, self.shares, self.routers,
            experts, K=k, EP=power_of_two(experts), BE=shape.rows, BK=min(shape.width, power_of_two(k)),
            TOP_K=mlp.top_k, NORMALISED=mlp.normalised, num_warps=shape.warps, **self.launch,
        )  # fmt: skip

    def take_token(self, best: torch.Tensor) -> None:
        """The newest token of each row: drawn from the logits, or the best. best: (B, programs, value and id)."""
        plan, state = self.plan, self.state
        if self.sampling.draw:
            advance(state, state.logits, self.sampling, self.noise)
            self.begin()
            return
        programs = best.shape[1]
        self._choices.take_best[(state.batch,)](
            best, plan.embedding, self.x, state.token, state.position, state.begin, state.ended, state.ids, state.eos,
            state.pad, programs, plan.hidden, state.capacity, BB=min(4096, power_of_two(programs)),
            BK=power_of_two(plan.hidden), EOS=MOST_EOS, num_warps=8, **self.launch,
        )  # fmt: skip


def inner_width(layer: Layer) -> int:
    """Width of SwiGLU between its way up and its way down."""
    return layer.mlp.gate_up.shape[-2] // 2


def fitted(shape: Shape, k: int) -> tuple[Shape, int]:
    """The shape for rows of k elements, and how many of their tiles a program reads before it waits."""
    width = min(shape.width, power_of_two(k))
    return shape._replace(width=width), min(shape.ahead, -(-k // width))


def blocks(n: int, rows: int) -> int:
    """Blocks of `rows` that cover n rows."""
    return -(-n // rows)


def power_of_two(n: int) -> int:
    """The smallest power of two that is not below n."""
    return 1 << (n - 1).bit_length()
