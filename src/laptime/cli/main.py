"""The `laptime` command: its verbs, and one way to fail (a line on stderr, exit code 2)."""

from __future__ import annotations

import atexit
import errno
import os
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import laptime
from laptime.cli import stop
from laptime.cli.collector import COLLECTOR
from laptime.cli.streams import make_streams_whole, printable_streams
from laptime.cli.verbs import as_verb
from laptime.data.printable import printable
from laptime.errors import LaptimeError, did_you_mean

UNREAD = 141
"""128 + SIGPIPE."""


CRASHED = 70
"""An error inside laptime (sysexits.h: EX_SOFTWARE). It is no answer, so a gate must not read it as one."""


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
    COLLECTOR.rest()
    try:
        make_streams_whole()
        code = _delivered(run(sys.argv[1:]))
    finally:
        stop.leave_signals()
    _leave(code)


def _delivered(code: int) -> int:
    """The exit code once all that was printed has reached stdout: 2, with a line, where it can't."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        unread = _unread()
        return unread if code in (0, 1) else code
    except OSError as error:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - or Python tries it again at its end, and changes the code
        return _fail(_of_system(error)) if code in (0, 1) else code
    except ValueError:  # it was closed by somebody else
        pass
    return code


def _leave(code: int) -> NoReturn:
    """End the process without taking Python apart, which takes 20 to 40 ms and changes nothing (decision 0097).

    What libraries registered for the end is done before. With torch or with threads, and where what was printed can't
    be written, Python ends by itself.
    """
    threading = sys.modules.get("threading")
    if "torch" in sys.modules or (threading is not None and threading.active_count() > 1):
        sys.exit(code)
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.exit(code)
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code; whatever a user can mend becomes one line on stderr."""
    stop.STATE.begin()
    try:
        return _run_line(arguments)
    except LaptimeError as error:
        from laptime.cli.wrong_line import with_option_names

        return _fail(_near_paths(with_option_names(str(error), arguments), arguments))
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
            return _fail(_of_system(error))
        return _crashed(error, debug=arguments[:1] == ["--debug"])


def _of_system(error: OSError) -> str:
    return f"{error.filename or 'writing'}: {error.strerror}"


def _unread() -> int:
    """Nobody reads the answer any more. What a shell calls a program that SIGPIPE ended: no answer, and no crash."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return UNREAD


def _run_line(arguments: list[str]) -> int:
    if arguments in (["--version"], ["version"], ["-V"]):
        print(laptime.__version__)  # noqa: T201
        return 0
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    from laptime.cli.plain_line import COMPLETION, plain_line

    line = plain_line(arguments)
    if line is not None:
        code = as_verb(line.function)(**line.values)
    else:
        from laptime.cli.typer_line import WrongUsageError, run_typer
        from laptime.cli.wrong_line import wrong_line

        if COMPLETION not in os.environ and (wrong := wrong_line(arguments)) is not None:
            return _fail(wrong)
        try:
            code = run_typer(arguments)
        except WrongUsageError as error:
            return _fail(str(error))
    return code if isinstance(code, int) else 0


WRITES = ("--html", "--out", "--to", "--junit", "--perfetto")
"""Options that name what is written, so that nothing of the name needs to be there."""


NEAR_STEM = 0.75
"""How alike two names without their endings must be, from 0 to 1: .yaml on both makes no names alike."""


def _near_paths(message: str, arguments: list[str]) -> str:
    """Of an argument that names nothing, which the message begins with: what beside it has nearly its name."""
    from difflib import SequenceMatcher

    for before, argument in pairwise(arguments):  # the verb is none
        path = Path(argument)
        begins = tuple(f"{named}{mark}" for named in (argument, path, f"{before} {argument}") for mark in (": ", " "))
        if message.startswith(begins) and before not in WRITES:
            with suppress(OSError, ValueError):
                if not path.exists() and path.parent.is_dir() and "did you mean" not in message:
                    names = {entry.name: str(path.parent / entry.name) for entry in path.parent.iterdir()}
                    alike = SequenceMatcher(b=path.stem)
                    for name in list(names):
                        alike.set_seq1(Path(name).stem)
                        if alike.real_quick_ratio() < NEAR_STEM or alike.ratio() < NEAR_STEM:
                            del names[name]
                    near = did_you_mean(path.name, names, cutoff=0.7, shown=names)
                    return f"{message}; {near}" if near else message
    return message


def _stopped() -> int:
    if not stop.STATE.said:
        stop.STATE.said = True
        print(stop.LINE.decode().rstrip(), file=sys.stderr)  # noqa: T201
    return stop.exit_code()


def _crashed(error: BaseException, *, debug: bool) -> int:
    """Say on one line that laptime is at fault, and keep the traceback for a report."""
    import tempfile
    import traceback

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
