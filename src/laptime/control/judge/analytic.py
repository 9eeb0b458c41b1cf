"""Latency by arithmetic alone, without a measurement: the peer that budgets as AdaLLaVA does. No torch.

AdaLLaVA (Xu et al. 2025, arXiv 2503.10905) states its budgets as a share of the whole model's prefill and takes the
time of an execution plan from FLOPs and bytes by a roofline of the hardware's nominal rates (LLM-Viewer, Yuan et al.
2024, arXiv 2402.16363). Here: laptime.estimate.roofline.roofline's terms of vision and prefill, no launches, no decode.

    t(choice) = roofline of the vision tower + roofline of the prefill       in ms, for the tier's median sizes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.tables.decision_table import DecisionTable
from laptime.errors import LaptimeError
from laptime.estimate.roofline.roofline import Rates

Reals = npt.NDArray[np.float64]

NOMINAL: dict[str, Rates] = {
    "H100": Rates(bandwidth_gb_s=3350, tflop_s=989, launch_us=0),
    "H200": Rates(bandwidth_gb_s=4800, tflop_s=989, launch_us=0),
    "A100": Rates(bandwidth_gb_s=2039, tflop_s=312, launch_us=0),
    "V100": Rates(bandwidth_gb_s=900, tflop_s=112, launch_us=0),
    "cpu": Rates(bandwidth_gb_s=20, tflop_s=0.1, launch_us=0),
}
"""Nominal rates, 16 bit dense, from the makers' data sheets (SXM); "cpu" is a guess of two cores at float32."""


def nominal_rates(device: str | None) -> Rates:
    """The rates of a GPU by its name ("NVIDIA H200"); a CPU's for None. Raises LaptimeError for an unknown GPU."""
    if device is None:
        return NOMINAL["cpu"]
    found = next((rates for name, rates in NOMINAL.items() if name.lower() in device.lower()), None)
    if found is None:
        raise LaptimeError(f"no nominal rates of {device!r}; known are {', '.join(NOMINAL)}: give Rates yourself")
    return found


def analytic_ms(table: DecisionTable, config: Mapping[str, Any], rates: Rates, *, weight_bytes: float = 2.0) -> Reals:
    """Each choice's vision and prefill in ms, (choices,). `config`: transformers' configuration as a mapping.

    Raises LaptimeError for a configuration without the sizes that are needed.
    """
    import polars

    from laptime.estimate.roofline.roofline import roofline_columns, shape_of

    shape = msgspec.structs.replace(shape_of(config), weight_bytes=weight_bytes)
    choices = [table.space.choice(number) for number in range(len(table.space))]
    columns: dict[str, list[float]] = {
        name: np.median(getattr(table, name), axis=0).tolist() for name in ("prompt_tokens", "crops")
    }
    columns["config.blocks"] = [choice.blocks or shape.blocks for choice in choices]
    columns["config.top_k"] = [choice.top_k or shape.top_k for choice in choices]
    frame = roofline_columns(polars.DataFrame(columns), shape, msgspec.structs.replace(rates, launch_us=0.0))
    found: Reals = (frame["roofline.vision_ms"] + frame["roofline.prefill_ms"]).to_numpy()
    return found


def relative_ms(analytic: Reals, full_ms: float) -> Reals:
    """Analytic times scaled so that the costliest choice takes `full_ms`: budgets as a share of the whole model's time.

    The one number that is measured here is the whole model's own time; AdaLLaVA's budgets need it too.
    """
    if not (np.isfinite(full_ms) and full_ms > 0):
        raise LaptimeError(f"the whole model's time is {full_ms} ms; it must be above 0")
    return analytic * (full_ms / float(analytic.max()))
