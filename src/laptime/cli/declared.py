"""What a verb takes, as data: the parameters of its function, each with an `argument` or an `option` that declares it.

Both words and their settings are typer's. They stand here because typer and what it imports take longer than most
verbs: `plain_line` reads what is plainly right without it, and `typer_line` gives it these declarations.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, get_args, get_origin


class Declared(NamedTuple):
    """One `argument` or `option`."""

    is_option: bool
    names: tuple[str, ...]  # "--json"; "--compile/--no-compile" is on and off; none for an argument
    settings: dict[str, Any]  # those that were given, by typer's names


class Parameter(NamedTuple):
    """One parameter of a verb's function."""

    name: str
    kind: Any  # its type, without `| None`
    declared: Declared
    required: bool
    default: Any = None


def argument(*, help: str, metavar: str | None = None) -> Declared:
    """Declare an argument of a verb. metavar: what help calls it, if not its own name."""
    return Declared(False, (), _given(help=help, metavar=metavar))


def option(
    *names: str,
    help: str,
    metavar: str | None = None,
    rich_help_panel: str | None = None,
    min: float | None = None,
    max: float | None = None,
    show_default: bool | str | None = None,
) -> Declared:
    """Declare an option of a verb.

    Args:
        metavar: what help calls its value.
        rich_help_panel: the group of options in which help shows it.
        min, max: the least and the largest number that it takes.
        show_default: False to show none; a text to show instead of the default.
    """
    settings = {"min": min, "max": max, "show_default": show_default, "rich_help_panel": rich_help_panel}
    return Declared(True, names, _given(help=help, metavar=metavar, **settings))


def _given(**settings: Any) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def parameters(function: Callable[..., Any]) -> list[Parameter]:
    """The declared parameters of a verb's function, in their order."""
    found = []
    for one in inspect.signature(function, eval_str=True).parameters.values():
        kind, declared = get_args(one.annotation)
        required = one.default is one.empty
        default = None if required else one.default
        found.append(Parameter(one.name, _without_none(kind), declared, required, default))
    return found


def _without_none(kind: Any) -> Any:
    several = [one for one in get_args(kind) if one is not type(None)]
    return kind if get_origin(kind) is list or len(several) != 1 else several[0]
