"""What a verb leaves for a CI job: lines in its summary, annotations, JUnit XML."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from laptime.data.files import check_new_file, write_new_file
from laptime.errors import LaptimeError


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
