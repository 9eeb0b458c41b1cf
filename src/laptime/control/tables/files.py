"""A policy as a folder: policy.json (schema laptime.policy/1) and policy.safetensors. No torch, nothing is unpickled.

Beside the weights stands what the policy was made for (choices, model, early block, budgets) and how it was trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.bounds.leeway import Leeway
from laptime.control.choices import ChoiceSpace
from laptime.control.judge.result import TrainingCurve
from laptime.control.policies.grpo import GrpoPolicy, SupervisedPolicy
from laptime.control.policies.inputs import InputSizes, Network, early_sizes, late_sizes, read_network
from laptime.control.policies.policy import Needs
from laptime.control.policies.static import LookupPolicy, StaticPolicy
from laptime.control.tables.decision_table import ModelFacts
from laptime.control.tables.tensor_files import read_value, take_array, write_value
from laptime.data.record import Scalar
from laptime.errors import LaptimeError

SCHEMA = "laptime.policy/1"
Kind = Literal["static", "lookup", "supervised", "grpo"]
SavablePolicy = StaticPolicy | LookupPolicy | SupervisedPolicy | GrpoPolicy
MOST_WIDTH = 100_000
"""Of a layer; wider ones are no policy's."""


class SavedPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy and what it was made for. budgets: (lowest, highest) ms that it was trained on; None: any.

    early_block: the number of blocks that run before the late choice; 0 for a policy that doesn't look at hidden
    states. settings: how it was trained. leeway: None for a policy that has to keep the promise for each question.
    """

    policy: SavablePolicy
    model: ModelFacts
    early_block: int = 0
    budgets: tuple[float, float] | None = None
    settings: dict[str, Scalar] = {}
    curve: TrainingCurve | None = None
    leeway: Leeway | None = None


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    kind: Kind
    name: str
    space: ChoiceSpace
    model: ModelFacts
    needs: Needs
    hidden: int
    early_layers: list[int]
    late_layers: list[int]
    tolerance: float
    early_block: int
    budgets: tuple[float, float] | None
    settings: dict[str, Scalar]
    curve: TrainingCurve | None
    leeway: Leeway | None = None


def write_policy(saved: SavedPolicy, folder: str | Path) -> None:
    """Write policy.json and policy.safetensors. Raises LaptimeError when the folder can't be written."""
    policy = saved.policy
    kind: Kind
    arrays: dict[str, npt.NDArray[Any]]
    networks: list[Network] = []
    hidden, tolerance = 0, 1.0
    if isinstance(policy, StaticPolicy):
        kind, arrays = "static", {"accuracy": policy.accuracy, "time_ms": policy.bound_ms}
    elif isinstance(policy, LookupPolicy):
        kind, arrays, tolerance = "lookup", {"accuracy": policy.accuracy, "time_ms": policy.mean_ms}, policy.tolerance
    else:
        kind = "supervised" if isinstance(policy, SupervisedPolicy) else "grpo"
        networks, hidden = [policy.early, policy.late], policy.hidden
        arrays = policy.early.arrays("early") | policy.late.arrays("late")
    told = _Told(
        kind=kind,
        name=policy.name,
        space=policy.space,
        model=saved.model,
        needs=policy.needs,
        hidden=hidden,
        early_layers=networks[0].sizes if networks else [],
        late_layers=networks[1].sizes if networks else [],
        tolerance=tolerance,
        early_block=saved.early_block,
        budgets=saved.budgets,
        settings=saved.settings,
        curve=saved.curve,
        leeway=saved.leeway,
    )
    write_value(Path(folder), "policy", SCHEMA, told, arrays)


def read_policy(folder: str | Path) -> SavedPolicy:
    """Read what `write_policy` wrote. Raises LaptimeError (one line) for a folder that is damaged, foreign or newer."""
    place = Path(folder)
    told, arrays = read_value(place, "policy", SCHEMA, _Told, "a policy")
    file = place / "policy.json"
    if told.budgets is not None and not 0 < told.budgets[0] <= told.budgets[1] < float("inf"):
        raise LaptimeError(
            f"{file}: budgets from {told.budgets[0]:g} to {told.budgets[1]:g} ms are none; train it anew"
        )
    if told.hidden < 0 or told.early_block < 0 or len(told.space) < 1:
        raise LaptimeError(f"{file}: a policy that is damaged (sizes below 0); train it anew")
    return SavedPolicy(
        policy=_policy(told, arrays, place),
        model=told.model,
        early_block=told.early_block,
        budgets=told.budgets,
        settings=told.settings,
        curve=told.curve,
        leeway=told.leeway,
    )


