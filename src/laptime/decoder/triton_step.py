"""The decode step in Triton kernels, the token chosen on the device.

At batch 1 a dense block is five launches, norms and residuals folded into matrix-vector kernels. From two rows on it is
seven: the products are on the tensor cores, and a norm adds up the parts of the product before it. A role without a
block shape goes to cuBLAS.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from laptime.decoder.kernels.shapes import SHAPES, Shape, Shapes
from laptime.decoder.plan import DecodePlan, Dense, Layer, Routed
from laptime.decoder.state import MOST_EOS, DecodeState, Sampling, advance

LOGIT_BLOCK = 2048


def why_not(plan: DecodePlan) -> str | None:
    """Why the kernels can't run this plan; None when they can."""
    if plan.device.type != "cuda":
        return f"the model is on {plan.device.type}, the kernels need a CUDA GPU"
    if find_spec("triton") is None:
        return "triton is not installed"
    if plan.dtype not in (torch.bfloat16, torch.float16):
        return f"weights are {str(plan.dtype).removeprefix('torch.')}, the kernels read bfloat16 and float16"
    if plan.head_dim not in (32, 64, 128, 256):
        return f"heads are {plan.head_dim} wide, the kernels take 32, 64, 128 and 256"
    if plan.heads // plan.kv_heads > 16:
        return f"{plan.heads // plan.kv_heads} query heads share a key, the kernels take up to 16"
    return None


def triton_step(
    plan: DecodePlan,
    state: DecodeState,
    sampling: Sampling,
    noise: torch.Generator | None,
    shapes: Shapes = SHAPES,
) -> OneRowStep | RowsStep:
    """The step for this state's number of rows."""
    return (OneRowStep if state.batch == 1 else RowsStep)(plan, state, sampling, noise, shapes)


def kernels_of(plan: DecodePlan, batch: int, shapes: Shapes = SHAPES) -> int:
    """Kernels of a greedy step (what cuBLAS may add to a product of its own is not counted)."""
    routed = len(plan.top_k)
    dense = len(plan.layers) - routed
    if batch == 1:
        return 5 * dense + 6 * routed + 2
    own_swiglu, own_head = "swiglu" in shapes.rows, "head" in shapes.rows
    return (7 if own_swiglu else 8) * dense + 8 * routed + (3 if own_head else 4)


