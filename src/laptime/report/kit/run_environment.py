"""The part of a page that says what was run, with which knobs, on which machine."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import PurePath

from laptime.data.run_folder import Run
from laptime.report.kit.environment import environment_pairs, shown
from laptime.report.kit.html import Html, definitions, details, section, tag
from laptime.report.kit.text import shortened


def environment_section(run: Run) -> Html:
    """Command, knobs, machine."""
    info = run.info
    pairs = [(key.replace("_", " "), shown(value)) for key, value in info.config.items()]
    measured = [(key.replace("_", " "), shown(value)) for key, value in info.session.items()]
    return section(
        "Run and environment",
        tag("pre", shortened(command_line(info.argv), 4000)) if info.argv else None,
        tag(
            "div",
            tag("div", tag("h3", "Configuration"), definitions(pairs), tag("h3", "Session") if measured else None,
                definitions(measured) if measured else None),
            tag("div", tag("h3", "Machine"), definitions(environment_pairs(info.environment))),
            class_="columns",
        ),
        details("Half-written last lines were left out of", tag("pre", "\n".join(run.dropped_tails)))
        if run.dropped_tails
        else None,
        id="environment",
    )  # fmt: skip


def command_line(argv: Sequence[str]) -> str:
    """The command as one would type it, without the folder that laptime was started from."""
    program = PurePath(argv[0]).name
    return (
        shlex.join(["python", "-m", "laptime"] if program == "__main__.py" else [program]) + " " + shlex.join(argv[1:])
    )
