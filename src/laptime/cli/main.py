"""The `laptime` command: its verbs, and one way to fail (a line on stderr, exit code 2)."""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from laptime import __version__
from laptime.errors import LaptimeError

CONTEXT = {"help_option_names": ["-h", "--help"]}
SETTINGS: dict[str, Any] = {"rich_markup_mode": "rich", "pretty_exceptions_enable": False, "context_settings": CONTEXT}
"""What all verbs share; brackets in a help text that are no style are printed as they are."""

STOPPED = 130
"""What a shell calls a command that Ctrl-C ended; newer versions of typer return it instead of raising."""

VERBS: dict[str, dict[str, str]] = {
    "Measure": {
        "profile": "laptime.cli.profile:profile",
        "sweep": "laptime.cli.sweep:sweep",
        "merge": "laptime.cli.merge:merge",
        "env": "laptime.cli.env:env",
    },
    "Judge": {
        "audit": "laptime.cli.audit:audit",
        "compare": "laptime.cli.compare:compare",
        "report": "laptime.cli.report:report",
        "export": "laptime.cli.export:export",
    },
    "Find and mend what is slow": {
        "trace": "laptime.cli.trace:trace",
        "remedy": "laptime.cli.remedy:remedy",
    },
    "Predict and choose": {
        "fit": "laptime.cli.fit:fit",
        "evaluate": "laptime.cli.evaluate:evaluate",
        "predict": "laptime.cli.predict:predict",
        "budget": "laptime.cli.budget:budget",
        "control": "laptime.cli.control:CONTROL",
    },
}
"""Each verb's place, by the panel of `laptime --help` that it stands in. A verb is imported when it is asked for."""


class Verbs(TyperGroup):
    """The verbs by name: only the one that runs is imported, since imports are most of what a short verb takes."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [verb for verbs in VERBS.values() for verb in verbs]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        for panel, verbs in VERBS.items():
            if cmd_name in verbs:
                module, _, name = verbs[cmd_name].partition(":")
                return command(getattr(import_module(module), name), cmd_name, panel)
        return None


def command(verb: Any, name: str, panel: str) -> Any:
    """One verb as typer's command: a function with its options, or a Typer of several."""
    app = verb if isinstance(verb, typer.Typer) else typer.Typer(add_completion=False, **SETTINGS)
    if app is not verb:
        app.command(name, rich_help_panel=panel, context_settings=CONTEXT)(verb)
    made = typer.main.get_command(app)
    made.name = name
    made.rich_help_panel = panel  # type: ignore[attr-defined]
    return made


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
        version: bool = typer.Option(False, "--version", help="Print the version and leave."),
    ) -> None:
        if version:
            typer.echo(__version__)
        elif ctx.invoked_subcommand is None:
            typer.echo(ctx.get_help())

    return typer.main.get_command(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Exit codes: 0 done, 1 the answer is no, 2 usage or unreadable input, 130 Ctrl-C."""
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(words: list[str]) -> int:
    try:
        return _run_typed(words)
    except LaptimeError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _stopped()
    except BrokenPipeError:  # `laptime ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a disk that fills, a folder that goes: nobody's mistake in the code
        if error.strerror is None:
            raise
        return _fail(f"{error.filename or 'writing'}: {error.strerror}")


def _run_typed(words: list[str]) -> int:
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]  # click's, or typer's own copy of it, by its version
    try:
        code = application()(args=words, standalone_mode=False, prog_name="laptime")
    except usage_error as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "laptime"
        return _fail(f"{error.format_message()} (see {command} --help)")  # type: ignore[attr-defined]
    except typer.Abort:
        return _stopped()
    if code == STOPPED:
        return _stopped()
    return code if isinstance(code, int) else 0


def _stopped() -> int:
    print("laptime: stopped; what was finished is kept", file=sys.stderr)  # noqa: T201
    return STOPPED


def _fail(message: str) -> int:
    print(f"laptime: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    main()
