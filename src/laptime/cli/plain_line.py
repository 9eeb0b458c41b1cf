"""Command lines that are plainly right, read without typer: most of what a short verb takes is typer's imports.

What is not plain is left to typer: help, completion, an error and its words, a value that begins with a dash, an option
that is given twice. So whatever is read here means the same there; a test asks both of every verb.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from enum import EnumMeta
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from laptime.cli.declared import Parameter, parameters
from laptime.cli.verbs import chosen

COMPLETION = "_LAPTIME_COMPLETE"
"""The variable by which a shell asks for completions."""

_INT = re.compile("[0-9]{1,15}", re.ASCII)
_FLOAT = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)


class Line(NamedTuple):
    """A verb's function and what a command line gives it."""

    function: Callable[..., Any]
    values: dict[str, Any]


class _NotPlainError(Exception):
    """Typer must read this line."""


def plain_line(arguments: list[str]) -> Line | None:
    """The verb and the values that a command line means, or None where typer must read it."""
    if COMPLETION in os.environ or (verb := chosen(arguments)) is None:
        return None
    try:
        return Line(verb.function, _values(parameters(verb.function), iter(verb.words)))
    except _NotPlainError:
        return None


def _values(declared: list[Parameter], words: Iterator[str]) -> dict[str, Any]:
    """The values of parameters by their name; what isn't given is left to the function's default."""
    options = {name: one for one in declared for names in one.declared.names for name in names.split("/")}
    given: dict[str, list[str]] = {}
    result: dict[str, Any] = {}
    loose = []
    for word in words:
        name, equals, text = word.partition("=")
        if not word.startswith("-"):
            loose.append(word)
        elif name not in options or (equals and options[name].kind is bool):
            raise _NotPlainError
        elif options[name].kind is bool:
            on = not options[name].declared.names[0].endswith(f"/{name}")
            if result.setdefault(options[name].name, on) is not on:
                raise _NotPlainError
        else:
            given.setdefault(options[name].name, []).append(text if equals else next(words, ""))
    for one in declared:
        if not one.declared.is_option and loose:
            given[one.name], loose = (loose, []) if get_origin(one.kind) is list else (loose[:1], loose[1:])
        if one.name in given:
            result[one.name] = _read(one, given[one.name])
        elif one.required and one.name not in result:
            raise _NotPlainError
    if loose:
        raise _NotPlainError
    return result


def _read(one: Parameter, texts: list[str]) -> Any:
    if get_origin(one.kind) is list:
        (kind,) = get_args(one.kind)
        return [_value(one._replace(kind=kind), text) for text in texts]
    if len(texts) > 1:
        raise _NotPlainError
    return _value(one, texts[0])


def _value(one: Parameter, text: str) -> Any:
    kind, limits = one.kind, one.declared.settings
    if not text or text.startswith("-"):
        raise _NotPlainError
    if kind is str or kind is Path:
        return kind(text)
    if isinstance(kind, EnumMeta):
        named = {str(member.value): member for member in kind}  # type: ignore[var-annotated]
        if text in named:
            return named[text]
    elif kind in (int, float) and (_INT if kind is int else _FLOAT).fullmatch(text):
        number = kind(text)
        if limits.get("min", number) <= number <= limits.get("max", number):
            return number
    raise _NotPlainError
