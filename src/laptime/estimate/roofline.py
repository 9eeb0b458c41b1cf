"""How much work a call is: FLOPs and bytes of vision, prefill and decode, from a model's configuration.

Every term is a lower bound of what any implementation must do; an estimator that has them as features learns how far
above it a real one is. A multiply-add is two FLOPs. T tokens, B rows, L active blocks, d hidden size, h query heads and
g key-value heads of size e, f inner width, V vocabulary, E experts of which each token takes k, w bytes a weight, c
bytes a cache element:

| term | formula | unit | source |
|---|---|---|---|
| attention weights of a block | d (h + 2 g) e + h e d | weights | Vaswani et al. 2017; Ainslie et al. 2023 |
| MLP weights of a block | 3 d f gated, else 2 d f; times k per token with experts | weights | Shazeer 2020 |
| distinct experts touched | E (1 - (1 - k / E)^tokens) | experts | each token draws k of E alike |
| weight FLOPs | 2 tokens weights | FLOP | Kaplan et al. 2020, section 2.1 |
| attention FLOPs | 4 h e L (pairs of query and key) | FLOP | the same; T (T + 1) / 2 pairs a causal prompt |
| weight bytes | w (attention + MLP of the touched experts) | byte | each weight is read once a forward |
| cache bytes | 2 g e c L tokens in the cache | byte | Pope et al. 2022, section 2.1 |
| head | d V weights; one token a row is projected | weights | generate() keeps the last token's logits only |
| roofline | max(FLOPs / rate, bytes / bandwidth) + launches * launch time | ms | Williams et al. 2009 |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from laptime.errors import LaptimeError
from laptime.estimate.table import Floats

Number = float | npt.NDArray[np.float64]


class VisionShape(msgspec.Struct, frozen=True, kw_only=True):
    """A vision tower that sees crops of `patches` patches each."""

    hidden: int
    blocks: int
    inner: int
    patches: int

    @property
    def weights(self) -> int:
        """Of all blocks: four attention projections and a two-layer MLP."""
        return self.blocks * (4 * self.hidden**2 + 2 * self.hidden * self.inner)

    def flops(self, crops: Number) -> Number:
        """Of so many crops; attention is within a crop and not causal."""
        pairs = self.patches**2
        return crops * (2.0 * self.patches * self.weights + 4.0 * self.hidden * self.blocks * pairs)


class ModelShape(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder's sizes. `experts` 0: a dense MLP; `inner` is then its width, else one expert's."""

    hidden: int
    blocks: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    vocabulary: int
    experts: int = 0
    top_k: int = 0
    gated: bool = True
    weight_bytes: float = 2.0
    cache_bytes: float = 2.0
    vision: VisionShape | None = None

    @property
    def attention_weights(self) -> int:
        """Of one block."""
        return self.hidden * self.head_size * (2 * self.heads + 2 * self.kv_heads)

    @property
    def mlp_weights(self) -> int:
        """Of one block's MLP, or of one expert."""
        return (3 if self.gated else 2) * self.hidden * self.inner


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What a device does: memory bandwidth (GB/s), dense rate (TFLOP/s), the host's time per launch (us)."""

    bandwidth_gb_s: float
    tflop_s: float
    launch_us: float = 5.0
    launches_per_block: float = 14.0


def touched_experts(experts: int, top_k: Number, tokens: Number) -> Number:
    """Expected number of distinct experts that so many tokens are sent to: E (1 - (1 - k / E)^tokens)."""
    return np.asarray(experts * (1.0 - (1.0 - np.asarray(top_k) / experts) ** np.asarray(tokens)), dtype=np.float64)


def weight_flops(shape: ModelShape, tokens: Number, blocks: Number, top_k: Number, projected: Number) -> Number:
    """2 FLOPs a weight and token; `projected` tokens also go through the head."""
    copies = top_k if shape.experts else 1.0
    a_block = shape.attention_weights + shape.mlp_weights * copies
    return 2.0 * tokens * blocks * a_block + 2.0 * projected * shape.hidden * shape.vocabulary


def weight_bytes(shape: ModelShape, tokens: Number, blocks: Number, top_k: Number) -> Number:
    """Every weight that a forward over so many tokens needs, read once; of experts those that are touched."""
    mlps = touched_experts(shape.experts, top_k, tokens) if shape.experts else 1.0
    a_block = shape.attention_weights + shape.mlp_weights * mlps
    return shape.weight_bytes * (blocks * a_block + shape.hidden * shape.vocabulary)


def attention_flops(shape: ModelShape, pairs: Number, blocks: Number) -> Number:
    """Scores and weighted sums: 4 FLOPs for each pair of a query and a key, head and element."""
    return 4.0 * shape.heads * shape.head_size * blocks * pairs


def cache_bytes(shape: ModelShape, tokens: Number, blocks: Number) -> Number:
    """Keys and values of so many cached tokens."""
    return 2.0 * shape.kv_heads * shape.head_size * shape.cache_bytes * blocks * tokens


