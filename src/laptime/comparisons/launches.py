"""Starting A and B in turns, each time as a process of its own that writes a run folder, until the answer is known.

FOLDER/turns.json   what was asked, and the order
FOLDER/001-A, ...   the run folders, by the number of the launch

Four processes make a block, ABBA or BAAB; a coin decides which. So a drift of the machine cancels within a block, and
no rhythm of it can take the side of A or B.
"""

from __future__ import annotations

import random
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from pickle import PicklingError
from typing import Any

import msgspec

from laptime.comparisons.result import INTERRUPTED, Comparison
from laptime.comparisons.turns import Process, compare_turns
from laptime.data.files import write_whole
from laptime.data.json_text import readable_json
from laptime.data.outside import DAMAGE, read_regular
from laptime.data.run_folder import load_run
from laptime.errors import LaptimeError

SCHEMA = "laptime.turns/1"
PLAN = "turns.json"
PLACE = "{out}"
WAIT_S = 10.0
"""How long a process that Ctrl-C reached may take to end by itself."""

Launch = Callable[[Path], None]
"""Start one process that writes a run to this folder, and wait for its end. Raises LaptimeError when it fails."""


class TurnsPlan(msgspec.Struct, frozen=True, kw_only=True):
    """turns.json: what was asked, and in which order the processes ran."""

    schema: str = SCHEMA
    a: str
    b: str
    order: str  # "ABBABAAB..."; no more processes than this are started
    stage: str | None = None
    min_effect: float = 0.02
    confidence: float = 0.95
    keep: list[str] = []  # flags whose samples are used all the same


