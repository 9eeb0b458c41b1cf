"""plan.json: what a sweep will measure. It is written before the first sample and never changes.

The keys of a complete run are the product of configurations, samples and repeats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from laptime.data.files import write_whole
from laptime.data.json_text import readable_json
from laptime.data.outside import DAMAGE, read_regular
from laptime.data.record import Environment, Scalar
from laptime.data.run_folder import RunInfo
from laptime.errors import LaptimeError
from laptime.sweeps.config import KNOBS, SweepConfig, changes, measured_fields
from laptime.sweeps.grid import Configuration

Key = tuple[str, str, int]
RUINED = 0.5
"""Below this share of equal next tokens a model with fewer blocks is said to answer differently."""


class SweepPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides which samples a sweep holds, and in which order they are measured."""

    schema: Literal["laptime.plan/1"] = "laptime.plan/1"
    configs: list[Configuration]
    samples: list[str]
    repeats: int
    rounds: int
    seed: int
    sweep_config: SweepConfig = msgspec.field(name="campaign")  # its name in plan.json
    # How often a model with fewer blocks agrees with the whole one on the next token, by the number of blocks.
    agreement: dict[int, float] = {}

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
        names = ["image_tokens_limit" if name == "image_tokens" else name for name in KNOBS]
        values = {name: list(dict.fromkeys(c.config.get(name) for c in self.configs)) for name in names}
        if None not in values["tier"]:
            values["crops"] = []  # a tier says the same
        return {name: levels for name, levels in values.items() if len(levels) > 1}

    @property
    def common(self) -> dict[str, Scalar]:
        """What all configurations share."""
        first, *others = [c.config for c in self.configs]
        return {k: v for k, v in first.items() if all(k in other and other[k] == v for other in others)}


def ruined(agreement: Mapping[int, float]) -> list[str]:
    """A sentence for each number of blocks that leaves little of the model's own output (SweepPlan.agreement)."""
    return [
        f"{blocks} blocks: the most probable next token is the whole model's at {100 * share:.0f} % of the positions "
        "that were tried. Expect other answers than the model's own."
        for blocks, share in sorted(agreement.items())
        if share < RUINED
    ]


def read_plan(folder: Path) -> SweepPlan | None:
    """The plan of a run folder; None where there is none.

    Raises LaptimeError when it is damaged or of another version.
    """
    file = folder / "plan.json"
    try:
        raw = read_regular(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LaptimeError(f"{file}: {error.strerror}") from error
    try:
        return msgspec.json.decode(raw, type=SweepPlan)
    except DAMAGE as error:
        raise LaptimeError(
            f"{file}: not a plan that this laptime reads ({error}); use the laptime that wrote it"
        ) from error


def write_plan(folder: Path, plan: SweepPlan) -> None:
    """Write plan.json, whole or not at all."""
    write_whole(folder / "plan.json", readable_json(plan))


def check_blocks_named(folder: Path, plan: SweepPlan) -> None:
    """Raise LaptimeError when the plan leaves blocks out by a file of importances, but doesn't say which ones run.

    Plans from before that was recorded: going on would run other blocks than were measured.
    """
    if any(c.config.get("importance") is not None and "active_blocks" not in c.config for c in plan.configs):
        raise LaptimeError(
            f"{folder}: its plan was made before a sweep recorded which blocks run, so it can't be gone on with; sweep "
            "anew into another folder (`out`)"
        )


def check_same(folder: Path, before: SweepPlan, sweep_config: SweepConfig) -> None:
    """Raise LaptimeError when `sweep_config` would measure something else than the run's plan."""
    changed = changes(before.sweep_config, sweep_config)
    if changed:
        more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
        raise LaptimeError(
            f"{folder}: holds a run of another configuration: {'; '.join(changed[:3])}{more}; "
            "resume with the old one, or choose another folder (`out`)"
        )


def plan_digest(plan: SweepPlan) -> str:
    """A short hash of what a sweep measures and in which order. run.json keeps it, for when plan.json is lost."""
    parts = (
        [config.config_id for config in plan.configs], plan.samples, plan.repeats, plan.rounds, plan.seed,
        measured_fields(plan.sweep_config),
    )  # fmt: skip
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:16]


def check_described(folder: Path, info: RunInfo, plan: SweepPlan, measured: set[Key]) -> None:
    """Raise LaptimeError when a plan that was made anew is not the one that the run without plan.json followed.

    measured: the keys that the run holds already. An older run.json has no digest; what it has is compared.
    """
    known = info.session.get("plan")
    if known is not None:
        same = known == plan_digest(plan)
    else:
        facts = {"repeats": plan.repeats, "rounds": plan.rounds, "seed": plan.seed, "configurations": len(plan.configs)}
        same = all(info.session.get(name, value) == value for name, value in facts.items())
        same = same and info.config == plan.common and measured <= plan.keys()
    if not same:
        raise LaptimeError(
            f"{folder}: its plan.json is lost, and run.json describes another configuration than this one; resume with "
            "the old one, or choose another folder (`out`)"
        )


class ModelSize(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of weights, and the lengths of the prompts. A rough estimate of a sweep's time is made from them."""

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
    """A prepared sweep as bytes, to send it from another process."""
    return msgspec.msgpack.encode(prepared)


def decode_prepared(raw: bytes) -> PreparedSweep:
    """A prepared sweep from these bytes."""
    return msgspec.msgpack.decode(raw, type=PreparedSweep)
