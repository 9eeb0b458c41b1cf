"""What a sweep's samples say together. A frame of samples in, a `SweepSummary` out; no torch."""

from laptime.sweeps.summary.result import SweepSummary
from laptime.sweeps.summary.summarise import summarise_sweep

__all__ = ["SweepSummary", "summarise_sweep"]
