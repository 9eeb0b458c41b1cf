"""plan.json: what a sweep will measure, written before its first sample and never changed.

The keys of a complete run are the product of configurations, samples and repeats.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from laptime.data.record import Environment, Scalar, config_id
from laptime.data.run_folder import readable_json, write_atomically
from laptime.errors import LaptimeError
from laptime.sweeps.config import KNOBS, SweepConfig, changes
from laptime.workload.images import parse_size

Key = tuple[str, str, int]


class SweepPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides which samples a sweep holds, and in which order they are measured."""

    schema: Literal["laptime.plan/1"] = "laptime.plan/1"
    configs: list[Configuration]
    samples: list[str]
    repeats: int
    rounds: int
    seed: int
    sweep_config: SweepConfig = msgspec.field(name="campaign")  # its name in plan.json

    def keys(self) -> set[Key]:
        """The keys of a complete run."""
        return {
            (c.config_id, sample_id, repeat)
            for c in self.configs
            for sample_id in self.samples
            for repeat in range(self.repeats)
        }

    @property
    def varying(self) -> dict[str, list[Scalar]]:
        """The knobs with more than one value, each with its values in the grid's order."""
        values = {name: list(dict.fromkeys(c.config.get(name) for c in self.configs)) for name in KNOBS}
        if None not in values["tier"]:
            values["crops"] = []  # a tier says the same
        return {name: levels for name, levels in values.items() if len(levels) > 1}

    @property
    def common(self) -> dict[str, Scalar]:
        """What all configurations share."""
        first, *others = [c.config for c in self.configs]
        return {k: v for k, v in first.items() if all(k in other and other[k] == v for other in others)}


def read_plan(folder: Path) -> SweepPlan | None:
    """The plan of a run folder; None where there is none.

    Raises LaptimeError when it is damaged or of another version.
    """
    file = folder / "plan.json"
    try:
        raw = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LaptimeError(f"{file}: {error.strerror}") from error
    try:
        return msgspec.json.decode(raw, type=SweepPlan)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LaptimeError(
            f"{file}: not a plan that this laptime reads ({error}); use the laptime that wrote it"
        ) from error


def write_plan(folder: Path, plan: SweepPlan) -> None:
    """Write plan.json, whole or not at all."""
    write_atomically(folder / "plan.json", readable_json(plan))


def check_same(folder: Path, before: SweepPlan, sweep_config: SweepConfig) -> None:
    """Raise LaptimeError when `sweep_config` would measure something else than the run's plan."""
    changed = changes(before.sweep_config, sweep_config)
    if changed:
        more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
        raise LaptimeError(
            f"{folder}: holds a run of another configuration: {'; '.join(changed[:3])}{more}; "
            "resume with the old one, or choose another --out"
        )


class PlannedModel(msgspec.Struct, frozen=True, kw_only=True):
    """What the model and the device say where the sweep's configuration says nothing."""

    is_vlm: bool
    dtype: str  # what `auto` becomes
    attention: str | None
    top_k: int | None  # experts a token is sent to; None without experts
    blocks: int
    compiles: bool  # whether a static cache's decode step gets compiled on this device


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """One point of the grid."""

    config_id: str
    config: dict[str, Scalar]


class SweepSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration's values as the code that applies them wants them."""

    model: str
    dtype: str
    batch: int
    new_tokens: int
    cache_policy: str
    attention: str | None = None
    cache: str | None = None  # None: transformers' dynamic cache
    compile: bool = False
    prompt_tokens: int | None = None  # None: the data's own
    image_size: tuple[int, int] | None = None
    crops: tuple[int, int] | None = None
    top_k: int | None = None
    blocks: int | None = None
    autocast: str | None = None
    tf32: bool = False


DEFAULT_IMAGE_SIZE = "672x672"


def combinations(sweep_config: SweepConfig) -> list[dict[str, Any]]:
    """Every combination of knob values as written: the grid, less `exclude`, with `include`."""
    values = {name: getattr(sweep_config.knobs, name) for name in KNOBS}
    grid = [dict(zip(KNOBS, point, strict=True)) for point in itertools.product(*values.values())]
    kept = [point for point in grid if not any(_matches(point, rule) for rule in sweep_config.exclude)]
    first = {name: levels[0] for name, levels in values.items()}
    return [*kept, *({**first, **extra} for extra in sweep_config.include)]


