"""How wrong a decode time is that was obtained by subtraction, against the one measured directly."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from laptime.data.record import Subtraction


class SubtractionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Decode by subtraction against the direct decode of the same inputs. An error is subtracted − direct, in ms."""

    samples: int
    clamped: int  # vision + prefill came out longer than the total: decode would be negative, and 0 is stored
    residual_low_ms: float
    residual_high_ms: float
    error_mean_ms: float | None
    error_abs_mean_ms: float | None
    error_relative_mean: float | None  # the mean of |error| / direct decode


def summarise_subtraction(subtractions: Sequence[Subtraction]) -> SubtractionSummary | None:
    """The errors of all inputs together; None when nothing was measured by subtraction."""
    if not subtractions:
        return None
    pairs = [(s.decode_ms, s.direct.decode_ms) for s in subtractions if s.direct and s.direct.decode_ms is not None]
    errors = [subtracted - direct for subtracted, direct in pairs]
    residuals = [s.residual_ms for s in subtractions]
    n = len(errors)
    return SubtractionSummary(
        samples=len(subtractions),
        clamped=sum(residual < 0 for residual in residuals),
        residual_low_ms=min(residuals),
        residual_high_ms=max(residuals),
        error_mean_ms=sum(errors) / n if n else None,
        error_abs_mean_ms=sum(map(abs, errors)) / n if n else None,
        error_relative_mean=sum(abs(e) / d for e, (_, d) in zip(errors, pairs, strict=True)) / n if n else None,
    )
