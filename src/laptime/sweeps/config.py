"""The fields of a sweep's configuration. laptime.sweeps.config_reading reads and checks a file of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=1, le=10_000_000)]
Seconds = Annotated[float, Meta(gt=0)]
Score = Literal["vqa", "exact", "choice", "anls", "relaxed", "yesno", "cider", "contains"]


class Workload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What generate() is called with: synthetic inputs, or questions from local files."""

    samples: Count | None = None  # different inputs; default: 8 synthetic ones, or all of the data
    data: str | None = None  # JSONL of {image, question, answer}, or VQAv2's / COCO's questions
    annotations: str | None = None  # VQAv2: the answers
    images: str | None = None  # folder of the images
    score: Score | None = None


def _levels(value: Any) -> Any:
    return msgspec.field(default_factory=lambda: [value])


class KnobGrid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The grid. Each knob has one value or a list of values; null is the model's own value."""

    tier: list[Literal["low", "medium", "high"] | None] = _levels(None)
    crops: list[Annotated[int, Meta(ge=1, le=64)] | str | None] = _levels(None)  # 6, or "4-8"
    image_tokens: list[Count | None] = _levels(None)  # of one image, at most
    top_k: list[Count | None] = _levels(None)
    blocks: list[Count | None] = _levels(None)
    batch: list[Count] = _levels(1)
    prompt_tokens: list[Count] = _levels(64)
    new_tokens: list[Count] = _levels(32)
    dtype: list[Literal["auto", "float32", "bfloat16", "float16"]] = _levels("auto")
    attention: list[str | None] = _levels(None)
    cache: list[str | None] = _levels(None)
    compile: list[bool] = _levels(True)
    image_size: list[str | None] = _levels(None)  # "672x672"


KNOBS = KnobGrid.__struct_fields__
IMPORTANCE_WORDS = ("measured", "position")
"""What `importance:` may say instead of naming a file."""


class Measure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often and how carefully to measure."""

    repeats: Annotated[int, Meta(ge=1, le=100_000)] = 3  # of every input, under every configuration
    rounds: Annotated[int, Meta(ge=1, le=100_000)] | None = (
        None  # each round visits every configuration once; default 3
    )
    warmups: Annotated[int, Meta(ge=0, le=1000)] = 10  # calls of a visit's warm-up, at most
    warmup_limit_s: Seconds = 120.0  # a visit's warm-up ends after it
    time_limit_s: Seconds | None = None  # no visit begins after it; --resume goes on
    per_token: bool = False
    energy: bool = True
    cache_policy: Literal["keep", "empty"] = "keep"
    autocast: Literal["bfloat16", "float16"] | None = None
    tf32: bool = False


class SweepConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sweep as its author wrote it. It is checked by itself, not yet on a model."""

    model: Annotated[str, Meta(min_length=1)]
    device: str = "auto"
    seed: Annotated[int, Meta(ge=0, le=2**31)] = 0
    trust_remote_code: bool = False
    workload: Workload = Workload()
    knobs: KnobGrid = KnobGrid()
    exclude: list[dict[str, Any]] = []  # combinations with all these values are left out
    include: list[dict[str, Any]] = []  # more combinations; knobs that aren't named have their first value
    importance: str | None = None  # "measured", "position", or a file: JSON list of numbers, one for each block
    experts: str | None = None  # a file of `laptime importance --search experts`: how many each block has
    measure: Measure = Measure()
    out: str | None = None


EXECUTION = ("device", "out", "measure.warmups", "measure.warmup_limit_s", "measure.time_limit_s")
"""Settings that don't change what is measured, only where or for how long. A resumed sweep may differ in them."""


def changes(before: SweepConfig, after: SweepConfig) -> list[str]:
    """The differences between two configurations in what they measure, as `knobs.top_k: [1] became [1, 2]`."""
    old, new = _flat(before), _flat(after)
    return [
        f"{name}: {_shown(old.get(name))} became {_shown(new.get(name))}"
        for name in sorted({*old, *new})
        if name not in EXECUTION and old.get(name) != new.get(name)
    ]


def measured_fields(sweep_config: SweepConfig) -> dict[str, Any]:
    """The fields that decide what is measured, by their names in `changes`."""
    return {name: value for name, value in _flat(sweep_config).items() if name not in EXECUTION}


def _flat(sweep_config: SweepConfig) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in msgspec.to_builtins(sweep_config).items():
        if isinstance(value, dict):
            flat.update({f"{name}.{inner}": v for inner, v in value.items()})
        else:
            flat[name] = value
    return flat


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()
