"""A sweep that is killed again and again, wherever it stands, ends with every key once."""

import random

import pytest
from benchmarks.sweep_faults import CONFIG, LLM, FaultySweep, ForkServer, judge


@pytest.fixture(scope="module")
def server():
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def sweep(tmp_path, server):
    config = tmp_path / "sweep.yaml"
    config.write_text(CONFIG.format(**LLM, seed=0, samples=5, repeats=8, rounds=8))
    return FaultySweep(server, tmp_path / "run", config, random.Random(0))


def test_kills_of_workers_and_driver_in_any_instant_lose_and_repeat_nothing(sweep):
    sweep.begin()
    for _ in range(3):
        assert sweep.wait_for_growth(sweep.size())
        assert sweep.kill_a_worker()
    for torn in (False, True, False):
        assert sweep.wait_for_growth(sweep.size())
        sweep.kill_the_driver()
        if torn:
            sweep.tear_a_line()
        sweep.begin()
    assert sweep.wait_for_growth(sweep.size())
    sweep.kill_the_driver()
    sweep.finish()
    assert judge(sweep.folder) == {"samples": judge(sweep.folder)["samples"], "planned": 160, "failures": 0, "tails": 0}
    assert sweep.faults.total() == 8


def test_a_worker_that_always_dies_is_given_up_and_the_rest_goes_on(sweep):
    """Every worker is killed the moment it is up, so none can measure anything."""
    sweep.begin()
    while not (sweep.folder / "plan.json").exists():
        assert sweep.alive()
    while sweep.alive():
        sweep.kill_a_worker()
    assert sweep.server.wait() == 2
    last = sweep.said.read_text().splitlines()[-1]
    assert "no worker is left" in last
    assert "was killed by SIGKILL" in last
    assert "--resume" in last
    sweep.finish()
    assert judge(sweep.folder)["planned"] == 160
