"""From a sweep's configuration to its grid: every combination of knob values, in canonical form, each once.

Canonical means resolved: `auto`, `null` and tiers become the values they stand for. So equal knobs get equal ids,
however they were written.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec

from laptime.data.record import Scalar, config_id
from laptime.errors import LaptimeError
from laptime.sweeps.config import KNOBS, SweepConfig
from laptime.workload.images import parse_size


class PlannedModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a model and its device decide when the sweep's configuration leaves it open."""

    is_vlm: bool
    dtype: str  # what `auto` becomes
    attention: str | None
    top_k: int | None  # experts a token is sent to; None without experts
    blocks: int
    compiles: bool  # whether a static cache's decode step gets compiled on this device
    importance: str | None = None  # what decides which blocks run: "measured", a file's hash; None: their position
    image_tokens: dict[int, int] = {}  # what the family allows of each number that is asked for
    experts: dict[int, str] = {}  # how many experts each block has, by top_k, as written_experts writes them
    active: dict[int, str] = {}  # which blocks run, by their number, as written_blocks writes them


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """One point of the grid."""

    config_id: str
    config: dict[str, Scalar]


class SweepSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The values of one configuration, typed for the code that applies them."""

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
    image_tokens_limit: int | None = None
    top_k: int | None = None
    experts: str | None = None  # of each block; None: top_k in every block
    blocks: int | None = None
    active_blocks: str | None = None  # None: chosen by their position
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
) -> list[Configuration]:
    """The sweep's configurations, canonical and each once, in the grid's order.

    Which blocks run, and what decided it, is recorded where blocks are left out. Raises LaptimeError when none is left.
    """
    grid: dict[str, Configuration] = {}
    for point in combinations(sweep_config):
        config = _canonical(point, sweep_config, facts, tiers)
        grid.setdefault(config_id(config), Configuration(config_id=config_id(config), config=config))
    if not grid:
        raise LaptimeError("the grid is empty: exclude leaves no combination of knobs")
    return list(grid.values())


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
) -> dict[str, Scalar]:
    measure, data = sweep_config.measure, sweep_config.workload.data
    blocks = point["blocks"] or facts.blocks
    crops = point["crops"]
    if point["tier"] is not None:
        crops = _written(tiers[point["tier"]])
    elif crops is not None:
        crops = _written(crop_range(crops))
    tier = next((name for name, ends in tiers.items() if crops == _written(ends)), None)
    budget = point["image_tokens"]
    if budget is not None and crops is not None:
        raise LaptimeError(f"image_tokens {budget} and crops {crops}: both say how an image is cut; use one of them")
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
        "image_tokens_limit": None if budget is None else facts.image_tokens[budget],
        "top_k": point["top_k"] or facts.top_k,
        "experts": None if facts.top_k is None else facts.experts.get(point["top_k"] or facts.top_k),
        "blocks": blocks,
        "importance": facts.importance if blocks < facts.blocks else None,
        "active_blocks": facts.active.get(blocks),
        "data": None if data is None else data.rsplit("/", 1)[-1],
        "cache_policy": measure.cache_policy,
        "autocast": measure.autocast,
        "tf32": measure.tf32 or None,
    }
    return {name: value for name, value in config.items() if value is not None}


def _written(ends: tuple[int, int]) -> int | str:
    return ends[0] if ends[0] == ends[1] else f"{ends[0]}-{ends[1]}"
