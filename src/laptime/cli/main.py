"""The `laptime` command: its verbs, and one way to fail (a line on stderr, exit code 2)."""

from __future__ import annotations

import errno
import inspect
import os
import re
import sys
import tempfile
import traceback
from contextlib import suppress
from difflib import get_close_matches
from functools import cache, wraps
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

import laptime
from laptime.cli import stop
from laptime.cli.streams import make_streams_whole, printable_streams
from laptime.data.printable import printable
from laptime.errors import LaptimeError, Stopped, did_you_mean

CONTEXT = {"help_option_names": ["-h", "--help"]}
SETTINGS: dict[str, Any] = {"rich_markup_mode": "rich", "pretty_exceptions_enable": False, "context_settings": CONTEXT}
"""What all verbs share."""

USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""What a wrong option raises: click's class, or typer's own copy of it in newer versions."""

STOPPED = 130
"""What newer versions of typer return for a KeyboardInterrupt, instead of raising."""


UNREAD = 141
"""128 + SIGPIPE."""


class Verb(NamedTuple):
    """One line of `laptime --help`: where the verb's function is ("module:name"), and what it does."""

    place: str
    summary: str  # the first paragraph of the function's docstring; a test holds both equal


CRASHED = 70
"""An error inside laptime (sysexits.h: EX_SOFTWARE). It is no answer, so a gate must not read it as one."""

VERBS: dict[str, dict[str, Verb]] = {
    "Measure": {
        "profile": Verb(
            "laptime.cli.profile:profile",
            "Where does generate() spend its time? Vision, prefill, decode, other, on one clock.",
        ),
        "sweep": Verb(
            "laptime.cli.sweep:sweep",
            "Where does generate() spend its time, over a grid of knobs?",
        ),
        "importance": Verb(
            "laptime.cli.importance:importance",
            "Which decoder blocks matter least, and what does the model lose without them?",
        ),
        "merge": Verb(
            "laptime.cli.merge:merge",
            "Make one run of the parts that several workers wrote.",
        ),
        "serve-bench": Verb(
            "laptime.cli.serve_bench:serve_bench", "How fast does an endpoint answer, under which load?"
        ),
        "engine": Verb("laptime.cli.engine:engine", "Where did each request's time go inside the engine?"),
        "env": Verb("laptime.cli.env:env", "Show the environment that measurements on this machine belong to."),
    },
    "Judge": {
        "audit": Verb("laptime.cli.audit:audit", "Which of these measurements are not valid, and why?"),
        "compare": Verb("laptime.cli.compare:compare", "Is run B faster than run A, by how much, how sure?"),
        "report": Verb("laptime.cli.report:report", "Write one self-contained HTML page of a run or a sweep."),
        "export": Verb(
            "laptime.cli.export:export",
            "Write samples as a table, a timeline for Perfetto, or figures for a dashboard.",
        ),
    },
    "Find and mend what is slow": {
        "trace": Verb("laptime.cli.trace:trace", "What did the GPU wait for?"),
        "remedy": Verb(
            "laptime.cli.remedy:remedy",
            "Find what makes decoding faster: each remedy is promised from a trace, applied, and measured.",
        ),
    },
    "Predict and choose": {
        "fit": Verb("laptime.cli.fit:fit", "Learn how long a configuration takes, with a bound."),
        "evaluate": Verb(
            "laptime.cli.evaluate:evaluate",
            "Judge an estimator on measured times, beside the best that any could reach.",
        ),
        "predict": Verb("laptime.cli.predict:predict", "Predict how long configurations take, with an upper bound."),
        "budget": Verb("laptime.cli.budget:budget", "Say which configurations keep a time budget, and how surely."),
        "control": Verb(
            "laptime.cli.control:CONTROL",
            "Choose image tier, experts and blocks for each input, so that its answer is in time.",
        ),
    },
}
"""The verbs by the panel of `laptime --help` that they stand in. A verb is imported when it runs."""


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
    verb = next(verbs[name] for verbs in VERBS.values() if name in verbs)
    module, _, attribute = verb.place.partition(":")
    function = getattr(import_module(module), attribute)
    app = function if isinstance(function, typer.Typer) else typer.Typer(add_completion=False, **SETTINGS)
    if app is not function:
        app.command(name, context_settings=CONTEXT)(function)
    for registered in app.registered_commands:  # rich keeps the line breaks of a paragraph, at whatever width
        paragraphs = inspect.cleandoc(str(getattr(registered.callback, "__doc__", ""))).split("\n\n")
        registered.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
        registered.callback = _as_verb(registered.callback)
    command = typer.main.get_command(app)
    command.name = name
    for one in (command, *getattr(command, "commands", {}).values()):
        for parameter in one.params:
            if getattr(parameter, "is_flag", False):  # a flag takes no value: "<bool>" would only take room
                parameter.metavar = ""
    return command


