"""Events as a clock: against kernels of known length, across re-anchoring, on a side stream."""

import pytest
import torch

from laptime.measure import clock as clock_module
from laptime.measure.clock import EventClock


def spin(milliseconds):
    """Keep the GPU busy for about so long (cycles of its clock)."""
    torch.cuda._sleep(int(milliseconds * 1.5e6))


def direct_ms(work):
    first, second = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    work()
    second.record()
    second.synchronize()
    return first.elapsed_time(second)


def test_marks_bracket_the_work_between_them(cuda):
    spin(5)
    known = direct_ms(lambda: spin(20))
    clock = EventClock(cuda)
    clock.start()
    clock.mark("a")
    spin(20)
    clock.mark("b")
    spin(40)
    clock.mark("end")
    start, a, b, end = clock.resolve()
    assert (b.device_ns - a.device_ns) / 1e6 == pytest.approx(known, rel=0.1)
    assert (end.device_ns - b.device_ns) / 1e6 == pytest.approx(2 * known, rel=0.1)
    assert start.device_ns == start.host_ns == 0
    assert end.host_ns - a.host_ns < 0.5 * (end.device_ns - a.device_ns)  # marks don't wait


def test_remark_moves_the_last_mark_and_needs_no_new_slot(cuda):
    clock = EventClock(cuda)
    clock.start()
    for _ in range(500):
        clock.remark("logits")
    spin(10)
    clock.remark("logits")
    clock.mark("end")
    marks = clock.resolve()
    assert [m.kind for m in marks] == ["start", "logits", "end"]
    assert (marks[2].device_ns - marks[1].device_ns) / 1e6 < 1
    assert (marks[1].device_ns - marks[0].device_ns) / 1e6 > 5


def test_long_calls_keep_fine_marks(cuda, monkeypatch):
    """With and without moving the anchor the marks agree; they never run backwards."""
    monkeypatch.setattr(clock_module, "REANCHOR_MS", 5.0)
    clock = EventClock(cuda, capacity=4)
    clock.start()
    for _ in range(60):
        spin(1)
        clock.mark("step")
    often = [m.device_ns for m in clock.resolve()]
    monkeypatch.setattr(clock_module, "REANCHOR_MS", 1e9)
    never = [m.device_ns for m in clock.resolve()]
    assert often == sorted(often)
    assert max(abs(a - b) for a, b in zip(often, never, strict=True)) < 20_000


def test_the_stream_in_use_is_the_one_that_is_marked(cuda):
    side = torch.cuda.Stream(cuda)
    clock = EventClock(cuda)
    with torch.cuda.stream(side):
        clock.start()
        spin(20)
        clock.mark("end")
        marks = clock.resolve()
    assert marks[-1].device_ns / 1e6 > 5