def shape_of(config: Mapping[str, Any]) -> ModelShape:
    """The shape from a transformers configuration (config.json). Raises LaptimeError that names what is missing."""
    text: Mapping[str, Any] = config.get("text_config") or config.get("llm_config") or config
    hidden, heads = _number(text, "hidden_size"), _number(text, "num_attention_heads")
    experts = _number(text, "num_experts", "num_local_experts", "n_routed_experts", default=0)
    inner = ("moe_intermediate_size", "intermediate_size") if experts else ("intermediate_size",)
    return ModelShape(
        hidden=hidden,
        blocks=_number(text, "num_hidden_layers"),
        heads=heads,
        kv_heads=_number(text, "num_key_value_heads", default=heads),
        head_size=_number(text, "head_dim", default=hidden // heads),
        inner=_number(text, *inner, default=4 * hidden),
        vocabulary=_number(text, "vocab_size"),
        experts=experts,
        top_k=_number(text, "num_experts_per_tok", "moe_topk", default=0),
        gated=str(text.get("hidden_act", "silu")).startswith(("silu", "swish", "swiglu", "gelu_pytorch_tanh")),
        vision=_vision_of(config.get("vision_config")),
    )


def roofline_columns(frame: pl.DataFrame, shape: ModelShape, rates: Rates) -> pl.DataFrame:
    """A run's frame with columns `roofline.*`: features for an estimator, and floors for a reader.

    `roofline.vision_ms`, `roofline.prefill_ms` and `roofline.decode_per_token_ms` in milliseconds, and their parts:
    `*_gflop`, `*_gb`, `decode_kv_gb`, `active_experts` (of a decode step), `active_blocks`, `launches` (of a step).
    From the columns prompt_tokens, output_tokens, batch and crops, and the knobs config.blocks and config.top_k where
    there are any. Raises LaptimeError without prompt_tokens.
    """
    if "prompt_tokens" not in frame.columns:
        raise LaptimeError("the table has no column 'prompt_tokens'; roofline terms need it")
    prompt, output = _column(frame, "prompt_tokens", 0.0), _column(frame, "output_tokens", 1.0)
    batch, crops = _column(frame, "batch", 1.0), _column(frame, "crops", 0.0)
    blocks, top_k = _column(frame, "config.blocks", shape.blocks), _column(frame, "config.top_k", shape.top_k)
    context = prompt + np.maximum(output - 1, 0) / 2  # the middle of the decode
    prefill_flop = weight_flops(shape, batch * prompt, blocks, top_k, batch)
    prefill_flop = prefill_flop + attention_flops(shape, batch * prompt * (prompt + 1) / 2, blocks)
    prefill_bytes = weight_bytes(shape, batch * prompt, blocks, top_k) + cache_bytes(shape, batch * prompt, blocks)
    decode_flop = weight_flops(shape, batch, blocks, top_k, batch) + attention_flops(shape, batch * context, blocks)
    kv_bytes = cache_bytes(shape, batch * context, blocks)
    decode_bytes = weight_bytes(shape, batch, blocks, top_k) + kv_bytes
    launches = blocks * rates.launches_per_block
    seen = (crops + (crops > 0)) * batch  # an image that was cut is seen whole too
    vision_flop = np.zeros(len(frame)) if shape.vision is None else shape.vision.flops(seen)
    vision_bytes = np.zeros(len(frame))
    if shape.vision is not None:
        vision_bytes = np.where(seen > 0, shape.weight_bytes * shape.vision.weights, 0.0)
    values: dict[str, Number] = {
        "vision_gflop": vision_flop / 1e9,
        "vision_ms": _floor_ms(vision_flop, vision_bytes, 0.0, rates),
        "prefill_gflop": prefill_flop / 1e9,
        "prefill_gb": prefill_bytes / 1e9,
        "prefill_ms": _floor_ms(prefill_flop, prefill_bytes, launches, rates),
        "decode_gflop": decode_flop / 1e9,
        "decode_gb": decode_bytes / 1e9,
        "decode_kv_gb": kv_bytes / 1e9,
        "decode_per_token_ms": _floor_ms(decode_flop, decode_bytes, launches, rates),
        "active_experts": touched_experts(shape.experts, top_k, batch) if shape.experts else np.zeros(len(frame)),
        "active_blocks": blocks,
        "launches": launches,
    }
    return frame.with_columns(
        pl.Series(f"roofline.{name}", np.asarray(value, dtype=np.float64)) for name, value in values.items()
    )


def _floor_ms(flop: Number, moved: Number, launches: Number, rates: Rates) -> Floats:
    compute, memory = np.asarray(flop) / (rates.tflop_s * 1e9), np.asarray(moved) / (rates.bandwidth_gb_s * 1e6)
    return np.asarray(np.maximum(compute, memory) + np.asarray(launches) * rates.launch_us / 1e3, dtype=np.float64)


def _column(frame: pl.DataFrame, name: str, default: float) -> Floats:
    if name not in frame.columns:
        return np.full(len(frame), float(default))
    values: Floats = frame[name].cast(pl.Float64).fill_null(float(default)).to_numpy()
    return values


def _vision_of(config: Mapping[str, Any] | None) -> VisionShape | None:
    if not config:
        return None
    hidden = _number(config, "hidden_size", "embed_dim")
    size, patch = _number(config, "image_size", default=336), _number(config, "patch_size", default=14)
    return VisionShape(
        hidden=hidden,
        blocks=_number(config, "num_hidden_layers", "depth"),
        inner=_number(config, "intermediate_size", default=4 * hidden),
        patches=(size // patch) ** 2,
    )


def _number(config: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, (list, tuple)) and value:
            value = value[0]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return int(value)
    if default is None:
        raise LaptimeError(f"the model's configuration has no {' or '.join(names)}; give a config.json of transformers")
    return default
