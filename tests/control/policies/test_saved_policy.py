"""A policy's folder comes back as it was; a damaged, hostile or foreign one is one line; another model's is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from laptime.control.bounds.bounds import same_bounds
from laptime.control.bounds.leeway import Leeway
from laptime.control.choices import ModelFacts
from laptime.control.judge.lineup import what_it_kept
from laptime.control.policies.policy import Needs
from laptime.control.policies.saved_policy import (
    CurvePoint,
    SavablePolicy,
    SavedPolicy,
    TrainingCurve,
    check_model,
    read_policy,
    write_policy,
)
from laptime.control.policies.simple import logistic_policy
from laptime.control.policies.static import lookup_policy, static_policy
from laptime.control.seen import Seen
from laptime.control.tables.features import language_features
from laptime.errors import LaptimeError
from tests.control.policies.test_policies import FEATURES, WORLD, random_grpo, random_grpo_of_choices, random_supervised
from tests.control.worlds import FACTS

CURVE = TrainingCurve(policy="p", seconds=1.5, decisions=10, points=[CurvePoint(1, 10, 0.5, 0.5, 1.0, 0.0, 1.0)])
POLICIES: list[SavablePolicy] = [
    random_grpo(),
    random_grpo(3, Needs(language=True)),
    random_grpo(4, Needs()),
    random_grpo_of_choices(5),
    msgspec.structs.replace(random_grpo_of_choices(6), moved=False),
    random_supervised(),
    msgspec.structs.replace(logistic_policy(WORLD.train, FEATURES.language), fallback=True, name="grpo"),
    static_policy(WORLD.train, WORLD.bounds),
    lookup_policy(WORLD.train),
]


def saved(policy: SavablePolicy, folder: Path) -> Path:
    write_policy(
        SavedPolicy(policy=policy, model=FACTS, early_block=2, budgets=(5.0, 50.0), settings={"seed": 1}, curve=CURVE),
        WORLD.bounds,
        folder,
    )
    return folder


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_it_decides_as_before(policy: SavablePolicy, tmp_path: Path) -> None:
    again, bounds = read_policy(saved(policy, tmp_path / "p"))
    assert same_bounds(bounds, WORLD.bounds)
    assert (again.model, again.early_block, again.budgets, again.curve) == (FACTS, 2, (5.0, 50.0), CURVE)
    assert again.settings == {"seed": 1}
    assert type(again.policy) is type(policy)
    assert again.policy.needs == policy.needs
    assert what_it_kept(again.policy) == what_it_kept(policy)
    for row in range(20):
        for ms in (3.0, 12.0, 20.0, 40.0):
            budget = WORLD.bounds.budget(ms, FEATURES.language[row])
            for tier in (None, 1):
                assert again.policy.decide(FEATURES.seen(row, tier), budget) == policy.decide(
                    FEATURES.seen(row, tier), budget
                )


def test_leeway_comes_back_and_older_folders_have_none(tmp_path: Path) -> None:
    leeway = Leeway(budgets_ms=[10.0, 20.0], times=[1.0, 2.44140625])
    write_policy(SavedPolicy(policy=random_grpo(), model=FACTS, leeway=leeway), WORLD.bounds, tmp_path / "p")
    assert read_policy(tmp_path / "p")[0].leeway == leeway
    edited(tmp_path / "p", lambda content: content["told"].pop("leeway"))
    assert read_policy(tmp_path / "p")[0].leeway is None


def test_the_same_policy_is_the_same_bytes(tmp_path: Path) -> None:
    one, two = saved(random_grpo(), tmp_path / "a"), saved(random_grpo(), tmp_path / "b")
    for name in ("policy.json", "policy.safetensors", "bounds.json", "bounds.safetensors"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = folder / "policy.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    from safetensors.numpy import save

    return save(arrays)


def replaced(folder: Path, content: bytes) -> None:
    (folder / "policy.safetensors").write_bytes(content)
    edited(folder, lambda value: value.update(arrays_sha256=hashlib.sha256(content).hexdigest()))


def with_array(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    from safetensors.numpy import load

    arrays = dict(load((folder / "policy.safetensors").read_bytes()))
    change(arrays)
    replaced(folder, packed(arrays))


def spoilt(arrays: dict[str, np.ndarray]) -> None:
    arrays["early.0.weight"] = np.full_like(arrays["early.0.weight"], np.nan)


DEEP = '{"schema": "laptime.policy/1", "arrays_sha256": "", "told": '
HUGE_HEADER = struct.pack("<Q", 2**62) + b"{}"
DAMAGE: list[tuple[str, Callable[[Path], Any], str]] = [
    ("no folder", lambda p: [file.unlink() for file in p.iterdir()], "doesn't hold a policy"),
    ("weights gone", lambda p: (p / "policy.safetensors").unlink(), "no policy.safetensors there"),
    ("bounds gone", lambda p: (p / "bounds.json").unlink(), "doesn't hold bounds"),
    ("weights cut", lambda p: (p / "policy.safetensors").write_bytes(b"\x00" * 20), "not the file that was written"),
    ("empty json", lambda p: (p / "policy.json").write_bytes(b""), "not a policy"),
    ("no json", lambda p: (p / "policy.json").write_bytes(b"\x80\x04pickle"), "not a policy"),
    ("deep json", lambda p: (p / "policy.json").write_text("[" * 100_000), "not a policy"),
    ("deep inside", lambda p: (p / "policy.json").write_text(DEEP + "[" * 100_000), "not a policy"),
    (
        "newer",
        lambda p: edited(p, lambda t: t.update(schema="laptime.policy/9")),
        "this laptime reads laptime.policy/1",
    ),
    ("other kind", lambda p: edited(p, lambda t: t["told"].update(kind="magic")), "damaged"),
    ("field gone", lambda p: edited(p, lambda t: t["told"].pop("space")), "damaged"),
    (
        "budgets",
        lambda p: edited(p, lambda t: t["told"].update(budgets=[50.0, 5.0])),
        "budgets from 50 to 5 ms, which can't be",
    ),
    (
        "leeway",
        lambda p: edited(p, lambda t: t["told"].update(leeway={"budgets_ms": [5.0, 2.0], "times": [1.0, 2.0]})),
        "ascending budgets",
    ),
    ("layers", lambda p: edited(p, lambda t: t["told"].update(early_layers=[3, 3])), "from 3 features to 3 choices"),
    ("huge layer", lambda p: edited(p, lambda t: t["told"].update(early_layers=[10**9, 3])), "has layers"),
    ("less space", lambda p: edited(p, lambda t: t["told"]["space"]["blocks"].pop()), "its knobs need"),
    ("twice", lambda p: edited(p, lambda t: t["told"]["space"].update(blocks=[4, 4, 8])), "a value twice"),
    ("huge header", lambda p: replaced(p, HUGE_HEADER), "not safetensors"),
    ("array gone", lambda p: with_array(p, lambda a: a.pop("late.1.bias")), "'late.1.bias' is missing"),
    ("shape", lambda p: with_array(p, lambda a: a.update({"late.1.bias": np.zeros(2, np.float32)})), "has shape"),
    ("NaN", lambda p: with_array(p, spoilt), "no number"),
    ("type", lambda p: with_array(p, lambda a: a.update({"late.1.bias": np.zeros(6, np.uint8)})), "is uint8"),
]


@pytest.mark.parametrize(("how", "said"), [(how, said) for _, how, said in DAMAGE], ids=[name for name, *_ in DAMAGE])
def test_a_folder_that_is_none_is_one_line(how: Callable[[Path], Any], said: str, tmp_path: Path) -> None:
    folder = saved(random_grpo(), tmp_path / "p")
    how(folder)
    with pytest.raises(LaptimeError, match=said) as caught:
        read_policy(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"blocks": 6}, "up to 8 blocks, the model has 6"),
        ({"experts": 4}, "top-k up to 8, the model has 4 experts"),
        ({"experts": 0}, "top-k up to 8, the model has no experts"),
        ({"kind": "qwen2_vl"}, "kind llava_next instead of qwen2_vl"),
        ({"name": "another"}, "name world instead of another"),
        ({"blocks": 2}, "a decision after block 2, the model has 2"),
    ],
)
def test_a_policy_of_other_knobs_says_which(facts: dict[str, Any], said: str) -> None:
    one = SavedPolicy(policy=random_grpo(), model=FACTS, early_block=2)
    with pytest.raises(LaptimeError, match=said):
        check_model(one, msgspec.structs.replace(FACTS, **facts))


def test_its_own_model_may_lie_elsewhere_and_tell_less() -> None:
    one = SavedPolicy(policy=random_grpo(), model=FACTS, early_block=2)
    check_model(one, msgspec.structs.replace(FACTS, name="/elsewhere/world"))
    check_model(one, ModelFacts())


BEFORE = Path(__file__).parent / "written_before"
"""A policy's folder as laptime wrote it before pair_sha256 was there, and what it decided then (decisions.json)."""


