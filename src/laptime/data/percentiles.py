"""Percentiles of every time of a run, by the reader's choice."""

from __future__ import annotations

from collections.abc import Sequence

from laptime.data.record import STAGES, Sample, Scalar
from laptime.data.stats import quantile
from laptime.data.usable import usable


def percentiles(samples: Sequence[Sample], wanted: Sequence[float]) -> dict[str, dict[str, float]]:
    """Time -> {"p90": ms} over the samples that the summary uses; a gap between tokens counts by itself.

    wanted: numbers between 0 and 100. A time that no sample has is left out.
    """
    used, _ = usable(samples)
    times: dict[str, list[float | None]] = {f"{name}_ms": [s.stages.stage(name) for s in used] for name in STAGES}
    times["total_ms"] = [s.stages.total_ms for s in used]
    times["ttft_ms"] = [s.ttft_ms for s in used]
    times["tpot_ms"] = [s.tpot_ms for s in used]
    times["itl_ms"] = [gap for s in used for gap in s.itl_ms or ()]
    times["decode_per_token_ms"] = [s.decode_per_token_ms for s in used]
    times["preprocess_ms"] = [s.preprocess_ms for s in used]
    known = {name: [ms for ms in values if ms is not None] for name, values in times.items()}
    return {
        name: {f"p{one:g}": quantile(values, one / 100) for one in wanted}
        for name, values in known.items()
        if values and wanted
    }


def asked_percentiles(session: dict[str, Scalar]) -> list[float]:
    """What `--percentiles` asked for when the run was measured; none in other runs."""
    written = session.get("percentiles")
    return [float(one) for one in str(written).split(",")] if written else []
