"""The fixture `laptime` in pytest: a model that became slow fails its test, one that did not passes."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
import tests.models.tiny  # noqa: F401  all of it stays imported: pytester forgets what a run inside it imported

pytest_plugins = ["pytester"]

TEST = """
import os, time
from tests.models.tiny import build, tiny_inputs

def test_speed(laptime):
    model = build("llama")
    before = model.model.layers[0].forward
    wait = float(os.environ["TINY_WAIT"])  # most of a call sleeps, so that a busy machine changes it little
    def slow(*args, **more):
        time.sleep(wait)
        return before(*args, **more)
    model.model.layers[0].forward = slow
    inputs = tiny_inputs("llama", seed=1)
    timed = laptime.time(model, calls=8, **inputs, max_new_tokens=3, do_sample=False)
    assert len(timed.run.samples) == 11
    timed.assert_not_slower_than("main", by="20%")
"""


@pytest.fixture
def run(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # the plugin may be installed, or not
    pytester.makepyfile(test_it=TEST)

    def run_(*words, wait=0.02):
        monkeypatch.setenv("TINY_WAIT", str(wait))
        return pytester.runpytest_inprocess("-p", "laptime.pytest_plugin", "-p", "no:cacheprovider", "-rsw", *words)

    return run_


def test_a_model_that_became_slow_fails_and_one_that_did_not_passes(run, pytester):
    for stored in range(4):
        result = run()
        result.assert_outcomes(skipped=1)
        result.stdout.fnmatch_lines([f"*baseline 'main' has {stored} of 4 runs of this test*"])
        run("--laptime-save", "main").assert_outcomes(passed=1)
    assert len(list(pytester.path.glob(".laptime/baselines/main/*/*"))) == 4
    result = run(wait=0.2)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["slower than 'main'", "B is slower than A: *"])
    assert run().parseoutcomes().get("failed", 0) == 0


def test_a_baseline_of_another_machine_is_not_held_against_this_one(run, pytester):
    for _ in range(4):
        run("--laptime-save", "main")
    for file in pytester.path.glob(".laptime/baselines/main/*/*/run.json"):
        text = file.read_text()
        assert '"cpu_count":' in text
        file.write_text(text.replace('"cpu_count":', '"cpu_count": 9, "cpu_count_here":', 1))
    result = run(wait=0.1)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*is of another machine: cpu_count 9*"])
    result = run("--laptime-strict", wait=0.1)
    result.assert_outcomes(failed=1)


def test_a_name_can_not_lead_out_of_the_folder(run, pytester):
    result = run("--laptime-save", "../elsewhere")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*baseline '../elsewhere': write a name of letters*"])
    assert not (pytester.path.parent / "elsewhere").exists()
