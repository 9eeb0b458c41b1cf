"""The environment as names and texts: the terminal's table and the page's list read the same."""

from __future__ import annotations

import msgspec

from laptime.data.record import Environment
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
