"""`laptime report PATH`: one self-contained HTML page of a run or a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from laptime.cli.declared import argument
from laptime.cli.options import Force, Html, Json
from laptime.cli.output import print_json, say
from laptime.data.files import check_new_file, is_own_page, write_new_file


def report(
    path: Annotated[Path, argument(metavar="PATH", help="A run folder, or a .parquet or .csv table of samples.")],
    html: Html = None,
    force: Force = False,
    as_json: Json = False,
) -> int:
    """Write one self-contained HTML page of a run or a sweep.

    A run of one configuration becomes a page of its samples, a sweep a page of its configurations. The default is
    PATH/report.html, for a table the table's name with .html. With --json alone no page is written.

    Example: laptime report runs/demo

    Exit codes: 0 done, 2 usage or unreadable input.
    """
    from laptime.report.results import page, read_run_or_sweep, to_json

    own = html is None
    target = html or (path / "report.html" if path.is_dir() else path.with_suffix(".html"))
    replace = force or (own and is_own_page(target))
    if not (own and as_json):
        check_new_file(target, "--html", force=replace)
    result = read_run_or_sweep(path)
    if as_json:
        print_json(to_json(result))
    if not (own and as_json):
        write_new_file(target, page(result).encode(), "--html", force=replace)
        say(str(target), err=as_json)
    return 0
