"""laptime: where do the milliseconds of generate() go? One run, one clock, every millisecond accounted for.

The public names stand here. Each is imported when it is first used, so `import laptime` takes milliseconds and imports
neither torch nor numpy. Type checkers and editors see all of them, and know that there are no others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "AdaptiveModel",
    "Estimator",
    "FastDecoder",
    "FastModel",
    "LaptimeError",
    "Run",
    "Sample",
    "StageTimer",
    "__version__",
    "audit",
    "budget",
    "compare",
    "compare_runs",
    "fit_run",
    "load_run",
    "merge",
    "page",
    "profile",
    "progress_bars",
    "prove_remedies",
    "read_engine",
    "read_frame",
    "read_ranks",
    "read_trace",
    "serve_bench",
    "show",
    "sweep",
    "to_json",
]

if TYPE_CHECKING:
    __version__: str
    from laptime.api import audit as audit
    from laptime.api import budget as budget
    from laptime.api import compare as compare
    from laptime.api import compare_runs as compare_runs
    from laptime.api import fit_run as fit_run
    from laptime.api import merge as merge
    from laptime.api import profile as profile
    from laptime.api import prove_remedies as prove_remedies
    from laptime.api import read_engine as read_engine
    from laptime.api import read_ranks as read_ranks
    from laptime.api import serve_bench as serve_bench
    from laptime.api import sweep as sweep
    from laptime.control.adaptive_model import AdaptiveModel as AdaptiveModel
    from laptime.data.frame import read_frame as read_frame
    from laptime.data.record import Sample as Sample
    from laptime.data.run_folder import Run as Run
    from laptime.data.run_folder import load_run as load_run
    from laptime.decoder.decoder import FastDecoder as FastDecoder
    from laptime.decoder.fast_model import FastModel as FastModel
    from laptime.errors import LaptimeError as LaptimeError
    from laptime.estimate.estimator import Estimator as Estimator
    from laptime.measure.stage_timer import StageTimer as StageTimer
    from laptime.report.kit.progress import progress_bars as progress_bars
    from laptime.report.results import page as page
    from laptime.report.results import show as show
    from laptime.report.results import to_json as to_json
    from laptime.trace.analysis import read_trace as read_trace
else:
    _PLACES = {
        "AdaptiveModel": "laptime.control.adaptive_model",
        "Estimator": "laptime.estimate.estimator",
        "FastDecoder": "laptime.decoder.decoder",
        "FastModel": "laptime.decoder.fast_model",
        "LaptimeError": "laptime.errors",
        "Run": "laptime.data.run_folder",
        "Sample": "laptime.data.record",
        "StageTimer": "laptime.measure.stage_timer",
        "load_run": "laptime.data.run_folder",
        "page": "laptime.report.results",
        "progress_bars": "laptime.report.kit.progress",
        "read_frame": "laptime.data.frame",
        "read_trace": "laptime.trace.analysis",
        "show": "laptime.report.results",
        "to_json": "laptime.report.results",
    }
    _NEED_TORCH = {"AdaptiveModel", "FastDecoder", "FastModel", "StageTimer"}

    def __getattr__(name):
        """Import a public name. Raises LaptimeError where it needs torch and torch is not installed."""
        from importlib import import_module

        if name not in __all__:
            raise AttributeError(f"module 'laptime' has no attribute {name!r}")
        if name == "__version__":
            globals()[name] = _installed_version()
            return globals()[name]
        if name in _NEED_TORCH:
            from laptime.errors import require_torch

            require_torch()
        value = getattr(import_module(_PLACES.get(name, "laptime.api")), name)
        globals()[name] = value
        return value

    def _installed_version():
        """The version of the installed package; of a source folder that isn't installed, 0+source."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("laptime")
        except PackageNotFoundError:
            return "0+source"

    def __dir__():
        return sorted(__all__)