class _Step:
    """What both steps share: attention, and choosing the token. Guards the activations between kernels."""

    def __init__(
        self,
        plan: DecodePlan,
        state: DecodeState,
        sampling: Sampling,
        noise: torch.Generator | None,
        shapes: Shapes = SHAPES,
    ) -> None:
        from laptime.decoder.kernels import attention, one_row, rows  # they import triton

        self.row, self.rows, self.common = one_row, rows, attention
        self.plan, self.state, self.sampling, self.noise, self.shapes = plan, state, sampling, noise, shapes
        batch, device = state.batch, plan.device
        self._tile = shapes.tile_of(plan.head_dim)
        self._splits = shapes.splits(state.capacity, self._tile, batch, plan.kv_heads)
        self._group = max(16, _power(plan.heads // plan.kv_heads))
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
        """The state's token is what the next step starts from."""
        self.x.copy_(self.plan.embedding[self.state.token.long()])

    def _floats(self, *shape: int) -> torch.Tensor:
        return torch.zeros(shape, device=self.plan.device)

    def _narrow(self, *shape: int) -> torch.Tensor:
        return torch.zeros(shape, device=self.plan.device, dtype=self.plan.dtype)

    def _attend(self, i: int, layer: Layer, qkv: torch.Tensor) -> None:
        plan, state = self.plan, self.state
        norm = 0 if layer.q_norm is None else (1 if layer.q_norm.shape[0] == plan.head_dim else 2)
        q_norm, k_norm = (layer.q_norm, layer.k_norm) if norm else (layer.input_norm, layer.input_norm)
        self.common.attend[(plan.kv_heads, self._splits, state.batch)](
            qkv, q_norm, k_norm, state.cos, state.sin, state.keys[i], state.values[i], state.position, state.shift,
            self.part, self.part_weight, self.arrived, self.attended, plan.eps, plan.scale, state.capacity,
            HEADS=plan.heads, KV_HEADS=plan.kv_heads, D=plan.head_dim, GP=self._group, S=self._splits, BT=self._tile,
            QK_NORM=norm, WIDE=_power(plan.heads * plan.head_dim), MORE=self._splits * self._tile < state.capacity,
            num_warps=4, **self.launch,
        )  # fmt: skip

    def _route(self, layer: Layer, mlp: Routed) -> None:
        experts, k = mlp.router.shape
        shape = self.shapes.row["route"]
        self.common.route[(_blocks(experts, shape.rows), self.state.batch)](
            self.x, mlp.router, layer.post_norm, self.plan.eps, self.scores, self.chosen, self.shares, self.routers,
            experts, K=k, EP=_power(experts), BE=shape.rows, BK=min(shape.width, _power(k)), TOP_K=mlp.top_k,
            NORMALISED=mlp.normalised, num_warps=shape.warps, **self.launch,
        )  # fmt: skip

    def _take(self, best: torch.Tensor) -> None:
        plan, state = self.plan, self.state
        if self.sampling.draw:
            advance(state, state.logits, self.sampling, self.noise)
            self.begin()
            return
        programs = best.shape[1]
        self.common.take_best[(state.batch,)](
            best, plan.embedding, self.x, state.token, state.position, state.begin, state.ended, state.ids, state.eos,
            state.pad, programs, plan.hidden, state.capacity, BB=min(4096, _power(programs)), BK=_power(plan.hidden),
            EOS=MOST_EOS, num_warps=8, **self.launch,
        )  # fmt: skip


class OneRowStep(_Step):
    """Batch 1: matrix-vector kernels that read each weight once, norms and residuals folded in."""

    def __init__(
        self,
        plan: DecodePlan,
        state: DecodeState,
        sampling: Sampling,
        noise: torch.Generator | None,
        shapes: Shapes = SHAPES,
    ) -> None:
        super().__init__(plan, state, sampling, noise, shapes)
        self.qkv = self._floats((plan.heads + 2 * plan.kv_heads) * plan.head_dim)
        self.inner = self._narrow(max(_inner(layer) * _times(layer) for layer in plan.layers))
        self.best = self._floats(1, _blocks(plan.head.shape[0], self.shapes.row["head"].rows), 2)

    def __call__(self) -> None:
        """One step: from the token in x to the next one."""
        for i, layer in enumerate(self.plan.layers):
            self._times("qkv", self.x, layer.qkv, self.qkv, norm=layer.input_norm, bias=layer.qkv_bias)
            self._attend(i, layer, self.qkv)
            self._times("o", self.attended, layer.o, self.x, residual=self.x, bias=layer.o_bias)
            if isinstance(layer.mlp, Dense):
                self._feed_forward(layer, layer.mlp)
            else:
                self._experts(layer, layer.mlp)
        self._logits()
        self._take(self.best)

    def _times(
        self,
        role: str,
        x: torch.Tensor,
        w: torch.Tensor,
        out: torch.Tensor,
        *,
        norm: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
    ) -> None:
        n, k = w.shape
        shape, ahead = _fitted(self.shapes.row[role], k)
        self.row.row_times_matrix[(_blocks(n, shape.rows),)](
            x, w, out, x if residual is None else residual, w if norm is None else norm, w if bias is None else bias,
            self.plan.eps, n, K=k, BN=shape.rows, BK=shape.width, AHEAD=ahead, NORM=norm is not None,
            RESIDUAL=residual is not None, BIAS=bias is not None, num_warps=shape.warps, **self.launch,
        )  # fmt: skip

    def _feed_forward(self, layer: Layer, mlp: Dense) -> None:
        wide, k = mlp.gate_up.shape
        shape, ahead = _fitted(self.shapes.row["swiglu"], k)
        self.row.row_swiglu[(_blocks(wide // 2, shape.rows),)](
            self.x, mlp.gate_up, self.inner, layer.post_norm, self.plan.eps, wide // 2, K=k, BN=shape.rows,
            BK=shape.width, AHEAD=ahead, num_warps=shape.warps, **self.launch,
        )  # fmt: skip
        self._times("down", self.inner, mlp.down, self.x, residual=self.x)

    def _experts(self, layer: Layer, mlp: Routed) -> None:
        top_k, (experts, wide, k) = mlp.top_k, mlp.gate_up.shape
        self._route(layer, mlp)
        shape, _ = _fitted(self.shapes.row["expert_swiglu"], k)
        self.row.expert_swiglu[(_blocks(wide // 2, shape.rows), top_k)](
            self.x, mlp.gate_up, layer.post_norm, self.plan.eps, self.chosen, self.inner, wide // 2, K=k, TOP_K=top_k,
            BN=shape.rows, BK=shape.width, num_warps=shape.warps, **self.launch,
        )  # fmt: skip
        shape, _ = _fitted(self.shapes.row["expert_down"], wide // 2)
        self.row.expert_down[(_blocks(k, shape.rows), 1)](
            self.inner, mlp.down, self.chosen, self.shares, self.x, self.x, k, experts, I=wide // 2, TOP_K=top_k,
            BN=shape.rows, BK=shape.width, num_warps=shape.warps, **self.launch,
        )  # fmt: skip

    def _logits(self) -> None:
        plan, state = self.plan, self.state
        n, k = plan.head.shape
        shape, ahead = _fitted(self.shapes.row["head"], k)
        self.row.row_head[(self.best.shape[1],)](
            self.x, plan.head, plan.final_norm, state.bias, plan.eps, state.logits, self.best, n, K=k, BN=shape.rows,
            BK=shape.width, AHEAD=ahead, num_warps=shape.warps, **self.launch,
        )  # fmt: skip


class RowsStep(_Step):
    """Two rows and more: products on the tensor cores, norms that add up their parts, experts whose weights are read
    once for all rows."""

    def __init__(
        self,
        plan: DecodePlan,
        state: DecodeState,
        sampling: Sampling,
        noise: torch.Generator | None,
        shapes: Shapes = SHAPES,
    ) -> None:
        super().__init__(plan, state, sampling, noise, shapes)
        batch = state.batch
        widest = max(_inner(layer) for layer in plan.layers)
        self._padded = max(16, _power(batch))  # rows of a tile on the tensor cores
        self.normed = self._narrow(batch, plan.hidden)
        self.qkv = self._activations("qkv", batch, (plan.heads + 2 * plan.kv_heads) * plan.head_dim)
        self.added = {role: self._activations(role, batch, plan.hidden) for role in ("o", "down")}
        dense = any(isinstance(layer.mlp, Dense) for layer in plan.layers)
        self.both = self._narrow(batch * 2 * widest if dense and "swiglu" not in shapes.rows else 0)
        self.inner = self._narrow(self._experts_most * batch * widest)
        self.parts = self._floats(_blocks(self._experts_most, shapes.experts_each), batch, plan.hidden)
        own = shapes.rows.get("head")
        self.narrow_logits = self._narrow(batch, plan.head.shape[0]) if own is None else None
        self.best = self._floats(batch, _blocks(plan.head.shape[0], LOGIT_BLOCK if own is None else own.rows), 2)

    def __call__(self) -> None:
        """One step: from the tokens in x to the next ones."""
        plan = self.plan
        norms = [*(layer.input_norm for layer in plan.layers[1:]), plan.final_norm]
        self._add_and_norm(None, plan.layers[0].input_norm)
        for i, (layer, next_norm) in enumerate(zip(plan.layers, norms, strict=True)):
            self._times("qkv", self.normed, layer.qkv, layer.qkv_bias, self.qkv)
            self._attend(i, layer, self.qkv)
            self._times("o", self.attended, layer.o, layer.o_bias, self.added["o"])
            self._add_and_norm(self.added["o"], layer.post_norm)
            added = self._dense(layer.mlp) if isinstance(layer.mlp, Dense) else self._experts(layer, layer.mlp)
            self._add_and_norm(added, next_norm)
        self._logits()
        self._take(self.best)

    def _activations(self, role: str, batch: int, wide: int) -> torch.Tensor:
        """What a product leaves: parts in float32 from a kernel of ours, the weights' dtype from cuBLAS."""
        shape = self.shapes.rows.get(role)
        return self._narrow(batch, wide) if shape is None else self._floats(shape.parts, batch, wide)

    def _times(self, role: str, x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor) -> None:
        shape, (n, k) = self.shapes.rows.get(role), w.shape
        if shape is None:
            if bias is None:
                torch.mm(x, w.T, out=out)
            else:
                torch.addmm(bias, x, w.T, out=out)
            return
        width = min(shape.width, _power(k))
        self.rows.rows_times_matrix[(_blocks(n, shape.rows), shape.parts)](
            x, w, w if bias is None else bias, out, n, self.state.batch, K=k, M=self._padded, BN=shape.rows, BK=width,
            PARTS=shape.parts, STAGES=shape.stages, BIAS=bias is not None, num_warps=shape.warps, **self.launch,
        )  # fmt: skip

    def _add_and_norm(self, added: torch.Tensor | None, norm: torch.Tensor) -> None:
        batch, k = self.x.shape
        parts = 0 if added is None else (added.shape[0] if added.ndim == 3 else 1)
        self.rows.add_and_norm[(batch,)](
            self.x, self.x if added is None else added, norm, self.normed, self.plan.eps, k, batch, PARTS=parts,
            BK=_power(k), num_warps=8, **self.launch,
        )  # fmt: skip

    def _dense(self, mlp: Dense) -> torch.Tensor:
        batch, (wide, k), shape = self.state.batch, mlp.gate_up.shape, self.shapes.rows.get("swiglu")
        inner = self.inner[: batch * wide // 2].view(batch, wide // 2)
        if shape is None:
            both = self.both[: batch * wide].view(batch, wide)
            torch.mm(self.normed, mlp.gate_up.T, out=both)
            grid = (_blocks(wide // 2, 1024), batch)
            self.rows.swiglu[grid](both, inner, wide // 2, BI=1024, num_warps=4, **self.launch)
        else:
            self.rows.rows_swiglu[(_blocks(wide // 2, shape.rows),)](
                self.normed, mlp.gate_up, inner, wide // 2, batch, K=k, M=self._padded, BN=shape.rows,
                BK=min(shape.width, _power(k)), STAGES=shape.stages, num_warps=shape.warps, **self.launch,
            )  # fmt: skip
        self._times("down", inner, mlp.down, None, self.added["down"])
        return self.added["down"]

    def _logits(self) -> None:
        plan, state, shape, (n, k) = self.plan, self.state, self.shapes.rows.get("head"), self.plan.head.shape
        if shape is None:
            torch.mm(self.normed, plan.head.T, out=self.narrow_logits)
            self.rows.best_of[(self.best.shape[1], state.batch)](
                self.narrow_logits, state.bias, state.logits, self.best, n, BN=LOGIT_BLOCK, num_warps=4, **self.launch
            )
            return
        self.rows.rows_head[(self.best.shape[1],)](
            self.normed, plan.head, state.bias, state.logits, self.best, n, state.batch, K=k, M=self._padded,
            BN=shape.rows, BK=min(shape.width, _power(k)), STAGES=shape.stages, num_warps=shape.warps,
            **self.launch,
        )  # fmt: skip

    def _experts(self, layer: Layer, mlp: Routed) -> torch.Tensor:
        batch, (experts, wide, k) = self.state.batch, mlp.gate_up.shape
        self._route(layer, mlp)
        shape = self.shapes.experts["swiglu"]
        self.rows.experts_swiglu[(_blocks(wide // 2, shape.rows), experts)](
            self.normed, mlp.gate_up, self.shares, self.inner, wide // 2, experts, batch, K=k, M=self._padded,
            BN=shape.rows, BK=shape.width, STAGES=shape.ahead, num_warps=shape.warps, **self.launch,
        )  # fmt: skip
        shape, parts = self.shapes.experts["down"], self.parts[: _blocks(experts, self.shapes.experts_each)]
        self.rows.experts_down[(_blocks(k, shape.rows), parts.shape[0])](
            self.inner, mlp.down, self.shares, parts, k, experts, batch, I=wide // 2, M=self._padded,
            EACH=self.shapes.experts_each, BN=shape.rows, BK=shape.width, STAGES=shape.ahead, num_warps=shape.warps,
            **self.launch,
        )  # fmt: skip
        return parts


def _inner(layer: Layer) -> int:
    return layer.mlp.gate_up.shape[-2] // 2


def _times(layer: Layer) -> int:
    return 1 if isinstance(layer.mlp, Dense) else layer.mlp.top_k


def _fitted(shape: Shape, k: int) -> tuple[Shape, int]:
    """The shape for rows of k elements, and how many of their tiles are read before the wait."""
    width = min(shape.width, _power(k))
    return shape._replace(width=width), min(shape.ahead, -(-k // width))


def _blocks(n: int, rows: int) -> int:
    return -(-n // rows)


def _power(n: int) -> int:
    """The smallest power of two that is not below n."""
    return 1 << (n - 1).bit_length()
