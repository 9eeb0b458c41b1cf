"""What a sweep's samples say together. A frame of samples in, a `SweepSummary` out; no torch."""

from laptime.sweep_summary.result import SweepSummary
from laptime.sweep_summary.sweep import summarise_sweep

__all__ = ["SweepSummary", "summarise_sweep"]