def configurations(
    sweep_config: SweepConfig,
    facts: PlannedModel,
    tiers: Mapping[str, tuple[int, int]],
    importance_id: str | None = None,
) -> list[Configuration]:
    """The sweep's configurations, canonical and each once, in the grid's order.

    importance_id: what the file of block importances is known by; it matters where blocks are left out.
    Raises LaptimeError when none is left.
    """
    found: dict[str, Configuration] = {}
    for point in combinations(sweep_config):
        config = _canonical(point, sweep_config, facts, tiers, importance_id)
        found.setdefault(config_id(config), Configuration(config_id=config_id(config), config=config))
    if not found:
        raise LaptimeError("the grid is empty: exclude leaves no combination of knobs")
    return list(found.values())


def settings_of(config: Mapping[str, Scalar]) -> SweepSettings:
    """A canonical configuration as SweepSettings."""
    values: dict[str, Any] = {name: config[name] for name in SweepSettings.__struct_fields__ if name in config}
    if values.get("cache") == "dynamic":
        values["cache"] = None
    if "image_size" in values:
        values["image_size"] = parse_size(str(values["image_size"]))
    if "crops" in values:
        values["crops"] = crop_range(values["crops"])
    return msgspec.convert(values, SweepSettings)


def crop_range(crops: Scalar) -> tuple[int, int]:
    """6 or "4-8" as (lowest, highest)."""
    low, _, high = str(crops).partition("-")
    return int(low), int(high or low)


def _matches(point: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    return all(point[name] in (value if isinstance(value, list) else [value]) for name, value in rule.items())


def _canonical(
    point: Mapping[str, Any],
    sweep_config: SweepConfig,
    facts: PlannedModel,
    tiers: Mapping[str, tuple[int, int]],
    importance_id: str | None,
) -> dict[str, Scalar]:
    measure, data = sweep_config.measure, sweep_config.workload.data
    blocks = point["blocks"] or facts.blocks
    crops = point["crops"]
    if point["tier"] is not None:
        crops = _written(tiers[point["tier"]])
    elif crops is not None:
        crops = _written(crop_range(crops))
    tier = next((name for name, ends in tiers.items() if crops == _written(ends)), None)
    size = point["image_size"] or (DEFAULT_IMAGE_SIZE if facts.is_vlm else None)
    config: dict[str, Scalar] = {
        "model": sweep_config.model,
        "dtype": facts.dtype if point["dtype"] == "auto" else point["dtype"],
        "attention": point["attention"] or facts.attention,
        "cache": point["cache"] or "dynamic",
        "compile": bool(point["compile"] and point["cache"] is not None and facts.compiles),
        "batch": point["batch"],
        "prompt_tokens": None if data else point["prompt_tokens"],
        "new_tokens": point["new_tokens"],
        "image_size": None if data or size is None else "{}x{}".format(*parse_size(size)),
        "tier": tier,
        "crops": crops,
        "top_k": point["top_k"] or facts.top_k,
        "blocks": blocks,
        "importance": importance_id if blocks < facts.blocks else None,
        "data": None if data is None else data.rsplit("/", 1)[-1],
        "cache_policy": measure.cache_policy,
        "autocast": measure.autocast,
        "tf32": measure.tf32 or None,
    }
    return {name: value for name, value in config.items() if value is not None}


def _written(ends: tuple[int, int]) -> int | str:
    return ends[0] if ends[0] == ends[1] else f"{ends[0]}-{ends[1]}"


class ModelSize(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of weights, and the work a prompt is: what a first guess at a sweep's time is made from."""

    dense_weights: int
    expert_weights: int
    vision_weights: int
    experts: int
    blocks: int
    prompt_widths: dict[str, int]  # config_id -> tokens of its prompt, the image's included


class PreparedSweep(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known before the first worker starts."""

    plan: SweepPlan
    device: str
    gpus: int
    environment: Environment
    size: ModelSize


def encode_prepared(prepared: PreparedSweep) -> bytes:
    """As bytes, to come from another process."""
    return msgspec.msgpack.encode(prepared)


def decode_prepared(raw: bytes) -> PreparedSweep:
    """From bytes."""
    return msgspec.msgpack.decode(raw, type=PreparedSweep)