def _as_verb(function: Any) -> Any:
    """The function of a verb, with streams that show only what is printable, and as what a signal interrupts."""
    if getattr(function, "is_verb", False):
        return function

    @wraps(function)
    def verb(*args: Any, **options: Any) -> Any:
        with printable_streams():
            stop.STATE.running = True
            try:
                return function(*args, **options)
            except Stopped as stopped:
                stop.STATE.number = stop.STATE.number or stopped.number
                raise
            finally:
                stop.STATE.running = False

    verb.is_verb = True  # type: ignore[attr-defined]
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


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Exit codes: 0 done, 1 the answer is no, 2 usage or unreadable input, 70 an error inside laptime; 130, 143, 129 when
    Ctrl-C, SIGTERM or SIGHUP stopped it; 141 when nobody read the answer.

    arguments: None for those of this process. Then its signals and streams are laptime's. `laptime.__main__` watches
    signals before, but a script that an earlier version installed comes straight here.
    """
    if arguments is not None:
        sys.exit(run(arguments))
    stop.watch_signals()
    try:
        make_streams_whole()
        sys.exit(run(sys.argv[1:]))
    finally:
        stop.leave_signals()


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code; whatever a user can mend becomes one line on stderr."""
    stop.STATE.begin()
    try:
        return _run_typer(arguments)
    except LaptimeError as error:
        return _fail(_near_paths(str(error), arguments))
    except KeyboardInterrupt:
        return _stopped()
    except BrokenPipeError:  # `laptime ... | head`
        return _unread()
    except SystemExit as error:
        if isinstance(error.__context__, OSError) and error.__context__.errno == errno.EPIPE:  # click made 1 of it
            return _unread()
        raise
    except GeneratorExit:
        raise
    except BaseException as error:  # a panic in a library written in Rust is no Exception
        if stop.was_asked():  # a library made another exception of the signal's
            return _stopped()
        if isinstance(error, OSError) and error.strerror is not None:  # the disk is full, a folder went away
            return _fail(f"{error.filename or 'writing'}: {error.strerror}")
        return _crashed(error, debug=arguments[:1] == ["--debug"])


def _unread() -> int:
    """Nobody reads the answer any more. What a shell calls a program that SIGPIPE ended: no answer, and no crash."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return UNREAD


def _run_typer(arguments: list[str]) -> int:
    try:
        code = application()(args=arguments, standalone_mode=False, prog_name="laptime")
    except USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # `laptime control`: its help is on stdout already
            return 0
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "laptime"
        message = _with_near_options(error) or _with_near_choices(error.format_message())  # type: ignore[attr-defined]
        return _fail(f"{message} (see {command} --help)")
    except typer.Abort:
        return _stopped()
    if code == STOPPED:
        return _stopped()
    return code if isinstance(code, int) else 0


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


WRITES = ("--html", "--out", "--to", "--junit", "--perfetto")
"""Options that name what is written, so that nothing of the name needs to be there."""


def _near_paths(message: str, arguments: list[str]) -> str:
    """Of an argument that names nothing and that the message is about: what beside it has nearly its name."""
    for before, argument in pairwise(["", *arguments]):
        path = Path(argument)
        if argument in message and not argument.startswith("-") and before not in WRITES:
            with suppress(OSError, ValueError):
                if not path.exists() and path.parent.is_dir():
                    names = {entry.name: str(path.parent / entry.name) for entry in path.parent.iterdir()}
                    near = did_you_mean(path.name, names, cutoff=0.7, shown=names)
                    if near and "did you mean" not in message:
                        return f"{message}; {near}"
    return message


def _stopped() -> int:
    if not stop.STATE.said:
        stop.STATE.said = True
        print(stop.LINE.decode().rstrip(), file=sys.stderr)  # noqa: T201
    return stop.exit_code()


def _crashed(error: BaseException, *, debug: bool) -> int:
    """Say on one line that laptime is at fault, and keep the traceback for a report."""
    trace = "".join(traceback.format_exception(error))
    what = printable(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
    if debug:
        print(printable(trace), file=sys.stderr)  # noqa: T201
    try:
        descriptor, name = tempfile.mkstemp(prefix="laptime-error-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(f"laptime {laptime.__version__}, Python {sys.version}\n\n{trace}")
        where = f"the traceback is in {name}"
    except OSError:
        where = "laptime --debug VERB shows the traceback"
    print(f"laptime: an error inside laptime: {what}; {where}, please report it", file=sys.stderr)  # noqa: T201
    return CRASHED


def _fail(message: str) -> int:
    with printable_streams():
        print(f"laptime: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    main()
