"""What a verb gives back: JSON or a report on stdout, a page in a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from laptime.data.files import check_new_file, write_new_file
from laptime.errors import LaptimeError


def give(result: Any, *, as_json: bool, html: Path | None = None, force: bool = False) -> None:
    """Print a result of laptime (its JSON, or its report) and write its page where `--html FILE` asked for one.

    Raises LaptimeError when the page can't be written. Check that before long work with
    laptime.data.files.check_new_file(html, "--html", force=force).
    """
    from laptime.report.results import page, report, to_json

    if html is not None:
        write_new_file(html, page(result).encode(), "--html", force=force)
        print(f"page: {html}", file=sys.stderr)  # noqa: T201
    if as_json:
        print_json(to_json(result))
    else:
        print_report(report(result))


def tell_ci(result: Any, *, github_summary: bool, junit: Path | None) -> None:
    """Write what a CI job reads of an audit or a comparison: the job's summary with annotations, and JUnit XML.

    Raises LaptimeError when a file can't be written. Check GITHUB_STEP_SUMMARY before long work with `check_ci`.
    """
    if not github_summary and junit is None:
        return
    from laptime.report.ci.checks import checks_of
    from laptime.report.ci.written import annotation_lines, markdown
    from laptime.report.ci.written import junit as junit_xml

    checks = checks_of(result)
    if junit is not None:
        write_new_file(junit, junit_xml(checks), "--junit", force=True)
    if github_summary:
        summary = check_ci(github_summary=True)
        try:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(markdown(checks))
        except OSError as error:
            raise LaptimeError(f"GITHUB_STEP_SUMMARY={summary}: {error.strerror}") from error
        for line in annotation_lines(checks):
            print(line, file=sys.stderr)  # noqa: T201


def check_ci(*, github_summary: bool, junit: Path | None = None) -> str:
    """The file that a GitHub job names for its summary. Ask before long work.

    Raises LaptimeError outside a job, where the summary was asked for, and where the JUnit file can't be written.
    """
    check_new_file(junit, "--junit", force=True)
    summary = os.environ.get("GITHUB_STEP_SUMMARY", "")
    if github_summary and not summary:
        raise LaptimeError("--github-summary: GITHUB_STEP_SUMMARY names no file; a GitHub job sets it")
    return summary


def print_json(value: Any) -> None:
    """Print a value on stdout as indented JSON. Bytes are taken for JSON that is already written."""
    if not isinstance(value, bytes):
        from laptime.data.run_folder import readable_json

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
