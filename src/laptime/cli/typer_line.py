"""Typer's side of the command line: help, completion, and the words of an error in how a verb was called."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import laptime
from laptime.cli.declared import parameters
from laptime.cli.verbs import VERBS, Group, as_verb, imported
from laptime.errors import LaptimeError, did_you_mean

CONTEXT = {"help_option_names": ["-h", "--help"]}
SETTINGS: dict[str, Any] = {"rich_markup_mode": "rich", "pretty_exceptions_enable": False, "context_settings": CONTEXT}
"""What all verbs share."""

USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""What a wrong option raises: click's class, or typer's own copy of it in newer versions."""


class Verbs(TyperGroup):
    """The verbs by name. Only the one that runs is imported, since imports are most of what a short verb takes."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for verbs in VERBS.values() for name in verbs]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """What help and completion show of a verb: its name and its line, without its options."""
        for panel, verbs in VERBS.items():
            if cmd_name in verbs:
                return TyperCommand(cmd_name, help=verbs[cmd_name].summary, rich_help_panel=panel)
        return None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb that runs, with its options. Offers near names for one that doesn't exist."""
        try:
            name, listed, rest = super().resolve_command(ctx, args)
        except USAGE_ERROR as error:
            near = get_close_matches(args[0], self.list_commands(ctx))
            if near:
                error.message += f" Did you mean {' or '.join(near)}?"  # type: ignore[attr-defined]
            raise
        return name, None if listed is None else imported_verb(str(name)), rest


def imported_verb(name: str) -> Any:
    """One verb as typer's command: a function with its options, or a group of several."""
    return typer_command(name, imported(name))


def typer_command(name: str, verb: Callable[..., Any] | Group) -> Any:
    """A verb's function, or a group, as typer's command."""
    if isinstance(verb, Group):
        app = typer.Typer(help=verb.summary, no_args_is_help=True, add_completion=False, **SETTINGS)
    else:
        app = typer.Typer(add_completion=False, **SETTINGS)
    for function in verb.functions if isinstance(verb, Group) else [verb]:
        of = function.__name__ if isinstance(verb, Group) else name
        # rich keeps the line breaks of a paragraph, at whatever width
        paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
        words = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        app.command(of, help=words, context_settings=CONTEXT)(with_typers_declarations(function))
    command = typer.main.get_command(app)
    command.name = name
    for one in (command, *getattr(command, "commands", {}).values()):
        for parameter in one.params:
            if getattr(parameter, "is_flag", False):  # a flag takes no value: "<bool>" would only take room
                parameter.metavar = ""
    return command


def with_typers_declarations(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a verb as typer takes it."""
    verb, signature = as_verb(function), inspect.signature(function, eval_str=True)
    declared = {one.name: one.declared for one in parameters(function)}
    typed = []
    for one in signature.parameters.values():
        kind, (is_option, names, settings) = one.annotation.__origin__, declared[one.name]
        of = typer.Option(*names, **settings) if is_option else typer.Argument(**settings)
        typed.append(one.replace(annotation=Annotated[kind, of]))
    verb.__signature__ = signature.replace(parameters=typed)  # type: ignore[attr-defined]
    verb.__annotations__ = {one.name: one.annotation for one in typed}
    return verb


@cache
def application() -> Any:
    """The whole command as typer's group."""
    app = typer.Typer(
        name="laptime",
        cls=Verbs,
        help="Where do the milliseconds of generate() go? One run, one clock, every millisecond accounted for.",
        invoke_without_command=True,
        **SETTINGS,
    )

    @app.callback()
    def root(
        ctx: typer.Context,
        version: bool = typer.Option(False, "--version", metavar="", help="Print the version and leave."),
        debug: bool = typer.Option(False, "--debug", metavar="", help="Show the traceback of an internal error."),
    ) -> None:
        if version:
            typer.echo(laptime.__version__)
        elif ctx.invoked_subcommand is None:
            typer.echo(ctx.get_help())

    return typer.main.get_command(app)


STOPPED = 130
"""What newer versions of typer return for a KeyboardInterrupt, instead of raising."""


class WrongUsageError(LaptimeError):
    """How a verb was called can't be read."""


def run_typer(arguments: list[str]) -> Any:
    """Let typer read and run a command line; what the verb returned.

    Raises:
        WrongUsageError: it can't be read. KeyboardInterrupt: Ctrl-C.
    """
    try:
        code = application()(args=arguments, standalone_mode=False, prog_name="laptime")
    except USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # `laptime control`: its help is on stdout already
            return 0
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "laptime"
        message = _with_near_options(error) or _with_near_choices(error.format_message())  # type: ignore[attr-defined]
        raise WrongUsageError(f"{message} (see {command} --help)") from error
    except typer.Abort:
        raise KeyboardInterrupt from None
    if code == STOPPED:
        raise KeyboardInterrupt
    return code


NEAR_OPTION = 0.65
"""How alike an option and what was written must be, from 0 to 1, to be named: batch and batch-size are."""


def _with_near_options(error: Exception) -> str:
    """Of an option that the verb doesn't have: its options that are near. "" for any other error.

    The parser's own guesses compare the dashes too, so that any option is near a short one.
    """
    context = getattr(error, "ctx", None)
    if type(error).__name__ != "NoSuchOption" or context is None:
        return ""
    wrong = str(getattr(error, "option_name", ""))
    options = {name.lstrip("-"): name for one in context.command.get_params(context) for name in one.opts}
    near = did_you_mean(wrong.lstrip("-"), options, cutoff=NEAR_OPTION, shown=options)
    return f"No such option: {wrong}" + (f". {near[:1].upper()}{near[1:]}" if near else "")


def _with_near_choices(message: str) -> str:
    """Of a value that is none of an option's choices: the choices that are near."""
    message = message.replace("Value error, ", "")
    wrong = re.search(r"'([^']*)' is not one of ((?:'[^']*'(?:, )?)+)", message)
    near = did_you_mean(wrong[1], re.findall(r"'([^']*)'", wrong[2]), cutoff=0.65) if wrong else ""
    return f"{message} {near[:1].upper()}{near[1:]}" if near else message
