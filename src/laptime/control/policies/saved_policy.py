"""A policy as a folder, with the bounds that it was trained with. No torch, nothing is unpickled.

    policy.json, policy.safetensors   the policy, what it was made for (choices, model, budgets), how it was trained
    bounds.json, bounds.safetensors   the bounds (laptime.control.bounds.bounds)

A policy keeps its promise only with its own bounds. So both JSON files name the same hash, pair_sha256, over the arrays
of both. Files of two trainings in one folder are refused. Folders that were written before have no hash, and are read.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.bounds.bounds import Bounds, bounds_arrays, read_paired_bounds, write_bounds
from laptime.control.bounds.leeway import Leeway
from laptime.control.choices import ChoiceSpace, ModelFacts
from laptime.control.policies.learned import GrpoPolicy, SupervisedPolicy
from laptime.control.policies.network import InputSizes, Network, early_sizes, late_sizes, read_network
from laptime.control.policies.policy import Needs
from laptime.control.policies.simple import LogisticPolicy
from laptime.control.policies.static import LookupPolicy, StaticPolicy
from laptime.control.tables.features import LANGUAGE
from laptime.control.tables.tensor_files import packed_arrays, read_value, take_array, write_value
from laptime.data.record import Scalar
from laptime.errors import LaptimeError

SCHEMA = "laptime.policy/1"
MARKS = ("policy.json", "bounds.json")
"""The files by which a policy's folder is known (laptime.data.files.whole_folder)."""
Kind = Literal["static", "lookup", "logistic", "supervised", "grpo"]
SavablePolicy = StaticPolicy | LookupPolicy | LogisticPolicy | SupervisedPolicy | GrpoPolicy
MOST_WIDTH = 100_000
"""The widest layer that is read."""


class CurvePoint(msgspec.Struct, frozen=True, array_like=True):
    """One step of training: mean reward, accuracy and share within budget of the draws; KL; entropy (nats)."""

    step: int
    decisions: int
    reward: float
    accuracy: float
    within: float
    kl: float
    entropy: float


class TrainingCurve(msgspec.Struct, frozen=True, kw_only=True):
    """How one policy was trained."""

    policy: str
    seconds: float
    decisions: int
    points: list[CurvePoint]


class SavedPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy and what it was made for.

    early_block: the number of blocks that run before the late choice; 0 for a policy that doesn't look at hidden
    states. budgets: (lowest, highest) ms that it was trained on; None: any. settings: how it was trained. leeway: None
    for a policy that has to keep the promise for each question.
    """

    policy: SavablePolicy
    model: ModelFacts
    early_block: int = 0
    budgets: tuple[float, float] | None = None
    settings: dict[str, Scalar] = {}
    curve: TrainingCurve | None = None
    leeway: Leeway | None = None


class _PolicyFacts(msgspec.Struct, frozen=True, kw_only=True):
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
    moved: bool = True
    fallback: bool = False
    pair_sha256: str | None = None


def write_policy(saved: SavedPolicy, bounds: Bounds, folder: str | Path) -> None:
    """Write a policy and its bounds. Raises LaptimeError when the folder can't be written.

    The folder is not replaced whole: laptime.data.files.whole_folder does that around this call.
    """
    policy = saved.policy
    kind: Kind
    arrays: dict[str, npt.NDArray[Any]]
    networks: list[Network] = []
    hidden, tolerance = 0, 1.0
    if isinstance(policy, StaticPolicy):
        kind, arrays = "static", {"accuracy": policy.accuracy, "time_ms": policy.bound_ms}
    elif isinstance(policy, LookupPolicy):
        kind, arrays, tolerance = "lookup", {"accuracy": policy.accuracy, "time_ms": policy.mean_ms}, policy.tolerance
    elif isinstance(policy, LogisticPolicy):
        kind, arrays = "logistic", {"weights": policy.weights}
    else:
        kind = "supervised" if isinstance(policy, SupervisedPolicy) else "grpo"
        networks, hidden = [policy.early, policy.late], policy.hidden
        arrays = policy.early.arrays("early") | policy.late.arrays("late")
    pair = hashlib.sha256(packed_arrays(arrays) + packed_arrays(bounds_arrays(bounds))).hexdigest()
    facts = _PolicyFacts(
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
        moved=getattr(policy, "moved", True),
        fallback=getattr(policy, "fallback", False),
        pair_sha256=pair,
    )
    write_value(Path(folder), "policy", SCHEMA, facts, arrays)
    write_bounds(bounds, folder, pair_sha256=pair)


def read_policy(folder: str | Path) -> tuple[SavedPolicy, Bounds]:
    """A policy and its bounds.

    Raises LaptimeError (one line) for a folder that is damaged, foreign or newer, and for a policy beside bounds that
    it was not trained with.
    """
    place = Path(folder)
    facts, arrays = read_value(place, "policy", SCHEMA, _PolicyFacts, "a policy")
    file = place / "policy.json"
    if facts.budgets is not None and not 0 < facts.budgets[0] <= facts.budgets[1] < float("inf"):
        raise LaptimeError(
            f"{file}: trained on budgets from {facts.budgets[0]:g} to {facts.budgets[1]:g} ms, which can't be; train "
            "it anew"
        )
    if facts.hidden < 0 or facts.early_block < 0 or len(facts.space) < 1:
        raise LaptimeError(f"{file}: a policy that is damaged (sizes below 0); train it anew")
    saved = SavedPolicy(
        policy=_policy(facts, arrays, place),
        model=facts.model,
        early_block=facts.early_block,
        budgets=facts.budgets,
        settings=facts.settings,
        curve=facts.curve,
        leeway=facts.leeway,
    )
    bounds, pair = read_paired_bounds(place)
    if pair != facts.pair_sha256 or bounds.space != facts.space:
        raise LaptimeError(
            f"{place}: bounds.json is not of the training that wrote policy.json, so nothing would hold; train the "
            "policy anew, or copy both from one folder"
        )
    return saved, bounds


def model_to_load(saved: SavedPolicy, given: str | None, folder: str | Path, option: str) -> str:
    """The name of the model that a policy answers with: the given one, or the one that it was trained for.

    option: how the caller names a model. Raises LaptimeError where neither is known.
    """
    name = given or saved.model.name
    if not name:
        raise LaptimeError(f"{folder}: doesn't say which model it was trained for; name it with {option}")
    return name


def check_model(saved: SavedPolicy, facts: ModelFacts) -> None:
    """Raise LaptimeError, naming the knob, when a policy was trained for other knobs than this model has."""
    space = saved.policy.space
    wrong = []
    if space.blocks and facts.blocks and max(space.blocks) > facts.blocks:
        wrong.append(f"up to {max(space.blocks)} blocks, the model has {facts.blocks}")
    if space.top_ks and facts.experts is not None and max(space.top_ks) > facts.experts:
        has = f"{facts.experts} experts" if facts.experts else "no experts"
        wrong.append(f"top-k up to {max(space.top_ks)}, the model has {has}")
    wrong += [f"a model of {difference}" for difference in saved.model.differences(facts)]
    if saved.early_block and facts.blocks and saved.early_block >= facts.blocks:
        wrong.append(f"a decision after block {saved.early_block}, the model has {facts.blocks}")
    if wrong:
        raise LaptimeError(
            f"policy {saved.policy.name}: trained for {'; for '.join(wrong)}. Train it on this model's sweep"
        )


def _policy(facts: _PolicyFacts, arrays: dict[str, npt.NDArray[Any]], place: Path) -> SavablePolicy:
    file = place / "policy.safetensors"
    space, count = facts.space, len(facts.space)
    if facts.kind in ("static", "lookup"):
        accuracy = take_array(arrays, "accuracy", (count,), file).astype(np.float64)
        times = take_array(arrays, "time_ms", (count,), file, finite=facts.kind == "lookup").astype(np.float64)
        if (times <= 0).any() or ((accuracy < 0) | (accuracy > 1)).any():
            raise LaptimeError(f"{file}: accuracies outside 0 to 1, or times not above 0; train it anew")
        if facts.kind == "static":
            return StaticPolicy(space=space, accuracy=accuracy, bound_ms=times, name=facts.name)
        return LookupPolicy(space=space, accuracy=accuracy, mean_ms=times, tolerance=facts.tolerance, name=facts.name)
    if facts.kind == "logistic":
        weights = take_array(arrays, "weights", (count, LANGUAGE + 1), file).astype(np.float64)
        return LogisticPolicy(space=space, weights=weights, name=facts.name, fallback=facts.fallback)
    grpo = facts.kind == "grpo"
    inputs = (
        early_sizes(space, facts.needs, budget=grpo),
        late_sizes(space, facts.needs, facts.hidden, budget=grpo),
    )
    names = ("early", "late")
    layers = (facts.early_layers, facts.late_layers)
    of_before = grpo and facts.early_layers[-1:] != [count]  # tiers, then late choices
    outputs = (space.first, space.late) if of_before else (count, count)
    for name, sizes, given, out in zip(names, layers, inputs, outputs, strict=True):
        _check_layers(place / "policy.json", name, sizes, given, out)
    early, late = (read_network(arrays, name, sizes, file) for name, sizes in zip(names, layers, strict=True))
    if not grpo:
        return SupervisedPolicy(
            space=space, needs=facts.needs, early=early, late=late, hidden=facts.hidden, name=facts.name
        )
    return GrpoPolicy(
        space=space,
        needs=facts.needs,
        early=early,
        late=late,
        hidden=facts.hidden,
        name=facts.name,
        moved=facts.moved,
    )


def _check_layers(file: Path, name: str, layers: list[int], inputs: InputSizes, outputs: int) -> None:
    if len(layers) < 2 or min(layers) < 0 or max(layers) > MOST_WIDTH:
        raise LaptimeError(f"{file}: the {name} network has layers {layers[:8]}; train it anew")
    if (layers[0], layers[-1]) != (inputs.total, outputs):
        raise LaptimeError(
            f"{file}: the {name} network goes from {layers[0]} features to {layers[-1]} choices, its knobs need "
            f"{inputs.total} to {outputs}; train it anew"
        )
