"""Times by arithmetic: FLOPs and bytes at a device's nominal rates, as AdaLLaVA's budgets are. No torch.

They are compared with bounds, and promise nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import polars

from laptime.control.tables.decision_table import DecisionTable
from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.roofline.roofline import Rates, roofline_columns, shape_of

NOMINAL: dict[str, Rates] = {
    "H100": Rates(bandwidth_gb_s=3350, tflop_s=989, launch_us=0),
    "H200": Rates(bandwidth_gb_s=4800, tflop_s=989, launch_us=0),
    "A100": Rates(bandwidth_gb_s=2039, tflop_s=312, launch_us=0),
    "V100": Rates(bandwidth_gb_s=900, tflop_s=112, launch_us=0),
    "cpu": Rates(bandwidth_gb_s=20, tflop_s=0.1, launch_us=0),
}
"""Nominal rates, 16 bit dense, from the makers' data sheets (SXM). "cpu" is a guess for two cores at float32."""


def nominal_rates(device: str | None) -> Rates:
    """The rates of a GPU by its name ("NVIDIA H200"), or a CPU's for None. Raises LaptimeError for an unknown GPU."""
    if device is None:
        return NOMINAL["cpu"]
    known = next((rates for name, rates in NOMINAL.items() if name.lower() in device.lower()), None)
    if known is None:
        raise LaptimeError(f"no nominal rates of {device!r}; known are {', '.join(NOMINAL)}: give Rates yourself")
    return known


def analytic_ms(table: DecisionTable, config: Mapping[str, Any], rates: Rates, *, weight_bytes: float = 2.0) -> Floats:
    """Each choice's vision and prefill in ms, (choices,). config: transformers' configuration as a mapping.

    Raises LaptimeError for a configuration that lacks a size.
    """
    shape = msgspec.structs.replace(shape_of(config), weight_bytes=weight_bytes)
    choices = [table.space.choice(number) for number in range(len(table.space))]
    columns: dict[str, list[float]] = {
        name: np.median(getattr(table, name), axis=0).tolist() for name in ("prompt_tokens", "crops")
    }
    columns["config.blocks"] = [choice.blocks or shape.blocks for choice in choices]
    columns["config.top_k"] = [choice.top_k or shape.top_k for choice in choices]
    frame = roofline_columns(polars.DataFrame(columns), shape, msgspec.structs.replace(rates, launch_us=0.0))
    times: Floats = (frame["roofline.vision_ms"] + frame["roofline.prefill_ms"]).to_numpy()
    return times


def relative_ms(analytic: Floats, full_ms: float) -> Floats:
    """Analytic times, scaled so that the costliest choice takes `full_ms`.

    Budgets are then shares of the whole model's time, the one number that is measured. AdaLLaVA's budgets need it too.
    """
    if not (np.isfinite(full_ms) and full_ms > 0):
        raise LaptimeError(f"the whole model's time is {full_ms} ms; it must be above 0")
    return analytic * (full_ms / float(analytic.max()))
