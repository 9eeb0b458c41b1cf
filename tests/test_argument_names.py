"""Texts below the command line name arguments as Python does (decision 0098)."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import laptime
from laptime import api

SOURCE = Path(laptime.__file__).parent
LAYOUT = ("cli", "report", "pytest_plugin.py")
"""What a command line alone shows, or lays out for its terminal."""
COMMAND = re.compile(r"\b(laptime|nsys|pytest|torchrun)\b.*", re.DOTALL)
"""A command written whole, to the end of its text: whoever reads it can run it."""
BOTH = re.compile(r"--[a-z-]+(?= [^-]*\bin Python\b)|(?<=\()--[a-z{}.-]+(?=, in Python\b)")


def _texts() -> Iterator[tuple[str, str]]:
    """Place and text of every string that stands in a function, its docstring left out."""
    for file in sorted(SOURCE.rglob("*.py")):
        place = file.relative_to(SOURCE)
        if place.parts[0] in LAYOUT:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if id(node) in prose or id(node) in parts:
                continue
            if isinstance(node, ast.JoinedStr):
                yield f"{place}:{node.lineno}", "".join(_part(part) for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{place}:{node.lineno}", node.value


def _part(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "{}"


def test_no_text_below_the_command_line_names_an_option_alone() -> None:
    wrong = [
        f"{place}: {text}"
        for place, text in _texts()
        if " " in text and re.search(r"(?<![\w-])--[a-z{]", BOTH.sub("", COMMAND.sub("", text)))
    ]
    assert not wrong, "\n".join(wrong)


def test_an_argument_that_a_text_names_is_one_of_a_public_function() -> None:
    functions = [value for name, value in vars(api).items() if inspect.isfunction(value) and not name.startswith("_")]
    known = {name for function in (*functions, laptime.StageTimer) for name in inspect.signature(function).parameters}
    named = {(place, name) for place, text in _texts() for name in re.findall("`([a-z][a-z0-9_]*)`", text)}
    assert len(named) > 50
    assert not sorted(f"{place}: `{name}`" for place, name in named if name not in known)
