"""laptime: where do the milliseconds of generate() go? One run, one clock, every millisecond accounted for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from laptime.data.run_folder import load_run as load_run
    from laptime.estimate.estimator import Estimator as Estimator
    from laptime.measure.stage_timer import StageTimer as StageTimer
    from laptime.trace.analysis import read_trace as read_trace

# Public names, imported on first use: `import laptime` must stay fast and must not import torch.
_HOMES = {
    "Estimator": "laptime.estimate.estimator",
    "StageTimer": "laptime.measure.stage_timer",
    "load_run": "laptime.data.run_folder",
    "read_trace": "laptime.trace.analysis",
}

__all__ = ["Estimator", "StageTimer", "__version__", "load_run", "read_trace"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'laptime' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
