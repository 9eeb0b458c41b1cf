"""What a device's time went to, in words: kernels by family, copies, memsets, communication."""

from __future__ import annotations

from laptime.trace.attention_kinds import is_linear
from laptime.trace.plain_names import plain
from laptime.trace.result import CopyTime, DeviceTimes, Kernel

HIDDEN = 0.2
"""Communication of which less than this is exposed runs beside the compute."""

_SHOWN = 0.005
"""A smaller share would be printed as 0 %."""


def percent(share: float) -> str:
    """A share in whole percent; never 100 % for what is less."""
    share = round(share, 12)  # sums of shares miss 1 by rounding
    if 0.9995 <= share < 1:
        return "over 99.9 %"
    return f"{share * 100:.0f} %" if share < 0.995 or share == 1 else f"{share * 100:.1f} %"


def ms_words(time_ns: float, places: int = 2) -> str:
    """A time in ms with so many decimals; a shorter one than 50 µs with three digits, so that none reads as 0.00."""
    ms = time_ns / 1e6
    if not 0 < ms < 0.05:
        return f"{ms:.{places}f}"
    return f"{ms:.3g}" if ms >= 1e-4 else f"{ms:.6f}"


def exposed_shares(device: DeviceTimes) -> dict[str, float]:
    """The share of the span in which only communication ran, in which only copies and in which only memsets ran."""
    return {row.kind: row.share_ns / device.span_ns for row in device.busy if row.kind != "compute" and device.span_ns}


def exposed_words(device: DeviceTimes, kind: str, share: float, *, also: bool = False) -> str:
    """What runs with no compute beside it. also: it comes after another clause of the sentence."""
    if kind == "communication" and _only_peer_copies(device):
        return f"only copies between GPUs run {percent(share)} of the time"
    if kind == "communication":
        return f"exposed communication {percent(share)} (no compute beside it; waiting for other ranks is in it)"
    if kind == "memset":
        of_time = percent(share)
        return f"only memsets run {of_time} of the time" if also else f"its time goes to memsets ({of_time})"
    copies = [row for row in device.copies if row.direction not in ("memset", "peer to peer")]
    total = sum(row.sum_ns for row in copies)
    named = [copy_words(row) for row in copies if row.sum_ns >= 0.2 * total][:2]
    if also:
        return f"only copies run {percent(share)} of the time, {' and '.join(named)}"
    return f"its time goes to copies ({percent(share)}), {' and '.join(named)}"


def _only_peer_copies(device: DeviceTimes) -> bool:
    """Whether all that communicates are copies, which wait for no other rank."""
    communicates = next((row.count for row in device.busy if row.kind == "communication"), 0)
    return 0 < communicates == sum(row.count for row in device.copies if row.direction == "peer to peer")


def copy_words(row: CopyTime) -> str:
    """A direction of copies in a sentence: `host to device (pageable, 3.83 GB/s)`."""
    rate = None if row.bytes_per_second is None else f"{_three_digits(row.bytes_per_second / 1e9)} GB/s"
    details = [word for word in (row.memory, rate) if word]
    return row.direction + (f" ({', '.join(details)})" if details else "")


def _three_digits(number: float) -> str:
    """A number in three digits, or all of them before the point; never with an exponent from a thousand on."""
    return f"{number:.3g}" if number < 999.5 else f"{number:,.0f}"


def where_busy(device: DeviceTimes, kernels: list[Kernel]) -> str:
    """The two kinds of work with the most time: `its busy time goes to GEMM (46 %) and elementwise (43 %)`."""
    families: dict[str, float] = {}
    shares = sum(kernel.share for kernel in kernels if kernel.device == device.device)
    # A copy that runs beside kernels takes nothing from them: together they have the time in which a kernel ran.
    beside = (device.kernel_busy_ns or 0) / (shares * device.busy_ns) if shares and device.kernel_busy_ns else 1.0
    for kernel in kernels:
        if kernel.device == device.device:
            scans = kernel.family == "attention" and is_linear(kernel.name)
            kind = "linear attention or scans" if scans else kernel.family
            families[kind] = families.get(kind, 0.0) + kernel.share * beside
    communicates = families.pop("collective", 0.0)
    if communicates:
        row = next((row for row in device.busy if row.kind == "communication"), None)
        hidden = row is not None and row.exposed_ns < HIDDEN * row.busy_ns
        families["communication beside compute" if hidden else "communication"] = communicates
    unknown = families.pop("other", 0.0)
    own = [kernel for kernel in kernels if kernel.device == device.device and kernel.family == "other"]
    most = max(own, key=lambda kernel: kernel.share, default=None)
    if most is not None:
        alone = most.share * beside >= 0.5 * unknown and most.name != "(unnamed)"
        told = most.share * beside if alone else unknown
        families[plain(most.short_name) if alone else "kernels of no known kind"] = told
    for row in device.busy:
        if row.kind in ("copy", "memset") and device.busy_ns:
            families["copies" if row.kind == "copy" else "memsets"] = row.share_ns / device.busy_ns
    if not families:
        return ""
    top = sorted(families, key=families.__getitem__, reverse=True)[:2]
    top = [name for name in top if families[name] >= _SHOWN] or top[:1]
    return "its busy time goes to " + " and ".join(f"{name} ({percent(families[name])})" for name in top)
