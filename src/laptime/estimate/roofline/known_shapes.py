"""Which sizes a model has, by the name that a run gives it: a preset, a folder, or what the hub's cache holds.

Read as JSON: nothing is imported from torch or transformers, and nothing is downloaded. The presets' sizes are written
here (a test holds them equal to the configurations that the models are built from).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from laptime.errors import LaptimeError
from laptime.estimate.roofline.roofline import ModelShape, VisionShape, shape_of

MOST_BYTES = 4 * 1024 * 1024
_OLMOE = ModelShape(
    hidden=2048, blocks=16, heads=16, kv_heads=16, head_size=128, inner=1024, vocabulary=50304, experts=64, top_k=8
)
_CLIP_L = VisionShape(hidden=1024, blocks=24, inner=4096, patches=576, patches_per_token=4.0)
_QWEN_VISION = VisionShape(hidden=1280, blocks=32, inner=3420, patches=64, patches_per_token=4.0, gated=True)
PRESETS = {
    "tiny-vlm": ModelShape(
        hidden=256, blocks=8, heads=4, kv_heads=4, head_size=64, inner=128, vocabulary=2048, experts=16, top_k=4,
        vision=VisionShape(hidden=192, blocks=6, inner=768, patches=144),
    ),
    "tiny-llm": ModelShape(
        hidden=256, blocks=8, heads=4, kv_heads=2, head_size=64, inner=768, vocabulary=4096
    ),
    "qwen3-4b": ModelShape(
        hidden=2560, blocks=36, heads=32, kv_heads=8, head_size=128, inner=9728, vocabulary=151936
    ),
    "molmoe-1b": msgspec.structs.replace(_OLMOE, vision=_CLIP_L),
    "qwen2.5-vl-3b": ModelShape(
        hidden=2048, blocks=36, heads=16, kv_heads=2, head_size=128, inner=11008, vocabulary=151936,
        vision=_QWEN_VISION,
    ),
    "olmoe-1b-7b": _OLMOE,
    "llama-3-8b": ModelShape(
        hidden=4096, blocks=32, heads=32, kv_heads=8, head_size=128, inner=14336, vocabulary=128256
    ),
}  # fmt: skip


def known_shape(model: str) -> ModelShape | None:
    """The shape of `preset:NAME`, of a folder's config.json, or of a hub id whose config.json was downloaded before.

    None where nothing is known of the model, or where its configuration doesn't say its sizes.
    """
    if model.startswith("preset:"):
        return PRESETS.get(model.removeprefix("preset:"))
    file = Path(model) / "config.json"
    try:
        if not file.is_file():
            cached = _from_cache(model)
            if cached is None:
                return None
            file = cached
        if file.stat().st_size > MOST_BYTES:
            return None
        return shape_of(msgspec.json.decode(file.read_bytes(), type=dict))
    except (OSError, ValueError, ArithmeticError, msgspec.DecodeError, RecursionError, LaptimeError):
        return None


def _from_cache(model: str) -> Path | None:
    """Where the hub's client keeps a model's configuration; it is there when the [torch] extra is."""
    if model.count("/") != 1:
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(model, "config.json")
    return Path(found) if isinstance(found, str) else None