def told_settings(settings: msgspec.Struct) -> dict[str, Scalar]:
    """A training's settings as a policy's file tells them: what is no plain value as text."""
    values = {name: getattr(settings, name) for name in settings.__struct_fields__}
    return {
        name: one if isinstance(one, (str, int, float)) or one is None else str(one) for name, one in values.items()
    }


def check_model(saved: SavedPolicy, facts: ModelFacts) -> None:
    """Raise LaptimeError, naming the knob, when a policy was trained for other knobs than this model has."""
    space = saved.policy.space
    wrong = []
    if space.blocks and facts.blocks and max(space.blocks) > facts.blocks:
        wrong.append(f"up to {max(space.blocks)} blocks, the model has {facts.blocks}")
    if space.top_ks and facts.experts is not None and max(space.top_ks) > facts.experts:
        has = f"{facts.experts} experts" if facts.experts else "no experts"
        wrong.append(f"top-k up to {max(space.top_ks)}, the model has {has}")
    wrong += [f"a model of {said}" for said in saved.model.differences(facts)]
    if saved.early_block and facts.blocks and saved.early_block >= facts.blocks:
        wrong.append(f"a decision after block {saved.early_block}, the model has {facts.blocks}")
    if wrong:
        raise LaptimeError(
            f"policy {saved.policy.name}: trained for {'; for '.join(wrong)}. Train it on this model's sweep"
        )


def _policy(told: _Told, arrays: dict[str, npt.NDArray[Any]], place: Path) -> SavablePolicy:
    file = place / "policy.safetensors"
    space, count = told.space, len(told.space)
    if told.kind in ("static", "lookup"):
        accuracy = take_array(arrays, "accuracy", (count,), file).astype(np.float64)
        times = take_array(arrays, "time_ms", (count,), file, finite=told.kind == "lookup").astype(np.float64)
        if (times <= 0).any() or ((accuracy < 0) | (accuracy > 1)).any():
            raise LaptimeError(f"{file}: accuracies outside 0..1, or times that are none; train it anew")
        if told.kind == "static":
            return StaticPolicy(space=space, accuracy=accuracy, bound_ms=times, name=told.name)
        return LookupPolicy(space=space, accuracy=accuracy, mean_ms=times, tolerance=told.tolerance, name=told.name)
    grpo = told.kind == "grpo"
    inputs = (
        early_sizes(space, told.needs, budget=grpo),
        late_sizes(space, told.needs, told.hidden, budget=grpo),
    )
    outputs = (space.first, space.late) if grpo else (count, count)
    names = ("early", "late")
    layers = (told.early_layers, told.late_layers)
    for name, sizes, given, out in zip(names, layers, inputs, outputs, strict=True):
        _check_layers(place / "policy.json", name, sizes, given, out)
    early, late = (read_network(arrays, name, sizes, file) for name, sizes in zip(names, layers, strict=True))
    made = GrpoPolicy if grpo else SupervisedPolicy
    return made(space=space, needs=told.needs, early=early, late=late, hidden=told.hidden, name=told.name)


def _check_layers(file: Path, name: str, layers: list[int], inputs: InputSizes, outputs: int) -> None:
    if len(layers) < 2 or min(layers) < 0 or max(layers) > MOST_WIDTH:
        raise LaptimeError(f"{file}: the {name} network has layers {layers[:8]}; train it anew")
    if (layers[0], layers[-1]) != (inputs.total, outputs):
        raise LaptimeError(
            f"{file}: the {name} network goes from {layers[0]} features to {layers[-1]} choices, its knobs need "
            f"{inputs.total} to {outputs}; train it anew"
        )
