"""Command lines read without typer: whatever is read so means the same to typer, of every verb."""

from __future__ import annotations

import json
import subprocess
import sys
from enum import EnumMeta
from functools import cache, wraps
from pathlib import Path
from typing import get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.cli.declared import parameters
from laptime.cli.plain_line import COMPLETION, plain_line
from laptime.cli.typer_line import typer_command
from laptime.cli.verbs import VERBS, Group, imported
from laptime.cli.wrong_line import wrong_line
from tests.trace.engines import published_engine
from tests.trace.write_traces import write_kineto

NAMES = [(name,) for verbs in VERBS.values() for name in verbs if not isinstance(imported(name), Group)]
NAMES += [("control", one.__name__) for one in imported("control").functions]
AWKWARD = ["", "-", "--", "-h", "--help", "-1", "a=b", "é", " 7 ", "1_0", "0x1", "007", "1e3", ".5", "nan", "×"]


@cache
def functions(words):
    verb = imported(words[0])
    return next(one for one in verb.functions if one.__name__ == words[1]) if isinstance(verb, Group) else verb


@cache
def to_typer(words):
    """The verb as typer's command; it returns what it was called with."""
    function = functions(words)

    @wraps(function)
    def called(**values):
        return values

    return typer_command(words[-1], called)


def by_typer(words, line):
    return to_typer(words)(args=line, standalone_mode=False)


def whole(words, values):
    """The values that the function has: those that are left out have its defaults."""
    function = functions(words)
    defaults = dict(zip(function.__code__.co_varnames[: function.__code__.co_argcount][::-1],
                        (function.__defaults__ or ())[::-1], strict=False))  # fmt: skip
    return {**defaults, **values}


def plain_text(kind):
    """A value of this kind as anybody writes it."""
    if isinstance(kind, EnumMeta):
        return str(next(iter(kind)).value)
    return {int: "7", float: "4.5", str: "some words", Path: "a/b.json"}[kind]


def written(one, text=None):
    """One parameter in a command line, or nothing for an argument (those come last)."""
    if one.kind is bool:
        return [one.declared.names[0].split("/")[-1]]
    kind = get_args(one.kind)[0] if get_origin(one.kind) is list else one.kind
    value = plain_text(kind) if text is None else text
    return [one.declared.names[0], value] if one.declared.is_option else [value]


@pytest.mark.parametrize("words", NAMES, ids=" ".join)
def test_all_that_a_verb_takes_can_be_read_plainly(words):
    declared = parameters(functions(words))
    line = [word for one in sorted(declared, key=lambda one: not one.declared.is_option) for word in written(one)]
    read = plain_line([*words, *line])
    assert read is not None and set(read.values) == {one.name for one in declared}
    assert read.values == by_typer(words, line)


@st.composite
def lines(draw):
    words = draw(st.sampled_from(NAMES))
    line = []
    for one in draw(st.lists(st.sampled_from(parameters(functions(words))), max_size=6)):
        part = written(one, draw(st.none() | st.sampled_from(AWKWARD) | st.text(alphabet="a-=.0 5/", max_size=4)))
        line += ["=".join(part)] if len(part) == 2 and draw(st.booleans()) else part
    return words, line


@settings(max_examples=400, deadline=None)
@given(lines())
def test_what_is_read_plainly_means_the_same_to_typer(drawn):
    words, line = drawn
    read = plain_line([*words, *line])
    if read is not None:
        assert wrong_line([*words, *line]) is None
        assert whole(words, read.values) == by_typer(words, line)


@pytest.mark.parametrize(
    "line",
    [
        [], ["--help"], ["--version", "trace"], ["--debug"], ["tarce", "a"], ["control"], ["control", "trai"],
        ["trace"], ["trace", "--help"], ["trace", "a", "--devcie", "1"], ["trace", "a", "--json=1"],
        ["trace", "--", "a"],
        ["trace", "a", "--device"], ["trace", "a", "--device", "--json"], ["trace", "a", "--device", "-1"],
        ["trace", "a", "--device", "1", "--device", "2"], ["audit", "a", "b"], ["compare", "a", "--stage", "decod"],
        ["compare", "a", "b", "--processes", "3"], ["fit", "a", "--out", "b", "--seed", "-1"],
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_typer(line):
    assert plain_line(line) is None


def test_a_shell_that_completes_is_left_to_typer(monkeypatch):
    monkeypatch.setenv(COMPLETION, "complete_bash")
    assert plain_line(["trace", "a"]) is None


def imported_by(*arguments):
    """The modules that a command has imported in a fresh process, and what it printed."""
    program = (
        "import atexit, sys\nfrom laptime.__main__ import main\n"
        "atexit.register(lambda: print('\\n', *sys.modules, file=sys.stderr))\nmain()"
    )
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return set(done.stderr.split()), done.stdout


def test_the_version_needs_no_library():
    modules, out = imported_by("--version")
    assert out.strip()
    assert not modules & {"typer", "click", "pydantic", "rich", "numpy", "msgspec", "polars", "inspect"}


def test_a_trace_imports_what_its_own_file_needs(tmp_path):
    """Of a Kineto file's JSON: no parser with its schemas, no tables, no other format's reader, no archives."""
    modules, out = imported_by("trace", write_kineto(tmp_path / "t.json", *published_engine(6).all), "--json")
    assert json.loads(out)["schema"] == "laptime.trace/1"
    assert "laptime.trace.read.kineto" in modules
    program = "import sys, numpy, msgspec; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules -= set(done.stdout.split())  # an older numpy brings all of its parts
    others = {f"laptime.trace.read.{name}" for name in ("nsight", "nsight_tables", "nsight_other", "archives")}
    libraries = {"typer", "pydantic", "rich", "polars", "scipy", "lightgbm", "yaml", "numpy.ma", "numpy.random"}
    assert not modules & {*others, *libraries, "laptime.trace.ranks", "sqlite3", "tarfile", "zipfile", "hashlib"}
