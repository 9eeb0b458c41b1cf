"""What a verb gives back: JSON or a report on stdout, a page in a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def give(result: Any, *, as_json: bool, html: Path | None = None, force: bool = False) -> None:
    """Print a result of laptime (its JSON, or its report) and write its page where `--html FILE` asked for one.

    Raises LaptimeError when the page can't be written. Check that before long work with
    laptime.data.files.check_new_file(html, "--html", force=force).
    """
    from laptime.report.results import page, report, to_json

    if html is not None:
        from laptime.data.files import write_new_file

        write_new_file(html, page(result).encode(), "--html", force=force)
        print(f"page: {html}", file=sys.stderr)  # noqa: T201
    if as_json:
        print_json(to_json(result))
    else:
        print_report(report(result))


def print_json(value: Any) -> None:
    """Print a value on stdout as indented JSON. Bytes are taken for JSON that is already written."""
    if not isinstance(value, bytes):
        from laptime.data.json_text import readable_json

        value = readable_json(value)
    sys.stdout.buffer.write(value.rstrip(b"\n") + b"\n")
    sys.stdout.buffer.flush()


def print_report(*reports: Any) -> None:
    """Print what rich can render on stdout."""
    from laptime.cli.streams import console

    printer = console()
    for report in reports:
        printer.print(report)


def say(text: str, *, err: bool = False) -> None:
    """Print a line on stdout, or on stderr."""
    print(text, file=sys.stderr if err else sys.stdout, flush=True)
