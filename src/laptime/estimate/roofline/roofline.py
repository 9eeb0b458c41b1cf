"""How much work a call is: FLOPs and bytes of vision, prefill and decode, from a model's configuration.

Every term is a lower bound of what any implementation must do; an estimator that has them as features learns how far
above it a real one is. A multiply-add is two FLOPs. T tokens, B rows, L active blocks, d hidden size, h query heads and
g key-value heads of size e, f inner width, V vocabulary, E experts of which each token takes k, w bytes a weight, c
bytes a cache element:

| term | formula | unit | source |
|---|---|---|---|
| vision weights of a block | 4 d^2 + 2 d f (3 d f gated), d and f the tower's | weights | Dosovitskiy et al. 2021 |
| patches | tiles * patches a tile; of image tokens, times the patches merged into one | patches | the configuration |
| attention weights of a block | d (h + 2 g) e + h e d | weights | Vaswani et al. 2017; Ainslie et al. 2023 |
| MLP weights of a block | 3 d f gated, else 2 d f; times k per token with experts | weights | Shazeer 2020 |
| distinct experts touched | E (1 - (1 - k / E)^tokens) | experts | each token draws k of E alike |
| weight FLOPs | 2 tokens weights | FLOP | Kaplan et al. 2020, section 2.1 |
| attention FLOPs | 4 h e L (pairs of query and key) | FLOP | the same; T (T + 1) / 2 pairs a causal prompt |
| weight bytes | w (attention + MLP of the touched experts) | byte | each weight is read once a forward |
| cache bytes | 2 g e c L tokens in the cache | byte | Pope et al. 2022, section 2.1 |
| head | d V weights; one token a row is projected | weights | generate() keeps the last token's logits only |
| launches | blocks * kernels a block (14 in eager mode) | launches | docs/trace.md: 11 to 15 a block |
| expert visits of a step | L * distinct experts touched by B tokens | experts | eager code runs them in turn |
| roofline | max(FLOPs / rate, bytes / bandwidth) + launches * launch time | ms | Williams et al. 2009 |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from laptime.data.stats import Floats
from laptime.errors import LaptimeError

Number = float | npt.NDArray[Any]


class VisionShape(msgspec.Struct, frozen=True, kw_only=True):
    """A vision tower that sees tiles of `patches` patches each: those that attend to each other."""

    hidden: int
    blocks: int
    inner: int
    patches: int
    patches_per_token: float = 1.0
    """How many patches are merged into one token of the language model."""
    gated: bool = False

    @property
    def weights(self) -> int:
        """Of all blocks: four attention projections and an MLP."""
        return self.blocks * (4 * self.hidden**2 + (3 if self.gated else 2) * self.hidden * self.inner)

    def flops(self, tiles: Number) -> Number:
        """FLOPs of this number of tiles. Attention is within a tile and not causal."""
        pairs = self.patches**2
        return tiles * (2.0 * self.patches * self.weights + 4.0 * self.hidden * self.blocks * pairs)


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
    """Expected number of distinct experts that these tokens are sent to: E (1 - (1 - k / E)^tokens).

    More than all experts, and fewer than no tokens, which a damaged table can ask for, count as all and none.
    """
    missed = np.clip(1.0 - top_k / experts, 0.0, 1.0)
    touched: Number = experts * (1.0 - missed ** np.maximum(tokens, 0.0))
    return touched


def weight_flops(shape: ModelShape, tokens: Number, blocks: Number, top_k: Number, projected: Number) -> Number:
    """2 FLOPs a weight and token; `projected` tokens also go through the head."""
    copies = top_k if shape.experts else 1.0
    a_block = shape.attention_weights + shape.mlp_weights * copies
    return 2.0 * tokens * blocks * a_block + 2.0 * projected * shape.hidden * shape.vocabulary


def weight_bytes(shape: ModelShape, tokens: Number, blocks: Number, top_k: Number) -> Number:
    """Bytes of every weight that a forward over these tokens needs, read once; of experts only those touched."""
    mlps = touched_experts(shape.experts, top_k, tokens) if shape.experts else 1.0
    a_block = shape.attention_weights + shape.mlp_weights * mlps
    return shape.weight_bytes * (blocks * a_block + shape.hidden * shape.vocabulary)


def attention_flops(shape: ModelShape, pairs: Number, blocks: Number) -> Number:
    """Scores and weighted sums: 4 FLOPs for each pair of a query and a key, head and element."""
    return 4.0 * shape.heads * shape.head_size * blocks * pairs


def cache_bytes(shape: ModelShape, tokens: Number, blocks: Number) -> Number:
    """Bytes of the keys and values of this number of cached tokens."""
    return 2.0 * shape.kv_heads * shape.head_size * shape.cache_bytes * blocks * tokens


class CallSizes(NamedTuple):
    """Sizes of one call (numbers) or of many (columns): tokens of a row, rows, tiles of all images, blocks, top-k."""

    prompt: Number
    output: Number
    batch: Number
    tiles: Number
    blocks: Number
    top_k: Number


UNITS = {
    "vision_gflop": "GFLOP",
    "vision_gb": "GB",
    "prefill_gflop": "GFLOP",
    "prefill_gb": "GB",
    "decode_gflop": "GFLOP",
    "decode_gb": "GB",
    "decode_kv_gb": "GB",
    "kv_tokens": "tokens",
    "active_experts": "experts",
    "expert_visits": "experts",
    "active_blocks": "blocks",
    "launches": "launches",
}
"""What `work` counts: of a decode step, except where the name says vision or prefill."""


def work(shape: ModelShape, call: CallSizes, launches_per_block: float = 14.0) -> dict[str, Number]:
    """The work of a call, by the names of UNITS. Plain arithmetic: floats give floats, columns columns.

    A decode step is the middle one of the call's: its cache holds the prompt and half of the output.
    """
    prompt, output, batch, tiles, blocks, top_k = call
    fed = batch * prompt
    context = prompt + (output - 1) / 2
    prefill = weight_flops(shape, fed, blocks, top_k, batch) + attention_flops(shape, fed * (prompt + 1) / 2, blocks)
    step = weight_flops(shape, batch, blocks, top_k, batch) + attention_flops(shape, batch * context, blocks)
    kv_bytes = cache_bytes(shape, batch * context, blocks)
    experts = touched_experts(shape.experts, top_k, batch) if shape.experts else 0.0 * batch
    vision = shape.vision
    tower_bytes: Number = 0.0 if vision is None else 1.0 * (tiles > 0) * (shape.weight_bytes * vision.weights)
    return {
        "vision_gflop": 0.0 * tiles if vision is None else vision.flops(tiles) / 1e9,
        "vision_gb": 0.0 * tiles + tower_bytes / 1e9,
        "prefill_gflop": prefill / 1e9,
        "prefill_gb": (weight_bytes(shape, fed, blocks, top_k) + cache_bytes(shape, fed, blocks)) / 1e9,
        "decode_gflop": step / 1e9,
        "decode_gb": (weight_bytes(shape, batch, blocks, top_k) + kv_bytes) / 1e9,
        "decode_kv_gb": kv_bytes / 1e9,
        "kv_tokens": batch * context,
        "active_experts": experts,
        "expert_visits": experts * blocks,
        "active_blocks": blocks,
        "launches": blocks * launches_per_block,
    }


def floor_ms(gflop: Number, gb: Number, launches: Number, rates: Rates) -> Number:
    """max(FLOPs / rate, bytes / bandwidth) + launches * launch time, in ms."""
    compute, memory = gflop / rates.tflop_s, gb / rates.bandwidth_gb_s * 1e3
    longer = np.maximum(compute, memory) if isinstance(compute, np.ndarray) else max(compute, memory)
    return longer + launches * rates.launch_us / 1e3


def roofline_columns(frame: pl.DataFrame, shape: ModelShape, rates: Rates) -> pl.DataFrame:
    """A run's frame with columns `roofline.*`: features for an estimator, and floors for a reader.

    `roofline.vision_ms`, `roofline.prefill_ms` and `roofline.decode_per_token_ms` in milliseconds, and the work they
    consist of, by the names of UNITS. From the columns prompt_tokens, output_tokens, batch and crops, and the knobs
    config.blocks and config.top_k where there are any. Raises LaptimeError without prompt_tokens.
    """
    if "prompt_tokens" not in frame.columns:
        raise LaptimeError("the table has no column 'prompt_tokens'; roofline terms need it")
    batch, crops = _column(frame, "batch", 1.0), _column(frame, "crops", 0.0)
    done = work(
        shape,
        CallSizes(
            prompt=_column(frame, "prompt_tokens", 0.0),
            output=np.maximum(_column(frame, "output_tokens", 1.0), 1.0),
            batch=batch,
            tiles=(crops + (crops > 0)) * batch,  # an image that was cut is seen whole too
            blocks=_column(frame, "config.blocks", shape.blocks),
            top_k=_column(frame, "config.top_k", shape.top_k),
        ),
        rates.launches_per_block,
    )
    done["vision_ms"] = floor_ms(done["vision_gflop"], done["vision_gb"], 0.0, rates)
    done["prefill_ms"] = floor_ms(done["prefill_gflop"], done["prefill_gb"], done["launches"], rates)
    done["decode_per_token_ms"] = floor_ms(done["decode_gflop"], done["decode_gb"], done["launches"], rates)
    return frame.with_columns(
        pl.Series(f"roofline.{name}", np.asarray(value, dtype=np.float64)) for name, value in done.items()
    )


def shape_of(config: Mapping[str, Any]) -> ModelShape:
    """The shape from a transformers configuration (config.json). Raises LaptimeError that names what is missing."""
    parts = (config.get("text_config"), config.get("llm_config"))
    text: Mapping[str, Any] = next((part for part in parts if part and isinstance(part, Mapping)), config)
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
        vision=_vision_of(config),
    )


def _column(frame: pl.DataFrame, name: str, default: float) -> Floats:
    if name not in frame.columns:
        return np.full(len(frame), float(default))
    values: Floats = frame[name].cast(pl.Float64).fill_null(float(default)).to_numpy()
    return values


def _vision_of(config: Mapping[str, Any]) -> VisionShape | None:
    """Tiles are whole images of a fixed size; a tower of any resolution attends within its windows."""
    tower: Mapping[str, Any] | None = config.get("vision_config")
    if not tower or not isinstance(tower, Mapping):
        return None
    hidden = _number(tower, "hidden_size", "embed_dim")
    patch = _number(tower, "patch_size", default=14)
    side = _number(tower, "image_size", "window_size", default=336) // patch
    ratio, merged = config.get("downsample_ratio"), _number(tower, "spatial_merge_size", default=1)
    return VisionShape(
        hidden=hidden,
        blocks=_number(tower, "num_hidden_layers", "depth"),
        inner=_number(tower, "intermediate_size", default=4 * hidden),
        patches=side**2,
        patches_per_token=1 / float(ratio) ** 2 if isinstance(ratio, (int, float)) and ratio > 0 else float(merged**2),
        gated=str(tower.get("hidden_act", "gelu")).startswith(("silu", "swish")),
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
