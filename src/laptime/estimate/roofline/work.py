"""The work of a row, for an estimator of laptime's own runs: which columns of `roofline` explain a stage's time.

The user names sizes and knobs (prompt_tokens, config.top_k); FLOPs, bytes and launches are computed from them and the
model's configuration, in fitting and in answering alike. Non-negative least squares on these columns then *is* the
roofline of the device at hand: its rate of a GB is the milliseconds that a GB takes there, of a launch that of a
launch. Where the device's rates are known, the floor max(FLOPs / rate, bytes / bandwidth) is one column more.

| time of | columns (units in `roofline.UNITS`) |
|---|---|
| vision | vision_gflop, vision_gb; vision_ms |
| prefill | prefill_gflop, prefill_gb, expert visits and launches of a forward; prefill_ms |
| a decode step | decode_gflop, decode_gb, decode_kv_gb, kv_tokens, expert_visits, launches; decode_per_token_ms |
| decode | the same, times the steps |
| first token, total | vision and prefill; all of it |

A model's sizes are known by the name that a run gives it: a preset, a folder, or what the hub's cache holds. They are
read as JSON: torch and transformers are not imported, and nothing is downloaded. The presets' sizes are written here (a
test holds them equal to the configurations that the models are built from).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.roofline.roofline import (
    CallSizes,
    ModelShape,
    Number,
    Rates,
    VisionShape,
    floor_ms,
    shape_of,
    work,
)

MODEL = "config.model"
CONTEXT = "context_tokens"
INPUTS = ("prompt_tokens", "output_tokens", "batch", "image_tokens", "config.blocks", "config.top_k", CONTEXT)
_VISION = ("vision_gflop", "vision_gb", "vision_ms")
_PREFILL = ("prefill_gflop", "prefill_gb", "prefill_ms", "launches")
_STEP = ("decode_gflop", "decode_gb", "decode_kv_gb", "kv_tokens", "expert_visits", "launches", "decode_per_token_ms")
_STEPS = tuple(f"steps*{name}" for name in _STEP)
STAGES = {
    "vision_ms": _VISION,
    "prefill_ms": _PREFILL,
    "ttft_ms": (*_VISION, *_PREFILL),
    "decode_per_token_ms": _STEP,
    "tpot_ms": _STEP,
    "decode_by_position_ms": _STEP,
    "decode_ms": _STEPS,
    "total_ms": (*_VISION, *_PREFILL, *_STEPS),
}
NAMES = frozenset(name for names in STAGES.values() for name in names)


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """How a row's work is computed: `columns` of it, from features and from what never varied."""

    columns: list[str]
    constants: dict[str, float]
    """Of INPUTS that are no features. What is neither is the model's own (blocks, top-k)."""
    model: str | None
    """The only model; None where config.model is a feature and says which."""
    shapes: dict[str, ModelShape]
    rates: Rates | None = None

    def shape(self, model: str) -> ModelShape:
        """Of a model of the training table, or of another that is known. Raises LaptimeError for one that isn't."""
        shape = self.shapes.get(model) or known_shape(model)
        if shape is None:
            raise LaptimeError(
                f"nothing is known of the model {model!r}: name a preset (preset:qwen3-4b) or a folder with its "
                "config.json"
            )
        return shape

    def without(self, sizes: Mapping[str, float], levels: Mapping[str, str]) -> Work:
        """The same work once these features are none any more: they had one value only."""
        constants = {**self.constants, **{name: float(value) for name, value in sizes.items() if name in INPUTS}}
        return msgspec.structs.replace(self, constants=constants, model=levels.get(MODEL, self.model))

    def of(self, sizes: Mapping[str, Number], shape: ModelShape) -> list[Number]:
        """The columns of one row (floats) or of many (arrays)."""
        given = {**self.constants, **sizes}
        batch = given.get("batch", 1.0)
        vision = shape.vision
        tiles = given.get("image_tokens", 0.0) * (vision.patches_per_token / vision.patches if vision else 0.0) * batch
        here = given.get(CONTEXT)  # of a step at a known place in its answer
        call = CallSizes(
            prompt=given.get("prompt_tokens", 0.0) if here is None else here,
            output=given.get("output_tokens", 2.0) if here is None else 1.0,
            batch=batch,
            tiles=tiles,
            blocks=given.get("config.blocks", float(shape.blocks)),
            top_k=given.get("config.top_k", float(shape.top_k)),
        )
        rates = self.rates
        done = work(shape, call) if rates is None else work(shape, call, rates.launches_per_block)
        if rates is not None:
            launches = done["launches"]
            done["vision_ms"] = floor_ms(done["vision_gflop"], done["vision_gb"], 0.0, rates)
            done["prefill_ms"] = floor_ms(done["prefill_gflop"], done["prefill_gb"], launches, rates)
            done["decode_per_token_ms"] = floor_ms(done["decode_gflop"], done["decode_gb"], launches, rates)
        steps = call.output - 1
        return [done[name] if name in done else steps * done[name.removeprefix("steps*")] for name in self.columns]

    def values(self, frame: pl.DataFrame, numeric: Mapping[str, Floats]) -> Floats:
        """(rows, columns): each row's work by its own model's shape."""
        out = np.empty((len(frame), len(self.columns)))
        sizes = {name: values for name, values in numeric.items() if name in INPUTS}
        if self.model is not None:
            for place, column in enumerate(self.of(sizes, self.shape(self.model))):
                out[:, place] = column
            return out
        models = frame[MODEL].to_numpy()
        for model in frame[MODEL].unique().to_list():
            of_model = models == model
            some = {name: values[of_model] for name, values in sizes.items()}
            for place, column in enumerate(self.of(some, self.shape(str(model)))):
                out[of_model, place] = column
        return out


def work_of_run(
    frame: pl.DataFrame, target: str, features: Sequence[str], categorical: Sequence[str], rates: Rates | None = None
) -> Work | None:
    """The work columns for a target of a run's frame: those that vary in it.

    None where there are none: a table that doesn't say which model it was, a model of which nothing is known, a target
    that no work explains (other), or a stage whose work is the same in every row.
    """
    names = [name for name in STAGES.get(target, ()) if rates is not None or not name.endswith("_ms")]
    if not names or MODEL not in frame.columns or "prompt_tokens" not in frame.columns or frame[MODEL].null_count():
        return None
    models = [str(model) for model in frame[MODEL].unique().sort().to_list()]
    shapes = {model: shape for model in models if (shape := known_shape(model)) is not None}
    if len(shapes) < len(models) or (len(models) > 1 and MODEL not in categorical):
        return None
    constants = {
        name: float(frame[name].median())  # type: ignore[arg-type]
        for name in INPUTS
        if name not in features
        and name in frame.columns
        and frame[name].dtype.is_numeric()
        and frame[name].drop_nulls().len()
        and not (name.startswith("config.") and (frame[name].null_count() or frame[name].n_unique() > 1))
    }
    of_stage = Work(
        columns=names,
        constants=constants,
        model=models[0] if len(models) == 1 else None,
        shapes=shapes,
        rates=rates,
    )
    numeric = {name: frame[name].cast(float).to_numpy() for name in features if name in INPUTS}
    values = of_stage.values(frame, numeric)
    varying = [name for name, column in zip(names, values.T, strict=True) if np.ptp(column) > 0]
    return msgspec.structs.replace(of_stage, columns=varying) if varying else None


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
    file = try_to_load_from_cache(model, "config.json")
    return Path(file) if isinstance(file, str) else None
