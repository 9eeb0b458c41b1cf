"""The `laptime` command: its verbs, and one way to fail (a line on stderr, exit code 2)."""

from __future__ import annotations

import os
import sys

import typer

from laptime import __version__
from laptime.cli.env import env
from laptime.cli.profile import profile
from laptime.cli.report import report
from laptime.cli.trace import trace
from laptime.errors import LaptimeError

# click's, or typer's own copy of it, whichever this version of typer is built on.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="laptime",
    help="Where do the milliseconds of generate() go? One run, one clock, every millisecond accounted for.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("profile")(profile)
app.command("report")(report)
app.command("trace")(trace)
app.command("env")(env)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Exit codes: 0 done, 1 the answer is no, 2 usage or unreadable input, 130 Ctrl-C."""
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        code = app(args=arguments, standalone_mode=False, prog_name="laptime")
        return code if isinstance(code, int) else 0
    except LaptimeError as error:
        return _fail(str(error))
    except UsageError as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "laptime"
        return _fail(f"{error.format_message()} (see {command} --help)")  # type: ignore[attr-defined]
    except (typer.Abort, KeyboardInterrupt):
        print("laptime: stopped; what was finished is kept", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:  # `laptime ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _fail(message: str) -> int:
    print(f"laptime: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    main()
