"""A signal ends a verb in one line and one exit code: while it starts, at work, and twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import importlib.machinery, os, sys, time, types
from laptime.cli.stop import leave_signals, watch_signals
watch_signals()
print("watching", flush=True)
place = sys.argv[1]
if place == "starting":
    time.sleep(60)
import laptime.cli.main as main
import laptime.cli.verbs as verbs
module = types.ModuleType("slow_verb")
def slow_verb() -> int:
    '''Sleep.'''
    try:
        if place == "loading":
            loader = ExtensionFileLoader("slow", "slow.so")
            loader.exec_module(None)
        print("working", flush=True)
        time.sleep(60)
    except BaseException:
        print("putting in order", flush=True)
        time.sleep(0.3)
        if place == "made into another":
            raise ImportError("no such module")
        raise
class ExtensionFileLoader(importlib.machinery.ExtensionFileLoader):
    def exec_module(self, module):
        print("working", flush=True)
        time.sleep(0.5)
        print("loaded", flush=True)
module.slow_verb = slow_verb
sys.modules["slow_verb"] = module
verbs.VERBS["Measure"]["slow"] = verbs.Verb("slow_verb:slow_verb", "Sleep.")
try:
    sys.exit(main.run(["slow"]))
finally:
    leave_signals()
"""


def heard():
    """Signals as a terminal leaves them: nohup and a shell's background jobs ignore some, and so would the program."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("place", "number", "code"),
    [
        ("starting", signal.SIGTERM, 143), ("working", signal.SIGINT, 130), ("working", signal.SIGHUP, 129),
        ("made into another", signal.SIGTERM, 143), ("twice", signal.SIGINT, 130),
        ("loading", signal.SIGINT, 130),
    ],
)  # fmt: skip
def test_one_line_and_one_code(place, number, code):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, place],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heard,
    )
    wanted = "watching" if place == "starting" else "working"
    assert process.stdout is not None
    while process.stdout.readline().strip() != wanted:
        assert process.poll() is None
    time.sleep(0.05)
    process.send_signal(number)
    if place == "twice":
        assert process.stdout.readline().strip() == "putting in order"
        process.send_signal(number)
    if place == "loading":  # a library is whole before the verb is interrupted
        assert process.stdout.readline().strip() == "loaded"
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert said == "laptime: stopped; what was written is kept\n"


def test_what_was_ignored_stays_so():
    program = PROGRAM.replace("time.sleep(60)", "time.sleep(1)")
    process = subprocess.Popen(
        [sys.executable, "-c", program, "working"],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert process.stdout is not None
    while process.stdout.readline().strip() != b"working":
        assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 0


OLDER_SCRIPT = PROGRAM.replace("watch_signals()\n", "", 1).replace(
    """try:
    sys.exit(main.run(["slow"]))
finally:
    leave_signals()
""",
    """import atexit, signal
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
sys.argv = ["laptime", "slow"]
sys.exit(main.main())
""",
)


def test_a_second_signal_at_the_very_end_changes_nothing_also_in_a_script_of_an_earlier_version():
    """Such a script calls laptime.cli.main:main. The second Ctrl-C comes while Python puts itself away."""
    assert "main.main()" in OLDER_SCRIPT
    process = subprocess.Popen(
        [sys.executable, "-c", OLDER_SCRIPT, "working"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heard,
    )
    assert process.stdout is not None
    while process.stdout.readline().strip() != "working":
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "laptime: stopped; what was written is kept\n"
