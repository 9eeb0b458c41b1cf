"""The environment as names and texts: the terminal's table and the page's list read the same."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import PurePath

import msgspec

from laptime.data.record import Environment
from laptime.data.run_folder import Run
from laptime.report.kit.html import Html, definitions, details, section, tag
from laptime.report.kit.numbers import text
from laptime.report.kit.text import shortened


def environment_pairs(environment: Environment) -> list[tuple[str, str | None]]:
    """Every known fact of the environment as a name and a text."""
    units = {"memory_bytes": "bytes", "gpu_memory_bytes": "bytes", "gpu_power_limit_w": "W", "gpu_max_sm_mhz": "MHz"}
    pairs: list[tuple[str, str | None]] = []
    for field, value in msgspec.structs.asdict(environment).items():
        if field == "variables":
            pairs += [(name, shortened(set_to, 300)) for name, set_to in value.items()]
            continue
        unit = units.get(field)
        name = field.removesuffix("_bytes").removesuffix("_w").removesuffix("_mhz").replace("_", " ")
        pairs.append((name, text(value, unit, 4) if unit and value is not None else shown(value)))
    return pairs


def shown(value: object) -> str | None:
    """A value of a configuration as text; None for what is not there."""
    if value is None or value == [] or value == {}:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shortened(f"{value:g}" if isinstance(value, float) else str(value), 300)


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
