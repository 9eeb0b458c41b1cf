"""Is run B faster than run A, by how much, and do we know? Two runs in, a `Comparison` out."""

from laptime.comparisons.comparison import compare_samples, compare_two_runs
from laptime.comparisons.result import Comparison, Side, StageComparison, Verdict

__all__ = ["Comparison", "Side", "StageComparison", "Verdict", "compare_samples", "compare_two_runs"]
