"""An adaptive model keeps its promise by itself on a machine that is slower than the one its bounds were learnt on.

Time is simulated: the clock goes on only where a block of the tiny model runs. So nothing hangs on this machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import numpy as np
import pytest

from laptime.control.adaptive_model import AdaptiveModel
from laptime.control.bounds.bounds import Bounds
from laptime.control.choices import ChoiceSpace
from laptime.control.correction import stream_of
from laptime.control.policies.saved_policy import SavedPolicy, read_policy, write_policy
from laptime.control.policies.static import StaticPolicy
from laptime.errors import LaptimeError
from laptime.estimate import online as streams
from laptime.models.anatomy import find_anatomy
from tests.control.adaptive import Scripted, adaptive, bounds_of, fixed, question
from tests.workload.families import loaded


class SimulatedMachine:
    """A clock that each block of a model moves on by about a millisecond, times how slow the machine is.

    So an answer of two blocks takes two thirds of one of three.
    """

    def __init__(self, model: Any) -> None:
        self.slower = 1.0
        self._now_ns = 0
        self._noise = np.random.default_rng(0)
        for layer in find_anatomy(model).layers:
            layer.register_forward_hook(self._ran)

    def _ran(self, *_: Any) -> None:
        self._now_ns += int(1e6 * self.slower * self._noise.lognormal(0, 0.03))

    @contextmanager
    def in_charge(self) -> Iterator[None]:
        """The clock that calls and deciding are timed by."""
        with pytest.MonkeyPatch.context() as patch:
            for module in ("measure.clock", "control.adaptive_model", "control.call"):
                patch.setattr(f"laptime.{module}.perf_counter_ns", lambda: self._now_ns)
            yield


BLOCKS = ChoiceSpace(blocks=(2, 3))
Machine = tuple[SimulatedMachine, AdaptiveModel]


@pytest.fixture(scope="module")
def learnt() -> Iterator[Machine]:
    """A machine, and a model whose bounds were learnt on it. Its policy takes the dearest choice that fits."""
    policy = Scripted(
        lambda seen, budget: int(np.flatnonzero(budget.fits)[-1]) if budget.fits.any() else budget.fastest, hidden=False
    )
    policy.space = BLOCKS
    adapted = AdaptiveModel(loaded("llava_next"), policy, bounds_of([60_000.0] * len(BLOCKS), space=BLOCKS))
    simulated = SimulatedMachine(adapted.loaded.model)
    with simulated.in_charge():
        adapted.learn_bounds([f"what is {seed}?" for seed in range(20)])
    yield simulated, adapted
    for layer in find_anatomy(adapted.loaded.model).layers:
        layer._forward_hooks.clear()


@pytest.fixture
def machine(learnt: Machine) -> Iterator[Machine]:
    """The same machine at its first speed, with an object of its own for each test."""
    simulated, first = learnt
    simulated.slower = 1.0
    with simulated.in_charge():
        yield simulated, AdaptiveModel(first.loaded, first.policy, first.bounds)


def in_time(adapted: AdaptiveModel, budget_ms: float, calls: int) -> list[bool]:
    answers = [adapted.generate(f"who is {number}?", budget_ms=budget_ms) for number in range(calls)]
    return [answer.spent_ms <= budget_ms for answer in answers]


def budget_of(bounds: Bounds) -> float:
    """Above the bound of the dearest choice: on a machine 1.5 times slower only those of two blocks are in time."""
    return 1.2 * float(bounds.known_ms[-1].max())


def test_a_machine_that_is_slower_than_the_learnt_one_gets_its_promise_back(
    machine: Machine,
) -> None:
    """Nothing is given but the model, the policy and the bounds; without correction all answers are late."""
    simulated, adapted = machine
    budget_ms = budget_of(adapted.bounds)
    assert np.mean(in_time(adapted, budget_ms, 10)) >= 0.95
    simulated.slower = 1.5
    settled = in_time(adapted, budget_ms, 60)[20:]
    assert np.mean(settled) >= 0.95
    decision = adapted.generate("who?", budget_ms=budget_ms).sample.decision
    assert decision is not None
    assert 1.3 < decision.factor < 1.8
    uncorrected = AdaptiveModel(adapted.loaded, adapted.policy, adapted.bounds, online=False)
    assert uncorrected.online is None
    assert np.mean(in_time(uncorrected, budget_ms, 10)) < 0.5


def test_bounds_that_promised_nothing_are_corrected_once_they_are_learnt(machine: Machine) -> None:
    simulated, adapted = machine
    simulated.slower = 1.0
    nothing = bounds_of([np.inf] * len(BLOCKS), space=BLOCKS)
    for online in (True, False):
        fresh = AdaptiveModel(adapted.loaded, adapted.policy, nothing, online=online)
        assert fresh.online is None
        fresh.learn_bounds([f"what is {seed}?" for seed in range(20)])
        assert (fresh.online is not None) == online


def test_a_saved_stream_goes_on_where_it_ended(machine: Machine, tmp_path: Path) -> None:
    """Another object, as in the next process, begins with what was learnt; calls that still ran don't come back."""
    simulated, adapted = machine
    budget_ms = budget_of(adapted.bounds)
    simulated.slower = 1.5
    in_time(adapted, budget_ms, 30)
    assert adapted.online is not None
    foreign = streams.issued(adapted.online, f"call {adapted.online.issued + 1}", 1.0, 1.0, 0.0)
    streams.save(foreign, tmp_path / "stream.json")
    state = streams.load(tmp_path / "stream.json")
    next_one = AdaptiveModel(adapted.loaded, adapted.policy, adapted.bounds, online=state)
    assert np.mean(in_time(next_one, budget_ms, 10)) >= 0.95
    assert next_one.online is not None
    assert next_one.online.issued == foreign.issued + 10


