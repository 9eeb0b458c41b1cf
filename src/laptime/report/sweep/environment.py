"""The part of a sweep's page about the command, the knobs and the machines, with what differs between them."""

from __future__ import annotations

from collections.abc import Sequence

from laptime.report.kit.environment import command_line, environment_pairs
from laptime.report.kit.html import Html, definitions, note, section, table, tag
from laptime.report.kit.text import counted, setting_text, shortened
from laptime.report.sweep.view import SweepView
from laptime.report.sweep.words import knob_title, level_text

SHOWN = 12
"""At most this many different environments get a column of their own."""


def sweep_environment(view: SweepView) -> Html:
    """Command, what was swept and what was held, machines."""
    info, summary = view.info, view.summary
    swept = [(knob_title(knob), ", ".join(map(level_text, levels[:40]))) for knob, levels in summary.knobs.items()]
    first = summary.rows[0].config if summary.rows else {}
    swept += [(knob_title(knob), f"moves with {knob_title(other)}") for knob, other in summary.tied.items()]
    varying = {*summary.knobs, *summary.tied}
    held = [(knob_title(key), setting_text(value)) for key, value in first.items() if key not in varying]
    measured = [(key.replace("_", " "), setting_text(value)) for key, value in info.session.items()] if info else []
    return section(
        "Sweep and environment",
        tag("pre", shortened(command_line(info.argv), 4000)) if info and info.argv else None,
        tag(
            "div",
            tag(
                "div",
                [tag("h3", "Swept"), definitions(swept)] if swept else None,
                [tag("h3", "Held"), definitions(held)] if held else None,
                [tag("h3", "Session"), definitions(measured)] if measured else None,
            ),
            tag("div", _machines(view)),
            class_="columns",
        ),
        id="environment",
    )


def _machines(view: SweepView) -> Sequence[Html]:
    facts = {key: dict(environment_pairs(one)) for key, one in list(view.environments.items())[:SHOWN]}
    if not facts:
        return [note("The samples came without their environment.", kind="warning")]
    names = list(dict.fromkeys(name for pairs in facts.values() for name in pairs))
    same = [name for name in names if len({pairs.get(name) for pairs in facts.values()}) == 1]
    shared = [(name, next(iter(facts.values())).get(name)) for name in same]
    if len(view.environments) == 1:
        return [tag("h3", "Machine"), definitions(shared)]
    rows = [[name, *(pairs.get(name) or "–" for pairs in facts.values())] for name in names if name not in same]
    workers = ["workers", *(shortened(", ".join(view.workers.get(key, [])), 200) for key in facts)]
    return [
        tag("h3", "Machines"),
        note(f"{counted(len(view.environments), 'different environment')}: samples may not be comparable.",
             kind="warning"),
        table(["", *facts], [workers, *rows]),
        tag("h3", "Shared"),
        definitions(shared),
    ]  # fmt: skip
