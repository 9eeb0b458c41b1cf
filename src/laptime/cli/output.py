"""What a verb gives back: JSON or a table on stdout, a page in a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from laptime.data.files import write_new_file


def print_json(value: Any) -> None:
    """Print a result on stdout as indented JSON. Bytes are taken for JSON that is already written."""
    from laptime.data.run_folder import readable_json

    encoded = value if isinstance(value, bytes) else readable_json(value)
    sys.stdout.buffer.write(encoded.rstrip(b"\n") + b"\n")
    sys.stdout.buffer.flush()


def print_report(*reports: Any) -> None:
    """Print what rich can render on stdout."""
    from rich.console import Console

    console = Console()
    for report in reports:
        console.print(report)


def write_page(file: Path | None, page: str, *, force: bool) -> None:
    """Write the page that `--html FILE` asked for and name it on stderr. Nothing without a file.

    Raises LaptimeError when the file is there and `force` isn't given, or can't be written. Check that before long work
    with laptime.data.files.check_new_file(file, "--html", force=force).
    """
    if file is None:
        return
    write_new_file(file, page.encode(), "--html", force=force)
    print(f"page: {file}", file=sys.stderr)  # noqa: T201
