"""A wide model with the trained one's answers: python -m examples.glyphs.widen --out runs/glyphs-wide

On a GPU's fast path the trained model answers in 2 ms, whatever is chosen: its kernels are too small to cost anything.
Here every width is `--times` as large and every feature stands that many times side by side, so that each layer
computes the same function (Net2WiderNet: Chen, Goodfellow, Shlens 2016, arXiv:1511.05641). With 16 a model of 7 M
weights becomes one of 1.9 billion, in which image tiers, experts and blocks cost what they cost in a model of that
size. Nothing is trained. Factors are powers of two, so that no weight is rounded.
"""

from __future__ import annotations

import argparse
import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlavaNextForConditionalGeneration

from .model import make_generation_config, save

TIMES = 16
INSIDE = 4
"""How much longer an attention head becomes; `times / INSIDE` is how many heads stand in place of one."""


@dataclass(frozen=True)
class Axis:
    """Which old feature each new one is (-1: none, it stays 0), and how many of the new ones are that one."""

    source: torch.Tensor
    copies: int

    def rows(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight with this axis as its first: what writes features."""
        return torch.where(self._is_one(weight.dim() - 1), weight[self.source.clamp(min=0)], 0)

    def columns(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight with this axis as its last: what reads features, each copy a part of the sum."""
        return weight[..., self.source] / self.copies

    def _is_one(self, trailing: int) -> torch.Tensor:
        return (self.source >= 0).view(-1, *[1] * trailing)


def repeated(width: int, times: int) -> Axis:
    """Each feature `times` in a row. Means and mean squares stay as they are, and so do LayerNorm and RMSNorm."""
    return Axis(torch.arange(width).repeat_interleave(times), times)


def in_heads(width: int, heads: int, times: int) -> Axis:
    """The same within heads: longer ones, and several for one."""
    head = torch.arange(width).view(heads, -1).repeat_interleave(INSIDE, dim=1)
    return Axis(head.repeat(times // INSIDE, 1).flatten(), times)


def rotated(width: int, heads: int, times: int) -> Axis:
    """Queries and keys under rotary positions: a feature keeps its frequency, theta ** (-2 i / length of a head).

    In a head that is INSIDE times as long that is place INSIDE * i of its half. The places between stay 0.
    """
    length = width // heads
    halves = torch.full((heads, 2, length // 2 * INSIDE), -1)
    halves[:, :, ::INSIDE] = torch.arange(width).view(heads, 2, length // 2)
    return Axis(halves.view(heads, -1).repeat(times // INSIDE, 1).flatten(), times // INSIDE)


def widened(model: Any, times: int = TIMES) -> Any:
    """A model of `times` each width that gives the logits of this one.

    model: a LlavaNextForConditionalGeneration with an OLMoE text model. times: a power of two, 4 or more.

    Raises ValueError for another `times`.
    """
    config = wide_config(model.config, times)
    vision, text = model.config.vision_config, model.config.text_config
    axes = {
        "vision": repeated(vision.hidden_size, times),
        "vision heads": in_heads(vision.hidden_size, vision.num_attention_heads, times),
        "vision inner": repeated(vision.intermediate_size, times),
        "text": repeated(text.hidden_size, times),
        "text heads": in_heads(text.hidden_size, text.num_attention_heads, times),
        "rotated": rotated(text.hidden_size, text.num_attention_heads, times),
        "expert": repeated(text.intermediate_size, times),
    }
    with torch.device("meta"):
        wide = LlavaNextForConditionalGeneration(config).to(model.dtype)
    weights = {name: _wide_weight(name, weight, axes) for name, weight in model.state_dict().items()}
    wide.load_state_dict(weights, assign=True)
    wide.model.vision_tower.embeddings.position_ids = model.model.vision_tower.embeddings.position_ids.clone()
    wide.model.language_model.rotary_emb = type(model.model.language_model.rotary_emb)(config.text_config)
    wide.generation_config = make_generation_config()
    return wide.eval()


def wide_config(config: Any, times: int = TIMES) -> Any:
    """The architecture of the wide model. Raises ValueError for a `times` that is no power of two or below 4."""
    if times < INSIDE or times & (times - 1):
        raise ValueError(f"times = {times}: write a power of two, {INSIDE} or more")
    wide = copy.deepcopy(config)
    for part in (wide.vision_config, wide.text_config):
        part.hidden_size *= times
        part.intermediate_size *= times
        part.num_attention_heads *= times // INSIDE
    wide.text_config.num_key_value_heads = wide.text_config.num_attention_heads
    return wide


RULES: tuple[tuple[str, str | None, str | None, float], ...] = (
    # how a weight's name ends, the axis of its rows (a vector has only these), that of its columns, a factor
    (r"class_embedding|patch_embedding\.weight", "vision", None, 1.0),
    (r"position_embedding\.weight", None, "vision", 1.0),
    (r"vision_tower.*(layer_norm\d|layernorm|layrnorm)\.(weight|bias)", "vision", None, 1.0),
    (r"vision_tower.*q_proj\.weight", "vision heads", "vision", 0.5),  # INSIDE x the product, by half the scale
    (r"vision_tower.*q_proj\.bias", "vision heads", None, 0.5),
    (r"vision_tower.*[kv]_proj\.weight", "vision heads", "vision", 1.0),
    (r"vision_tower.*[kv]_proj\.bias", "vision heads", None, 1.0),
    (r"out_proj\.weight", "vision", "vision heads", 1.0),
    (r"fc1\.weight", "vision inner", "vision", 1.0),
    (r"fc1\.bias", "vision inner", None, 1.0),
    (r"fc2\.weight", "vision", "vision inner", 1.0),
    (r"(out_proj|fc2)\.bias", "vision", None, 1.0),
    (r"linear_1\.weight", "text", "vision", 1.0),
    (r"linear_2\.weight", "text", "text", 1.0),
    (r"linear_\d\.bias|image_newline|(input_layernorm|post_attention_layernorm|norm)\.weight", "text", None, 1.0),
    (r"embed_tokens\.weight|lm_head\.weight|mlp\.gate\.weight", None, "text", 1.0),
    (r"language_model.*[qk]_proj\.weight", "rotated", "text", 2.0),  # the norm's mean is over INSIDE x the places
    (r"q_norm\.weight", "rotated", None, 1.0),  # x 2 for the scale of longer heads, / 2 as below
    (r"k_norm\.weight", "rotated", None, 0.5),
    (r"language_model.*v_proj\.weight", "text heads", "text", 1.0),
    (r"o_proj\.weight", "text", "text heads", 1.0),
)
READ_TABLES = ("embed_tokens", "position_embedding")
"""Tables whose rows are looked up: their columns are features that they write, and no sums."""


def _wide_weight(name: str, weight: torch.Tensor, axes: Mapping[str, Axis]) -> torch.Tensor:
    if "experts" in name:
        return _wide_experts(name, weight, axes)
    for pattern, rows, columns, factor in RULES:
        if re.fullmatch(rf"(.*\.)?({pattern})", name) is None:
            continue
        if columns is not None and any(table in name for table in READ_TABLES):
            return weight[:, axes[columns].source].contiguous()
        if columns is not None:
            weight = axes[columns].columns(weight)
        if rows is not None:
            weight = axes[rows].rows(weight)
        return (weight * factor).contiguous()
    raise ValueError(f"{name}: no rule says how this weight is widened")


def _wide_experts(name: str, weight: torch.Tensor, axes: Mapping[str, Axis]) -> torch.Tensor:
    """(experts, gate and up, text) or (experts, text, expert)."""
    if name.endswith("gate_up_proj"):
        read = axes["text"].columns(weight)
        return torch.cat([half[:, axes["expert"].source] for half in read.chunk(2, dim=1)], dim=1)
    return axes["expert"].columns(weight)[:, axes["text"].source].contiguous()


def main() -> None:
    """Read, widen, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path(__file__).parent / "model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--times", type=int, default=TIMES)
    given = parser.parse_args()
    model = LlavaNextForConditionalGeneration.from_pretrained(given.model, dtype=torch.bfloat16)
    wide = widened(model, given.times)
    save(wide, given.out)
    print(f"{sum(weight.numel() for weight in wide.parameters()):,} weights written to {given.out}")


if __name__ == "__main__":
    main()
