"""Ctrl-C and SIGTERM during a sweep: at once, but never within a write."""

import os
import signal

import pytest

from laptime.sweeps.opening import Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_the_write_is_over_and_the_old_handler_comes_back(number):
    was = signal.signal(number, signal.default_int_handler)  # a shell starts what runs behind it with SIGINT ignored
    before = signal.getsignal(number)
    done = []

    def write():
        os.kill(os.getpid(), number)
        done.append("written")

    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            interrupts.shield(write)
        assert done == ["written"]
        os.kill(os.getpid(), number)  # a second one, while workers are ended and files closed, changes nothing
        interrupts.shield(lambda: done.append("again"))
    assert done == ["written", "again"]
    assert signal.getsignal(number) is before
    signal.signal(number, was)
