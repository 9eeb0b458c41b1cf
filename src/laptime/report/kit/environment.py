"""What a run was: its command, settings and environment, as names and texts and as a section of a page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import PurePath

import msgspec

from laptime.data.record import Environment
from laptime.data.run_folder import Run
from laptime.report.kit.html import Html, definitions, details, section, tag
from laptime.report.kit.numbers import text
from laptime.report.kit.text import setting_text, shortened


def environment_pairs(environment: Environment) -> list[tuple[str, str | None]]:
    """The facts of the environment as names and texts; None for an unknown one."""
    units = {"memory_bytes": "bytes", "gpu_memory_bytes": "bytes", "gpu_power_limit_w": "W", "gpu_max_sm_mhz": "MHz"}
    pairs: list[tuple[str, str | None]] = []
    for field, value in msgspec.structs.asdict(environment).items():
        if field == "variables":
            pairs += [(name, shortened(set_to, 300)) for name, set_to in value.items()]
            continue
        unit = units.get(field)
        name = field.removesuffix("_bytes").removesuffix("_w").removesuffix("_mhz").replace("_", " ")
        pairs.append((name, text(value, unit, 4) if unit and value is not None else setting_text(value)))
    return pairs


def environment_section(run: Run) -> Html:
    """The section of a page: command, settings, machine."""
    info = run.info
    pairs = [(key.replace("_", " "), setting_text(value)) for key, value in info.config.items()]
    measured = [(key.replace("_", " "), setting_text(value)) for key, value in info.session.items()]
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
        details("The half-written last lines of these files are left out", tag("pre", "\n".join(run.dropped_tails)))
        if run.dropped_tails
        else None,
        id="environment",
    )  # fmt: skip


def command_line(argv: Sequence[str]) -> str:
    """The command as one types it, without the folder that the program is in."""
    program = PurePath(argv[0]).name
    return (
        shlex.join(["python", "-m", "laptime"] if program == "__main__.py" else [program]) + " " + shlex.join(argv[1:])
    )
