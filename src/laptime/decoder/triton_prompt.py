"""Prefill by Triton kernels between cuBLAS's products: the residual stream in float32, one kernel for each thing.

A dense block is nine launches, a routed one twelve. It writes the cache that decode reads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention

from laptime.decoder.kernel_step import blocks, power_of_two
from laptime.decoder.plain_prompt import last_places, waves
from laptime.decoder.plan import DecodePlan, Dense, Layer, Routed
from laptime.decoder.prompt import Prompt
from laptime.decoder.state import DecodeState


class TileShape(NamedTuple):
    """A tile of an expert's product: places, weight rows, columns at once; depth of the pipeline; warps."""

    places: int
    rows: int
    width: int
    stages: int
    warps: int


UP, DOWN = TileShape(64, 128, 64, 4, 4), TileShape(64, 128, 64, 3, 4)
"""The tiles on the experts' way up and on their way down; both have the same number of places. They are the fastest
of 72 measured on an H200 for 64 experts of OLMoE's size and 1,042 tokens."""
TOKENS_OF_A_PROGRAM = 16


class TritonPrompt:
    """Prefill of one bucket. x (B L, hidden): the residual stream, float32."""

    def __init__(
        self, plan: DecodePlan, state: DecodeState, prompt: Prompt, *, up: TileShape = UP, down: TileShape = DOWN
    ) -> None:
        from laptime.decoder.kernels import prompt as kernels  # imported here: they need triton
        from laptime.decoder.kernels import rows

        self._kernels, self._rows = kernels, rows
        self.plan, self.state, self.prompt = plan, state, prompt
        self._up, self._down = up, down
        self._n = prompt.batch * prompt.length
        self.x = torch.zeros(self._n, plan.hidden, device=plan.device)
        self._normed = torch.zeros(self._n, plan.hidden, dtype=plan.dtype, device=plan.device)
        self._waves: tuple[torch.Tensor, torch.Tensor] | None = None
        self._added: torch.Tensor | None = None  # what the newest block adds, (parts, B L, hidden)
        overlap = plan.device.type == "cuda" and torch.cuda.get_device_capability(plan.device)[0] >= 9
        self._launch: dict[str, Any] = {"PDL": True, "launch_pdl": True} if overlap else {"PDL": False}

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers that stay between two parts."""
        return self.x.nbytes + self._normed.nbytes

    def embed(self) -> None:
        """x = the tokens' embeddings, and image features where they belong."""
        plan, prompt = self.plan, self.prompt
        features = plan.embedding if prompt.features is None else prompt.features
        self._kernels.embed[(self._n,)](
            prompt.ids, prompt.picked, plan.embedding, features, self.x, plan.hidden, BK=power_of_two(plan.hidden),
            IMAGES=prompt.features is not None, num_warps=4, **self._launch,
        )  # fmt: skip
        if prompt.place is not None:
            cos, sin = waves(plan, self.state, prompt)
            self._waves = cos.float(), sin.float()

    def block(self, number: int, slot: int, layer: Layer) -> None:
        """Block `number` of the model, whose keys and values go to place `slot` of the cache."""
        plan, length = self.plan, self.prompt.length
        self._norm(layer.input_norm)
        q = self._turned(slot, layer, _product(self._normed, layer.qkv, layer.qkv_bias))
        keys, values = (caches[slot][:, :, :length] for caches in (self.state.keys, self.state.values))
        gqa = plan.heads != plan.kv_heads
        attended = scaled_dot_product_attention(
            q.transpose(1, 2), keys, values, is_causal=True, scale=plan.scale, enable_gqa=gqa
        )
        self._added = _product(attended.transpose(1, 2).reshape(self._n, -1), layer.o, layer.o_bias)[None]
        self._norm(layer.post_norm)
        self._added = self._dense(layer.mlp)[None] if isinstance(layer.mlp, Dense) else self._experts(layer.mlp)
        deep = self.prompt.deep
        if deep is not None and number < deep.shape[0]:
            self.settle()
            self._kernels.add_deep[(self._n,)](
                self.prompt.picked, deep[number], self.x, plan.hidden, BK=power_of_two(plan.hidden), num_warps=4,
                **self._launch,
            )  # fmt: skip

    def settle(self) -> None:
        """Bring x up to date: what the newest block adds is otherwise added together with the next norm."""
        if self._added is not None:
            self._norm(self.plan.final_norm)

    def logits(self) -> torch.Tensor:
        """The logits after each row's last token, (B, V)."""
        plan, batch, places = self.plan, self.prompt.batch, last_places(self.prompt)
        last = self.x[places]
        added = last if self._added is None else self._added[:, places].contiguous()
        parts = 0 if self._added is None else added.shape[0]
        self._added = None
        normed = torch.empty(batch, plan.hidden, dtype=plan.dtype, device=plan.device)
        self._rows.add_and_norm[(batch,)](
            last, added, plan.final_norm, normed, plan.eps, plan.hidden, batch, PARTS=parts,
            BK=power_of_two(plan.hidden), num_warps=8, **self._launch,
        )  # fmt: skip
        return torch.mm(normed, plan.head.T)

    def _norm(self, weight: torch.Tensor) -> None:
        """Add to x what is still to be added; `normed` is x after that, RMS-normed."""
        added, k = self._added, self.plan.hidden
        self._kernels.add_parts_and_norm[(self._n,)](
            self.x, self.x if added is None else added, weight, self._normed, self.prompt.lengths, self.plan.eps, k,
            self._n, self.prompt.length, PARTS=0 if added is None else added.shape[0], BK=power_of_two(k),
            num_warps=4, **self._launch,
        )  # fmt: skip
        self._added = None

    def _turned(self, slot: int, layer: Layer, qkv: torch.Tensor) -> torch.Tensor:
        """q of all heads, (B, L, heads, D); k and v are in the cache afterwards."""
        plan, state, prompt = self.plan, self.state, self.prompt
        q = self._narrow(prompt.batch, prompt.length, plan.heads, plan.head_dim)
        norm = 0 if layer.q_norm is None else (1 if layer.q_norm.shape[0] == plan.head_dim else 2)
        q_norm, k_norm = (layer.q_norm, layer.k_norm) if norm else (layer.input_norm, layer.input_norm)
        cos, sin = self._waves or (state.cos, state.sin)
        self._kernels.turn_and_store[(self._n,)](
            qkv, q_norm, k_norm, cos, sin, q, state.keys[slot], state.values[slot], plan.eps, prompt.length,
            state.capacity, HEADS=plan.heads, KV_HEADS=plan.kv_heads, D=plan.head_dim, HP=power_of_two(plan.heads),
            KP=power_of_two(plan.kv_heads), QK_NORM=norm, OWN_PLACES=self._waves is not None, num_warps=4,
            **self._launch,
        )  # fmt: skip
        return q

    def _dense(self, mlp: Dense) -> torch.Tensor:
        """What a dense block adds to x."""
        both = _product(self._normed, mlp.gate_up, None)
        wide = both.shape[1] // 2
        inner = self._narrow(self._n, wide)
        self._rows.swiglu[(blocks(wide, 1024), self._n)](both, inner, wide, BI=1024, num_warps=4, **self._launch)
        return _product(inner, mlp.down, None)

    def _experts(self, mlp: Routed) -> torch.Tensor:
        """What the chosen experts add to x, (top-k, B L, hidden); where a row is filled up there is nothing in it."""
        kernels, prompt, n = self._kernels, self.prompt, self._n
        (experts, wide, k), top_k = mlp.gate_up.shape, mlp.top_k
        padded, places, count = power_of_two(experts), self._up.places, top_k * n
        tiles = blocks(count, places) + experts
        scores = _product(self._normed, mlp.router, None)
        chosen, ranks = (torch.empty(count, dtype=torch.int32, device=scores.device) for _ in range(2))
        shares = torch.empty(count, device=scores.device)
        counts = torch.zeros(experts, dtype=torch.int32, device=scores.device)
        order = torch.empty(tiles * places, dtype=torch.int32, device=scores.device)
        kernels.choose_experts[(blocks(n, TOKENS_OF_A_PROGRAM),)](
            scores, prompt.lengths, chosen, shares, ranks, counts, n, experts, prompt.length, EP=padded,
            BT=TOKENS_OF_A_PROGRAM, TOP_K=top_k, NORMALISED=mlp.normalised, num_warps=4, **self._launch,
        )  # fmt: skip
        kernels.sort_by_expert[(blocks(count, 64),)](
            chosen, ranks, counts, order, count, experts, EP=padded, BM=places, BT=64, num_warps=4, **self._launch
        )
        inner = self._narrow(tiles * places, wide // 2)
        up, down = self._up, self._down
        kernels.experts_swiglu_of[(blocks(wide // 2, up.rows), tiles)](
            self._normed, mlp.gate_up, counts, order, inner, wide // 2, experts, n, K=k, EP=padded, BM=places,
            BN=up.rows, BK=min(up.width, power_of_two(k)), STAGES=up.stages, num_warps=up.warps, **self._launch,
        )  # fmt: skip
        parts = self._narrow(top_k, n, k)
        kernels.experts_down_of[(blocks(k, down.rows), tiles)](
            inner, mlp.down, counts, order, shares, parts, k, experts, I=wide // 2, EP=padded, BM=places,
            BN=down.rows, BK=min(down.width, power_of_two(wide // 2)), STAGES=down.stages, num_warps=down.warps,
            **self._launch,
        )  # fmt: skip
        return parts

    def _narrow(self, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=self.plan.dtype, device=self.plan.device)


def _product(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.mm(x, w.T) if bias is None else torch.addmm(bias, x, w.T)