def test_a_folder_that_was_written_before_is_read_and_decides_as_it_did() -> None:
    one, bounds = read_policy(BEFORE)
    assert (one.policy.name, one.early_block, one.budgets) == ("grpo", 1, (8.0, 40.0))
    assert one.leeway is not None
    assert one.curve is not None
    assert len(one.curve.points) == 2
    late = one.policy.space.late
    for row in json.loads((BEFORE / "decisions.json").read_text()):
        language = language_features(row["text"])
        budget = bounds.budget(row["budget_ms"], language, room=one.leeway.at(row["budget_ms"]))
        np.testing.assert_allclose(budget.bound_ms, row["bound_ms"], atol=1e-6)
        tier = one.policy.decide(Seen(language=language), budget) // late
        hidden = np.array(row["hidden"], dtype=np.float32)
        assert one.policy.decide(Seen(language=language, tier=tier, hidden=hidden), budget) == row["choice"]


def without_pair(folder: Path, *names: str) -> None:
    """As an older laptime wrote these files."""
    for name in names:
        content = json.loads((folder / name).read_text())
        content["told"].pop("pair_sha256")
        (folder / name).write_text(json.dumps(content))


def test_without_a_hash_both_are_read(tmp_path: Path) -> None:
    folder = saved(random_grpo(), tmp_path / "p")
    without_pair(folder, "policy.json", "bounds.json")
    assert read_policy(folder)[0].policy.name == "grpo"


OTHER = msgspec.structs.replace(WORLD.bounds, known_ms=WORLD.bounds.known_ms * 1.5)


@pytest.mark.parametrize("older", [(), ("policy.json",), ("bounds.json",)])
@pytest.mark.parametrize("names", [("policy.json", "policy.safetensors"), ("bounds.json", "bounds.safetensors")])
def test_a_policy_beside_bounds_of_another_training_is_one_line(
    names: tuple[str, ...], older: tuple[str, ...], tmp_path: Path
) -> None:
    """Whichever of the two is the new one, and also if one of them is so old that it names no hash."""
    folder = saved(random_grpo(), tmp_path / "p")
    write_policy(SavedPolicy(policy=random_grpo(3), model=FACTS), OTHER, tmp_path / "other")
    for name in names:
        shutil.copyfile(tmp_path / "other" / name, folder / name)
    without_pair(folder, *older)
    with pytest.raises(LaptimeError, match="is not of the training that wrote") as caught:
        read_policy(folder)
    assert "\n" not in str(caught.value)