def turn_order(most: int, seed: int | None = None) -> str:
    """The sides of `most` processes, rounded down to pairs: blocks of ABBA or BAAB by a coin."""
    coin = random.Random(seed)  # noqa: S311 - no secret
    blocks = "".join(coin.choice(("ABBA", "BAAB")) for _ in range(most // 4 + 1))
    return blocks[: most // 2 * 2]


def measure_turns(
    plan: TurnsPlan, folder: Path, launch: dict[str, Launch], progress: Callable[[Comparison, int], None]
) -> Comparison:
    """Start processes in the plan's order until the comparison has a verdict, or the order ends.

    It stops early too where none of the first ten left a pair to judge: further ones would be flagged likewise.
    launch: "A" and "B" -> what starts one. progress: called after each pair with the comparison so far and how many
    processes there are at most. Ctrl-C keeps what is finished: the comparison of it comes back, its reason is
    "interrupted".
    Raises LaptimeError when a process fails, or the folder holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LaptimeError(f"`out` {folder}: is already there; choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / PLAN, readable_json(plan))
    except OSError as error:
        raise LaptimeError(f"`out` {folder}: {error.strerror}; choose another folder") from error
    processes: list[Process] = []
    comparison = _judged(plan, processes)
    try:
        for number, side in enumerate(plan.order, 1):
            place = folder / f"{number:03d}-{side}"
            launch[side](place)
            processes.append(_process(place, number, side, plan))
            if number % 2 == 0:
                comparison = _judged(plan, processes)
                progress(comparison, len(plan.order))
                if comparison.verdict != "inconclusive" or (number >= WITHOUT_PAIR and not comparison.stages):
                    break
    except KeyboardInterrupt:
        return msgspec.structs.replace(_judged(plan, processes), reason=INTERRUPTED)
    return comparison


def read_turns(folder: Path, keep: Sequence[str] = ()) -> Comparison:
    """Judge a folder of turns again. keep: flags that don't matter this time, besides those of the first time.

    Raises LaptimeError when it isn't one.
    """
    try:
        plan = msgspec.json.decode(read_regular(folder / PLAN), type=TurnsPlan)
    except OSError as error:
        raise LaptimeError(f"{folder / PLAN}: {error.strerror}") from error
    except DAMAGE as error:
        raise LaptimeError(f"{folder / PLAN}: not a comparison in turns ({error})") from error
    plan = msgspec.structs.replace(plan, keep=sorted({*plan.keep, *keep}))
    processes = []
    for number, side in enumerate(plan.order, 1):
        place = folder / f"{number:03d}-{side}"
        if not (place / "run.json").exists():
            break
        processes.append(_process(place, number, side, plan))
    return _judged(plan, processes)


def command_launch(command: str, name: str) -> Launch:
    """A launch of a command line: {out} in it becomes the folder; a laptime command without it gets --out FOLDER.

    The line is split as a shell would split it, and no shell runs it. Raises LaptimeError for one that can't be used.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise LaptimeError(f"{name} {command!r}: {error}") from error
    if not words:
        raise LaptimeError(f"{name}: no command; write for example {name} 'laptime profile MODEL'")
    if not any(PLACE in word for word in words):
        if Path(words[0]).name != "laptime" and words[1:3] != ["-m", "laptime"]:
            raise LaptimeError(f"{name} {command!r}: write {PLACE} where the run folder's name belongs")
        words += ["--out", PLACE]
    if words[0] == "laptime" and shutil.which("laptime") is None:
        words = [sys.executable, "-m", "laptime", *words[1:]]
    if shutil.which(words[0]) is None:
        raise LaptimeError(f"{name} {command!r}: no program {words[0]!r}")

    def launch(folder: Path) -> None:
        asked = [word.replace(PLACE, str(folder)) for word in words]
        with subprocess.Popen(  # noqa: S603 - the user's own command
            asked,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            try:
                _, complaints = process.communicate()
            except KeyboardInterrupt:
                try:
                    process.wait(WAIT_S)  # it got Ctrl-C too
                except subprocess.TimeoutExpired:
                    process.kill()
                raise
        if process.returncode in (-2, 130):
            raise KeyboardInterrupt
        if process.returncode:
            last = complaints.strip().splitlines()[-1:] or ["no message"]
            raise LaptimeError(f"{name}: exit code {process.returncode} of {shlex.join(asked)}: {last[0][:300]}")

    return launch


def callable_launch(function: Callable[..., Any], name: str) -> Launch:
    """A launch of `function(out=FOLDER)` in a new Python process.

    Raises LaptimeError when it can't be sent to one: it must be a function of a module, or functools.partial of one.
    """
    context = get_context("spawn")

    def launch(folder: Path) -> None:
        process = context.Process(target=_call, args=(function, str(folder)))
        try:
            process.start()
        except (AttributeError, TypeError, PicklingError) as error:
            mend = "take a function of a module, or functools.partial of one"
            raise LaptimeError(f"{name}: can't be called in a new process ({error}); {mend}") from error
        try:
            process.join()
        except KeyboardInterrupt:
            process.join(WAIT_S)
            if process.is_alive():
                process.kill()
            raise
        if process.exitcode:
            raise LaptimeError(f"{name}: its process ended with exit code {process.exitcode}; its message stands above")

    return launch


def _call(function: Callable[..., Any], folder: str) -> None:
    function(out=folder)


def _process(place: Path, number: int, side: str, plan: TurnsPlan) -> Process:
    if not (place / "run.json").exists():
        raise LaptimeError(f"{place}: the process for {side} ended well and wrote no run there (no run.json)")
    return Process(number=number, side=side, run=load_run(place), keep=tuple(plan.keep))


def _judged(plan: TurnsPlan, processes: list[Process]) -> Comparison:
    comparison = compare_turns(
        processes[: len(processes) // 2 * 2],
        names=(plan.a, plan.b),
        stage=plan.stage,
        min_effect=plan.min_effect,
        confidence=plan.confidence,
        last=len(processes) >= len(plan.order),
    )
    if comparison.stages or not WITHOUT_PAIR <= len(processes) < len(plan.order):
        return comparison
    stopped = (
        f"stopped after {len(processes)} of at most {len(plan.order)} processes, as more would be flagged likewise"
    )
    return msgspec.structs.replace(comparison, reason=f"{comparison.reason}; {stopped}")


WITHOUT_PAIR = 10
"""After so many processes without one pair that can be judged no further ones are started."""
