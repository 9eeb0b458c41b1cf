"""What a watch sees around a call: real collections, real memory, real other processes."""

import gc
import subprocess
import sys
import time

import pytest
import torch

from laptime.measure.watch import Watch

CPU = torch.device("cpu")


def watched(work):
    with Watch(CPU, memory=True) as watch:
        work()
    return watch.circumstances


def test_a_quiet_call_has_no_flags_of_its_own():
    seen = watched(lambda: None)
    assert not {"recompiled", "gc-pause", "allocator-retry", "throttled"} & set(seen.flags)
    assert (seen.energy_j, seen.gpu) == (None, None)
    assert abs(seen.started_unix_ms - time.time() * 1e3) < 60_000


def test_a_collection_that_takes_its_share_is_flagged_and_timed():
    seen = watched(gc.collect)
    assert "gc-pause" in seen.flags
    assert seen.gc_pause_ms > 0


def test_the_peak_is_of_this_call_not_of_the_process():
    if not sys.platform.startswith("linux"):
        pytest.skip("the resident peak can be reset on Linux only")
    before = watched(lambda: None).memory_peak_bytes
    with_block = watched(lambda: torch.ones(64 << 20, dtype=torch.uint8).sum()).memory_peak_bytes
    after = watched(lambda: None).memory_peak_bytes
    assert with_block - before > 48 << 20
    assert with_block - after > 48 << 20


def test_other_processes_on_the_processor_are_flagged():
    if not sys.platform.startswith("linux"):
        pytest.skip("/proc/stat is Linux's")
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        time.sleep(0.3)
        seen = watched(lambda: time.sleep(1.0))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert "foreign-process" in seen.flags


def test_a_compile_is_flagged():
    @torch.compile(backend="eager")
    def fresh(x):
        return x + 1

    assert "recompiled" in watched(lambda: fresh(torch.ones(3))).flags
    assert "recompiled" not in watched(lambda: fresh(torch.ones(3))).flags


def test_a_call_that_raises_leaves_no_callback_behind():
    before = list(gc.callbacks)
    watch = Watch(CPU)
    with pytest.raises(RuntimeError), watch:
        raise RuntimeError
    assert gc.callbacks == before
    assert watch.circumstances is None
