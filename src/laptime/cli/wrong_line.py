"""What is wrong with a command line, in words that name the option, what was written, and what is wanted.

`plain_line` reads what is plainly right. Of the rest this says what typer would read as something that nobody means (in
`--html --json` a file of that name), or refuse in words of its parser. It refuses nothing that `plain_line` reads.

What is found wrong below the command line names arguments as Python does; `with_option_names` writes their options.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from laptime.cli.declared import Parameter, parameters
from laptime.cli.verbs import VERBS, chosen

MOST_INTEGER = 10**18
"""Below it a whole number fits into the 64 bits that libraries have for it."""
_OPTION = re.compile(r"-h|--|--[a-zA-Z][\w-]*(=.*)?", re.DOTALL)
"""What an option looks like; a question or a command may begin with dashes."""
HELP = ("-h", "--help")
_ARGUMENT = re.compile("`([a-z][a-z0-9_]*)`", re.ASCII)
"""How an error's text names an argument (decision 0098)."""


def with_option_names(message: str, arguments: list[str]) -> str:
    """An error's text with the verb's options where it names arguments: --new-tokens for `new_tokens`.

    arguments: the command line. What is no option of its verb stays as it is.
    """
    if _ARGUMENT.search(message) is None or (verb := chosen(arguments)) is None:
        return message
    names = [name for one in parameters(verb.function) for name in one.declared.names]
    options = {name: declared for declared in names for name in declared.split("/")}
    return _ARGUMENT.sub(lambda named: options.get(f"--{named[1].replace('_', '-')}", named[0]), message)


def wrong_line(arguments: list[str]) -> str | None:
    """One sentence about a command line that can't be meant so; None where nothing is known to be wrong with it."""
    words = arguments[1:] if arguments[:1] == ["--debug"] else arguments
    verbs = [name for of_panel in VERBS.values() for name in of_panel]
    first = words[0] if words else ""
    if first.startswith("-") and first not in (*HELP, "--version"):
        named = next((word for word in words if word in verbs), None)
        return named and f"{first}: write the verb first, as laptime {named} {first} (see laptime --help)"
    verb = chosen(words)
    wrong = verb and _Reading(parameters(verb.function)).wrong(iter(verb.words))
    return wrong and verb and f"{wrong} (see laptime {verb.name} --help)"


class _Reading:
    """What has been read of a line so far."""

    def __init__(self, declared: list[Parameter]) -> None:
        self.declared = declared
        self.options = {name: one for one in declared for names in one.declared.names for name in names.split("/")}
        self.given: dict[str, str] = {}

    def wrong(self, words: Iterator[str]) -> str | None:
        """What is wrong with the first word that is; None where help is asked for, or typer has better words."""
        arguments: list[str] = []
        found: str | None = None
        for word in words:
            name, equals, text = word.partition("=")
            if word == "--":
                arguments += words
            elif not word.startswith("-") or word == "-":
                arguments.append(word)
            elif name not in self.options:
                return None if word in HELP else found
            else:
                wrong = self._wrong_option(name, text if equals else None, words)
                found = found or wrong
        return found or self._wrong_arguments(arguments)

    def _wrong_option(self, name: str, text: str | None, words: Iterator[str]) -> str | None:
        one = self.options[name]
        if one.kind is bool:
            if text is not None:
                return f"{name}={text}: {name} takes no value; write {name} alone"
            before = self.given.setdefault(one.name, name)
            return None if before == name else f"{before} and {name} contradict each other; write one of them"
        metavar = one.declared.settings.get("metavar", "VALUE")
        if text is None:
            text = next(words, None)
            if text is None:
                return f"{name}: its value is missing; write {name} {metavar}"
            if _OPTION.fullmatch(text) or (_of(one) is Path and text.startswith("--")):
                meant = f"{name} ./{text}" if _of(one) is Path else f"{name}={text}"
                return f"{name} {text}: {name} needs a value, and {text} looks like an option; if you mean it: {meant}"
        if get_origin(one.kind) is not list:
            if name in self.given:
                return f"{name} is given twice ({self.given[name]}, {text}); write it once"
            self.given[name] = text
        return wrong_value(name, one, text)

    def _wrong_arguments(self, words: list[str]) -> str | None:
        for one in (one for one in self.declared if not one.declared.is_option):
            several = get_origin(one.kind) is list
            mine, words = (words, []) if several else (words[:1], words[1:])
            if "" in mine:
                metavar = str(one.declared.settings.get("metavar", one.name)).removesuffix("...")
                return f"{metavar} is empty; name it"
        return None


def wrong_value(name: str, one: Parameter, text: str) -> str | None:
    """What is wrong with one value of an option; None where its kind takes it."""
    kind = _of(one)
    if not text and not (kind is str and one.default == ""):
        return f"{name}: its value is empty; write {name} {one.declared.settings.get('metavar', 'VALUE')}"
    if kind not in (int, float):
        return None
    least, most = one.declared.settings.get("min"), one.declared.settings.get("max")
    try:
        number = kind(text)
    except ValueError:
        number = math.nan
    if least is not None and number < least:
        return f"{name} {text}: " + ("can't be negative" if least == 0 else f"must be at least {least:g}")
    if most is not None and number > most:
        return f"{name} {text}: must be at most {most:g}"
    if kind is int and abs(number) >= MOST_INTEGER:
        return f"{name} {text}: write at most 18 digits"
    if not math.isnan(number):
        return None
    wanted = "a whole number" if kind is int else "a number"
    if least is not None:
        wanted += f" from {least:g} to {most:g}" if most is not None else f", {least:g} or more"
    return f"{name} {text}: write {wanted}, as {_example(one, kind)}"


def _example(one: Parameter, kind: Any) -> str:
    default = one.default if isinstance(one.default, (int, float)) and not isinstance(one.default, bool) else None
    least = one.declared.settings.get("min")
    number = default if default is not None else max(least or 0, 1)
    return f"{kind(number):g}"


def _of(one: Parameter) -> Any:
    """The type of one value."""
    return get_args(one.kind)[0] if get_origin(one.kind) is list else one.kind
