"""`laptime audit PATH`: which of these measurements are not valid, and why?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from laptime.cli.ci import check_ci, tell_ci
from laptime.cli.declared import argument
from laptime.cli.options import Force, GithubSummary, Html, Json, Junit
from laptime.cli.output import give
from laptime.data.files import check_new_file
from laptime.errors import LaptimeError


def audit(
    path: Annotated[
        Path,
        argument(
            metavar="PATH",
            help="A run folder, a table, the older JSON files, or another program's result.",
        ),
    ],
    html: Html = None,
    force: Force = False,
    github_summary: GithubSummary = False,
    junit: Junit = None,
    as_json: Json = False,
) -> int:
    """Which of these measurements are not valid, and why?

    Each finding names samples that show it, says why they can't be right, and what to do about it.

    Example: laptime audit runs/demo --html audit.html

    Exit codes: 0 no severe finding, 1 a severe finding, 2 usage, unreadable input, or nothing that could be judged.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # nothing here multiplies matrices
    from laptime.audits import audit as audit_path

    check_new_file(html, "--html", force=force)
    check_ci(github_summary=github_summary, junit=junit)
    report = audit_path(path)
    give(report, as_json=as_json, html=html, force=force)
    tell_ci(report, github_summary=github_summary, junit=junit)
    if not report.judged:
        raise LaptimeError(f"{path}: nothing could be judged: {report.rules[0].could_not_judge}; measure again")
    return 1 if report.severe else 0
