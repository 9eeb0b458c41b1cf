"""The decode step in Triton kernels: where it can run, the step of one row, the step of several rows.

One row: a dense block is five launches (a routed one six): norm and QKV; attention; output and residual; norm, gate, up
and SwiGLU; down and residual. Two rows and more: a dense block is seven launches. The products are on the tensor cores,
and the norm after a product adds up the product's parts in a fixed order.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch

from laptime.decoder.kernel_step import KernelStep, blocks, fitted, inner_width, power_of_two
from laptime.decoder.kernels.shapes import SHAPES, Shapes
from laptime.decoder.plan import DecodePlan, Dense, Layer, Routed
from laptime.decoder.state import DecodeState, Sampling

LOGIT_BLOCK = 2048
"""Logits that one program compares after a product by cuBLAS."""


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
    """Kernels of a greedy step. Kernels that cuBLAS adds to a product are not counted."""
    routed = len(plan.top_k)
    dense = len(plan.layers) - routed
    if batch == 1:
        return 5 * dense + 6 * routed + 2
    own_swiglu, own_head = "swiglu" in shapes.rows, "head" in shapes.rows
    return (7 if own_swiglu else 8) * dense + 8 * routed + (3 if own_head else 4)


class OneRowStep(KernelStep):
    """One step of one row. Calling it goes from the token in x to the next one."""

    def __init__(
        self,
        plan: DecodePlan,
        state: DecodeState,
        sampling: Sampling,
        noise: torch.Generator | None,
        shapes: Shapes = SHAPES,
    ) -> None:
        super().__init__(plan, state, sampling, noise, shapes)
        from laptime.decoder.kernels import one_row  # imported here: it needs triton

        self._row = one_row
        self.qkv = self._floats((plan.heads + 2 * plan.kv_heads) * plan.head_dim)
        self.inner = self._narrow(max(inner_width(layer) * _experts_each(layer) for layer in plan.layers))
        self.best = self._floats(1, blocks(plan.head.shape[0], self.shapes.row["head"].rows), 2)

    def __call__(self) -> None:
        """One step: from the token in x to the next one."""
        for i, layer in enumerate(self.plan.layers):
            self.multiply("qkv", self.x, layer.qkv, self.qkv, norm=layer.input_norm, bias=layer.qkv_bias)
            self.attend(i, layer, self.qkv)
            self.multiply("o", self.attended, layer.o, self.x, bias=layer.o_bias)
            if isinstance(layer.mlp, Dense):
                self.swiglu(layer, layer.mlp)
                self.multiply("down", self.inner, layer.mlp.down, self.x)
            else:
                self.experts(layer, layer.mlp)
        self.compute_logits()
        self.take_token(self.best)

    def multiply(
        self,
        role: str,
        x: torch.Tensor,
        w: torch.Tensor,
        out: torch.Tensor,
        *,
        norm: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
    ) -> None:
        """out = w x with x normed. Without a norm: out += w x."""
        n, k = w.shape
        shape, ahead = fitted(self.shapes.row[role], k)
        self._row.row_times_matrix[(blocks(n, shape.rows),)](
            x, w, out, x if norm is not None else out, w if norm is None else norm, w if bias is None else bias,
            self.plan.eps, n, K=k, BN=shape.rows, BK=shape.width, AHEAD=ahead, NORM=norm is not None,
            RESIDUAL=norm is None, BIAS=bias is not None, num_warps=shape.warps, **self.launch,
        )  # fmt: skip

    def swiglu(self, layer: Layer, mlp: Dense) -> None:
        """inner = silu(gate x) * up x, x normed."""
        wide, k = mlp.gate_up.shape
        shape, ahead = fitted(self.shapes.row["swiglu"], k)
        self._row.row_swiglu[(blocks(wide // 2, shape.rows),)](
            self.x, mlp.gate_up, self.inner, layer.post_norm, self.plan.eps, wide // 2, K=k, BN=shape.rows,
            BK=shape.width, AHEAD=ahead, num_warps=shape.warps, **self.launch,
        )  # fmt: skip

    def experts(self, layer: Layer, mlp: Routed) -> None:
        """Add what the chosen experts give to x."""
        top_k, (experts, wide, k) = mlp.top_k, mlp.gate_up.shape
        self.route(layer, mlp)
        shape, _ = fitted(self.shapes.row["expert_swiglu"], k)
        self._row.expert_swiglu[(blocks(wide // 2, shape.rows), top_k)](
            self.x, mlp.gate_up, layer.post_norm, self.plan.eps, self.chosen, self.inner, wide // 2, K=k, TOP_K=top_k,
            BN=shape.rows, BK=shape.width, num_warps=shape.warps, **self.launch,
        )  # fmt: skip
        shape, _ = fitted(self.shapes.row["expert_down"], wide // 2)
        self._row.expert_down[(blocks(k, shape.rows), 1)](
            self.inner, mlp.down, self.chosen, self.shares, self.x, self.x, k, experts, I=wide // 2, TOP_K=top_k,
            BN=shape.rows, BK=shape.width, num_warps=shape.warps, **self.launch,
        )  # fmt: skip

    def compute_logits(self) -> None:
        """The logits, and the best of each program."""
        plan, state = self.plan, self.state
        n, k = plan.head.shape
        shape, ahead = fitted(self.shapes.row["head"], k)
        self._row.row_head[(self.best.shape[1],)](
            self.x, plan.head, plan.final_norm, state.bias, plan.eps, state.logits, self.best, n, K=k, BN=shape.rows,
            BK=shape.width, AHEAD=ahead, num_warps=shape.warps, **self.launch,
        )  # fmt: skip


class RowsStep(KernelStep):
    """One step of several rows. Calling it goes from the tokens in x to the next ones."""

    def __init__(
        self,
        plan: DecodePlan,
        state: DecodeState,
        sampling: Sampling,
        noise: torch.Generator | None,
        shapes: Shapes = SHAPES,
    ) -> None:
        super().__init__(plan, state, sampling, noise, shapes)
        from laptime.decoder.kernels import rows  # imported here: it needs triton

        self._rows = rows
        batch = state.batch
        widest = max(inner_width(layer) for layer in plan.layers)
        self._padded = max(16, power_of_two(batch))  # rows of a tile on the tensor cores
        self.normed = self._narrow(batch, plan.hidden)
        self.qkv = self._activations("qkv", batch, (plan.heads + 2 * plan.kv_heads) * plan.head_dim)
        self.added = {role: self._activations(role, batch, plan.hidden) for role in ("o", "down")}
        dense = any(isinstance(layer.mlp, Dense) for layer in plan.layers)
        self.both = self._narrow(batch * 2 * widest if dense and "swiglu" not in shapes.rows else 0)
        self.inner = self._narrow(self._experts_most * batch * widest)
        self.parts = self._floats(blocks(self._experts_most, shapes.experts_each), batch, plan.hidden)
        own = shapes.rows.get("head")
        self.narrow_logits = self._narrow(batch, plan.head.shape[0]) if own is None else None
        self.best = self._floats(batch, blocks(plan.head.shape[0], LOGIT_BLOCK if own is None else own.rows), 2)

    def __call__(self) -> None:
        """One step: from the tokens in x to the next ones."""
        plan = self.plan
        norms = [*(layer.input_norm for layer in plan.layers[1:]), plan.final_norm]
        self.add_and_norm(None, plan.layers[0].input_norm)
        for i, (layer, next_norm) in enumerate(zip(plan.layers, norms, strict=True)):
            self.multiply("qkv", self.normed, layer.qkv, layer.qkv_bias, self.qkv)
            self.attend(i, layer, self.qkv)
            self.multiply("o", self.attended, layer.o, layer.o_bias, self.added["o"])
            self.add_and_norm(self.added["o"], layer.post_norm)
            added = self.feed_forward(layer.mlp) if isinstance(layer.mlp, Dense) else self.experts(layer, layer.mlp)
            self.add_and_norm(added, next_norm)
        self.compute_logits()
        self.take_token(self.best)

    def _activations(self, role: str, batch: int, wide: int) -> torch.Tensor:
        """Room for a product: parts in float32 from a kernel here, the weights' dtype from cuBLAS."""
        shape = self.shapes.rows.get(role)
        return self._narrow(batch, wide) if shape is None else self._floats(shape.parts, batch, wide)

    def multiply(
        self, role: str, x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor
    ) -> None:
        """out = w x + bias for every row. A role that has no block shape goes to cuBLAS."""
        shape, (n, k) = self.shapes.rows.get(role), w.shape
        if shape is None:
            if bias is None:
                torch.mm(x, w.T, out=out)
            else:
                torch.addmm(bias, x, w.T, out=out)
            return
        width = min(shape.width, power_of_two(k))
        self._rows.rows_times_matrix[(blocks(n, shape.rows), shape.parts)](
            x, w, w if bias is None else bias, out, n, self.state.batch, K=k, M=self._padded, BN=shape.rows, BK=width,
            PARTS=shape.parts, STAGES=shape.stages, BIAS=bias is not None, num_warps=shape.warps, **self.launch,
        )  # fmt: skip

    def add_and_norm(self, added: torch.Tensor | None, norm: torch.Tensor) -> None:
        """Add a product to x, its parts in a fixed order; `normed` is x after that, RMS-normed."""
        batch, k = self.x.shape
        parts = 0 if added is None else (added.shape[0] if added.ndim == 3 else 1)
        self._rows.add_and_norm[(batch,)](
            self.x, self.x if added is None else added, norm, self.normed, self.plan.eps, k, batch, PARTS=parts,
            BK=power_of_two(k), num_warps=8, **self.launch,
        )  # fmt: skip

    def feed_forward(self, mlp: Dense) -> torch.Tensor:
        """What a dense block adds to x."""
        self.multiply("down", self.swiglu(mlp), mlp.down, None, self.added["down"])
        return self.added["down"]

    def swiglu(self, mlp: Dense) -> torch.Tensor:
        """silu(gate x) * up x of every normed row, (B, I)."""
        batch, (wide, k), shape = self.state.batch, mlp.gate_up.shape, self.shapes.rows.get("swiglu")
        inner = self.inner[: batch * wide // 2].view(batch, wide // 2)
        if shape is None:
            both = self.both[: batch * wide].view(batch, wide)
            torch.mm(self.normed, mlp.gate_up.T, out=both)
            grid = (blocks(wide // 2, 1024), batch)
            self._rows.swiglu[grid](both, inner, wide // 2, BI=1024, num_warps=4, **self.launch)
        else:
            self._rows.rows_swiglu[(blocks(wide // 2, shape.rows),)](
                self.normed, mlp.gate_up, inner, wide // 2, batch, K=k, M=self._padded, BN=shape.rows,
                BK=min(shape.width, power_of_two(k)), STAGES=shape.stages, num_warps=shape.warps, **self.launch,
            )  # fmt: skip
        return inner

    def compute_logits(self) -> None:
        """The logits, and the best of each program and row."""
        plan, state, shape, (n, k) = self.plan, self.state, self.shapes.rows.get("head"), self.plan.head.shape
        if shape is None:
            torch.mm(self.normed, plan.head.T, out=self.narrow_logits)
            self._rows.best_of[(self.best.shape[1], state.batch)](
                self.narrow_logits, state.bias, state.logits, self.best, n, BN=LOGIT_BLOCK, num_warps=4, **self.launch
            )
            return
        self._rows.rows_head[(self.best.shape[1],)](
            self.normed, plan.head, state.bias, state.logits, self.best, n, state.batch, K=k, M=self._padded,
            BN=shape.rows, BK=min(shape.width, power_of_two(k)), STAGES=shape.stages, num_warps=shape.warps,
            **self.launch,
        )  # fmt: skip

    def experts(self, layer: Layer, mlp: Routed) -> torch.Tensor:
        """What the chosen experts add to x, in parts. Each expert's weights are read once for all rows."""
        batch, (experts, wide, k) = self.state.batch, mlp.gate_up.shape
        self.route(layer, mlp)
        shape = self.shapes.experts["swiglu"]
        self._rows.experts_swiglu[(blocks(wide // 2, shape.rows), experts)](
            self.normed, mlp.gate_up, self.shares, self.inner, wide // 2, experts, batch, K=k, M=self._padded,
            BN=shape.rows, BK=shape.width, STAGES=shape.ahead, num_warps=shape.warps, **self.launch,
        )  # fmt: skip
        shape, parts = self.shapes.experts["down"], self.parts[: blocks(experts, self.shapes.experts_each)]
        self._rows.experts_down[(blocks(k, shape.rows), parts.shape[0])](
            self.inner, mlp.down, self.shares, parts, k, experts, batch, I=wide // 2, M=self._padded,
            EACH=self.shapes.experts_each, BN=shape.rows, BK=shape.width, STAGES=shape.ahead, num_warps=shape.warps,
            **self.launch,
        )  # fmt: skip
        return parts


def _experts_each(layer: Layer) -> int:
    return 1 if isinstance(layer.mlp, Dense) else layer.mlp.top_k
