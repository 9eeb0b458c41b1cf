"""Sessions on a real tiny model: warm-up, repeats, stopping, what reaches the sink."""

import subprocess
import sys
import time

import msgspec
import pytest
import torch

import laptime
from laptime.data.record import config_id
from laptime.data.stats import median_interval, relative_half_width
from laptime.data.summary import summarise
from laptime.data.usable import usable
from laptime.errors import LaptimeError
from laptime.measure.session import Input, MeasuringPlan, measure, next_judged
from tests.models.tiny import build, tiny_inputs

# One stalled call among eight widens the interval of a 10 ms call tenfold: a limit that no busy machine reaches.
LOOSE = MeasuringPlan(precision=1000.0, max_warmups=20)


@pytest.fixture(scope="module")
def llama():
    return build("llama")


def inputs(count):
    return [
        Input(f"{n:04d}", {**tiny_inputs("llama", seed=n), "do_sample": False, "max_new_tokens": 3})
        for n in range(count)
    ]


def run(model, count, plan, **more):
    sink, steps = [], []
    with laptime.StageTimer(model, config={"model": "llama"}) as timer:
        end = measure(timer, inputs(count), plan, sink.append, lambda *step: steps.append(step), **more)
    return end, sink, steps


def test_every_sample_reaches_the_sink_once_and_the_warm_up_is_marked(llama):
    end, sink, steps = run(llama, 8, LOOSE)
    cold = [s for s in sink if s.repeat < 0]
    warm = [s for s in sink if s.repeat >= 0]
    assert len(cold) == end.warmups >= 3
    assert all("cold" in s.flags for s in cold)
    assert [s.sample_id for s in warm] == [f"{n:04d}" for n in range(8)] * end.repeats
    assert len({s.key for s in sink}) == len(sink)
    assert {s.config_id for s in sink} == {config_id({"model": "llama"})}
    assert steps[-1][:2] == ("measure", 8 * end.repeats)
    assert summarise(sink).left_out["cold"] == end.warmups
    assert all(s.stages.closes() for s in sink)


def test_it_stops_at_the_first_repeat_that_is_precise_and_says_so(llama):
    end, sink, _ = run(llama, 8, msgspec.structs.replace(LOOSE, max_repeats=50))
    widths = []
    for repeat in range(end.repeats):
        clean, _ = usable([s for s in sink if 0 <= s.repeat <= repeat])
        widths.append(relative_half_width(median_interval([s.stages.total_ms for s in clean])))
    assert end.stopped == "precise"
    assert end.half_width == widths[-1] <= LOOSE.precision
    assert all(width is None or width > LOOSE.precision for width in widths[:-1])  # a busy machine flags samples


def test_many_repeats_are_judged_seldom_and_never_late():
    at, looks = 1, 0
    while at < 10_000:
        following = next_judged(at)
        assert at < following <= max(at + 1, 1.02 * at)
        at, looks = following, looks + 1
    assert looks < 400, "each look is at all samples so far"


def test_it_stops_at_the_limit_of_repeats(llama):
    end, sink, _ = run(llama, 2, MeasuringPlan(precision=1e-9, max_repeats=3, max_warmups=3))
    assert (end.stopped, end.repeats) == ("max-repeats", 3)
    assert sorted({s.repeat for s in sink if s.repeat >= 0}) == [0, 1, 2]


def test_it_stops_at_the_limit_of_time_with_what_it_has(llama):
    end, sink, _ = run(llama, 4, MeasuringPlan(precision=1e-9, max_repeats=1000, max_warmups=3, time_limit_s=0.0))
    assert end.stopped == "time-limit"
    assert len([s for s in sink if s.repeat >= 0]) == 1
    assert end.repeats == 0


def test_without_a_warm_up_that_was_steady_samples_stay_cold():
    model = build("llama")
    calls = []

    def slower_each_time(*_):
        calls.append(1)
        import time

        time.sleep(max(0.0, 0.2 - 0.02 * len(calls)))

    model.model.layers[0].register_forward_pre_hook(slower_each_time)
    end, sink, _ = run(model, 1, MeasuringPlan(max_warmups=3, max_repeats=1))
    assert not end.steady
    assert "cold" in sink[-1].flags


def test_something_else_may_run_beside_every_sample(llama):
    beside = []
    run(
        llama, 3, MeasuringPlan(max_repeats=1, max_warmups=3), beside=lambda item, sample: beside.append((item, sample))
    )
    assert [(item.sample_id, sample.sample_id) for item, sample in beside] == [(f"{n:04d}",) * 2 for n in range(3)]


def test_out_of_memory_and_no_inputs_are_one_clear_line():
    model = build("llama")

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    model.model.layers[0].register_forward_pre_hook(full)
    with pytest.raises(LaptimeError, match=r"out of memory on cpu at sample 0000: use a smaller"):
        run(model, 1, MeasuringPlan())
    with pytest.raises(LaptimeError, match="no inputs"):
        run(model, 0, MeasuringPlan())


@pytest.mark.parametrize("error", [IndexError("index 9 is out of bounds"), RuntimeError("shapes differ"), KeyError()])
def test_an_error_of_the_models_own_is_one_clear_line(error):
    model = build("llama")

    def fails(*_):
        raise error

    model.model.layers[0].register_forward_pre_hook(fails)
    said = ": ".join(filter(None, [type(error).__name__, *map(str, error.args)]))
    with pytest.raises(LaptimeError, match=f"^the model failed at sample 0000: {said}$"):
        run(model, 1, MeasuringPlan())


def test_autocast_is_applied(llama):
    dtypes = []
    handle = llama.lm_head.register_forward_hook(lambda module, args, output: dtypes.append(output.dtype))
    run(llama, 1, MeasuringPlan(max_repeats=1, max_warmups=3, autocast="bfloat16"))
    handle.remove()
    assert set(dtypes) == {torch.bfloat16}


def test_other_processes_are_reported_of_a_whole_run_of_short_calls(llama):
    if not sys.platform.startswith("linux"):
        pytest.skip("other processes' time can be read on Linux only")
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        time.sleep(0.3)
        end, _, _ = run(llama, 8, MeasuringPlan(max_warmups=3, max_repeats=4, precision=1e-9))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert end.foreign_cores > 0.2
