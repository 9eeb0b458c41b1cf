"""What cards can do at most: memory bandwidth, and operations per second by the type of numbers.

Source: the makers' data sheets, dense rates (without sparsity), with accumulation in 32 bits where they tell it apart.
"""

from __future__ import annotations

import re

import msgspec

from laptime.trace.read.timeline import Card


class Peaks(msgspec.Struct, frozen=True, kw_only=True):
    """A card's peaks. Rates are operations per second; None where the card has no such unit, or it isn't known."""

    card: str
    bytes_per_second: float
    fp64: float | None = None
    fp32: float | None = None
    tf32: float | None = None
    fp16: float | None = None  # and bf16
    fp8: float | None = None
    int8: float | None = None


_T = 1e12


def _nvidia(
    card: str, bandwidth: float, fp32: float, tf32: float | None, fp16: float, fp8: float | None = None
) -> Peaks:
    """Rates in 10^12 operations, bandwidth in 10^12 bytes, a second."""
    return Peaks(
        card=card,
        bytes_per_second=bandwidth * _T,
        fp32=fp32 * _T,
        tf32=None if tf32 is None else tf32 * _T,
        fp16=fp16 * _T,
        fp8=None if fp8 is None else fp8 * _T,
    )


_KNOWN: tuple[tuple[str, Peaks], ...] = (
    (r"H200", _nvidia("H200 SXM", 4.8, 66.9, 494.7, 989.4, 1978.9)),
    (r"H100 (?:PCIe|NVL)", _nvidia("H100 PCIe", 2.0, 51.2, 378, 756, 1513)),
    (r"H100", _nvidia("H100 SXM", 3.35, 66.9, 494.7, 989.4, 1978.9)),
    (r"\bB200", _nvidia("B200", 8.0, 80, 1125, 2250, 4500)),
    (r"A100.*80GB PCIe", _nvidia("A100 80GB PCIe", 1.935, 19.5, 156, 312)),
    (r"A100.*80GB|A100-PG509-210", _nvidia("A100 80GB SXM", 2.039, 19.5, 156, 312)),
    (r"A100", _nvidia("A100 40GB", 1.555, 19.5, 156, 312)),
    (r"V100", _nvidia("V100 SXM2", 0.9, 15.7, None, 125)),
    (r"\bL40S", _nvidia("L40S", 0.864, 91.6, 183, 362, 733)),
    (r"\bL4\b", _nvidia("L4", 0.3, 30.3, 60, 121, 242)),
    (r"\bA10\b", _nvidia("A10", 0.6, 31.2, 62.5, 125)),
    (r"Tesla T4", _nvidia("T4", 0.32, 8.1, None, 65)),
    (r"RTX 4090(?! Laptop)", _nvidia("RTX 4090", 1.008, 82.6, 82.6, 165.2, 330.3)),
    (r"RTX 3090(?! Ti)", _nvidia("RTX 3090", 0.936, 35.6, 35.6, 71)),
    (r"RTX 2080 Ti", _nvidia("RTX 2080 Ti", 0.616, 13.4, None, 53.8)),
    (r"GP100", _nvidia("Quadro GP100", 0.717, 10.3, None, 20.7)),
    (r"MI300X", _nvidia("MI300X", 5.3, 163.4, 653.7, 1307.4, 2614.9)),
    (r"MI325X", _nvidia("MI325X", 6.0, 163.4, 653.7, 1307.4, 2614.9)),
)


def peaks_of(card: Card | None) -> Peaks | None:
    """The peaks of a card by the name that the trace states; None for one that isn't known here."""
    if card is None:
        return None
    return next((peaks for pattern, peaks in _KNOWN if re.search(pattern, card.name, re.IGNORECASE)), None)
