"""The `laptime` command: its verbs, and one way to fail (a line on stderr, exit code 2)."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from laptime import __version__
from laptime.errors import LaptimeError

if TYPE_CHECKING:
    from typer import Typer

STOPPED = 130
"""What a shell calls a command that Ctrl-C ended; newer versions of typer return it instead of raising."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Exit codes: 0 done, 1 the answer is no, 2 usage or unreadable input, 130 Ctrl-C."""
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


@cache
def application() -> Typer:
    """The verbs. Built when they are needed: typer takes longer to import than a small trace to read."""
    import typer

    from laptime.cli.audit import audit
    from laptime.cli.budget import budget
    from laptime.cli.compare import compare
    from laptime.cli.control import control_verbs
    from laptime.cli.env import env
    from laptime.cli.evaluate import evaluate
    from laptime.cli.export import export
    from laptime.cli.fit import fit
    from laptime.cli.merge import merge
    from laptime.cli.predict import predict
    from laptime.cli.profile import profile
    from laptime.cli.remedy import remedy
    from laptime.cli.report import report
    from laptime.cli.sweep import sweep
    from laptime.cli.trace import trace

    app = typer.Typer(
        name="laptime",
        help="Where do the milliseconds of generate() go? One run, one clock, every millisecond accounted for.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.command("profile")(profile)
    app.command("sweep")(sweep)
    app.command("merge")(merge)
    app.command("report")(report)
    app.command("audit")(audit)
    app.command("compare")(compare)
    app.command("trace")(trace)
    app.command("remedy")(remedy)
    app.command("fit")(fit)
    app.command("evaluate")(evaluate)
    app.command("predict")(predict)
    app.command("budget")(budget)
    app.add_typer(control_verbs(), name="control")
    app.command("export")(export)
    app.command("env")(env)

    @app.callback(invoke_without_command=True)
    def _version(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
        if version:
            typer.echo(__version__)
            raise typer.Exit

    return app


def _run(words: list[str]) -> int:
    try:
        if len(words) == 3 and words[0] == "trace" and words[2] == "--json" and not words[1].startswith("-"):
            # What programs ask for needs none of typer's parsing, and answers a tenth of a second sooner without it.
            from laptime.trace.command import print_json

            return print_json(Path(words[1]))
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
    import typer

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