def test_calls_of_several_threads_follow_one_another(machine: Machine) -> None:
    _, adapted = machine
    budget_ms = budget_of(adapted.bounds)
    threads = [Thread(target=in_time, args=(adapted, budget_ms, 3)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert adapted.online is not None
    assert adapted.online.issued == len(adapted.online.ended) == 9


def test_a_call_that_captures_a_graph_teaches_nothing() -> None:
    """It takes longer than any later call of its shape."""
    quick = adaptive(fixed(0, hidden=False), online=True, fast=True)
    learnt = []
    for _ in range(3):
        quick.generate(question(), budget_ms=70_000)
        assert quick.online is not None
        learnt.append(len(quick.online.ended))
    assert learnt == [0, 1, 2]
    quick.close()


def test_bounds_keep_what_is_usual_for_them(tmp_path: Path, machine: Machine) -> None:
    """A saved policy's stream begins with the measured calls; without them with the bounds' own distribution."""
    bounds = machine[1].bounds
    policy = StaticPolicy(
        space=BLOCKS, accuracy=np.linspace(0.1, 0.9, len(BLOCKS)), bound_ms=np.full(len(BLOCKS), 60e3)
    )
    write_policy(SavedPolicy(policy=policy, model=bounds.model), bounds, tmp_path / "new")
    _, read = read_policy(tmp_path / "new")
    assert read.ratios is not None
    np.testing.assert_array_equal(read.ratios, bounds.ratios)
    assert stream_of(read) == stream_of(bounds)
    older = msgspec.structs.replace(bounds, ratios=None)
    write_policy(SavedPolicy(policy=policy, model=bounds.model), older, tmp_path / "older")
    begun = stream_of(read_policy(tmp_path / "older")[1])
    assert begun is not None
    assert np.median(begun.baseline) == pytest.approx(np.median(bounds.ratios), abs=0.1)
    adapted = AdaptiveModel.load(machine[1].loaded, tmp_path / "older")
    assert adapted.online == begun
    wide = bounds_of([60_000.0] * len(BLOCKS), space=BLOCKS)
    never = np.full_like(wide.known_ms, np.inf)
    nothing = msgspec.structs.replace(wide, within=np.zeros_like(wide.within), known_ms=never)
    assert stream_of(nothing) is None
    damaged = msgspec.structs.replace(bounds, ratios=np.array([0.0, -1.0] * 20))
    write_policy(SavedPolicy(policy=policy, model=bounds.model), damaged, tmp_path / "damaged")
    with pytest.raises(LaptimeError, match="'ratios' is no ascending list"):
        read_policy(tmp_path / "damaged")


def test_a_state_of_another_promise_is_one_line() -> None:
    state = streams.begin(np.linspace(-0.2, -0.01, 40), q=0.9)
    with pytest.raises(LaptimeError, match=r"bounds for 0\.9, and these promise 0\.95"):
        adaptive(fixed(0, hidden=False), online=state)
