"""The three faces of a result: a terminal report, an HTML page, versioned JSON. The command line and Python share them.

Results are looked up by the name of their class, so that nothing is imported before a face is asked for: drawing a
trace needs no estimator, and no face needs torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from laptime.data.run_folder import Run
    from laptime.estimate.estimator import Estimator
    from laptime.report.sweep.view import SweepView


class Faces(NamedTuple):
    """The functions that show one kind of result, as "module:function". A `page` of None: it has no page."""

    terminal: str
    page: str | None = None
    json: str = "laptime.data.json_text:readable_json"


_HERE = "laptime.report.results"
_ONE_LINE = "laptime.data.json_text:json_bytes"

FACES: dict[str, Faces] = {
    "laptime.data.run_folder.Run": Faces(f"{_HERE}:_run_report", f"{_HERE}:_run_page", f"{_HERE}:_run_json"),
    "laptime.data.summary.Summary": Faces("laptime.report.profile.terminal:profile_table"),
    "laptime.report.sweep.view.SweepView": Faces(
        "laptime.report.sweep.terminal:sweep_report",
        "laptime.report.sweep.page:sweep_page",
        "laptime.report.sweep.view:sweep_json",
    ),
    "laptime.sweeps.dry_run.DryRun": Faces("laptime.report.sweep.plan:sweep_plan_report"),
    "laptime.models.block_importance.BlockImportance": Faces(
        "laptime.report.importance.terminal:importance_report", "laptime.report.importance.page:importance_page"
    ),
    "laptime.control.search.result.KnobSearch": Faces(
        "laptime.report.importance.search:search_report", "laptime.report.importance.page:search_page"
    ),
    "laptime.sweeps.merge.MergeReport": Faces("laptime.report.sweep.plan:merge_report"),
    "laptime.audits.result.AuditReport": Faces(
        "laptime.report.audit.terminal:audit_report", "laptime.report.audit.page:audit_page"
    ),
    "laptime.comparisons.result.Comparison": Faces("laptime.report.compare.terminal:compare_report"),
    "laptime.trace.result.TraceAnalysis": Faces(
        "laptime.report.trace.terminal:trace_report",
        "laptime.report.trace.page:trace_page",
        _ONE_LINE,
    ),
    "laptime.trace.ranks_result.RankAnalysis": Faces(
        "laptime.report.trace.ranks:ranks_report",
        "laptime.report.trace.ranks:ranks_page",
        _ONE_LINE,
    ),
    "laptime.trace.comparison.TraceComparison": Faces(
        "laptime.report.trace.comparison:comparison_report",
        "laptime.report.trace.comparison:comparison_page",
        _ONE_LINE,
    ),
    "laptime.estimate.estimator.Estimator": Faces(f"{_HERE}:_estimator_report", json=f"{_HERE}:_estimator_json"),
    "laptime.estimate.judge.evaluation_result.Evaluation": Faces(
        "laptime.report.estimate.terminal:evaluation_report", "laptime.report.estimate.page:estimate_page"
    ),
    "laptime.estimate.run_fit.FittedRun": Faces(
        "laptime.report.estimate.terminal:fit_report", json="laptime.report.estimate.data:fit_json"
    ),
    "laptime.estimate.run_evaluation.JudgedEstimator": Faces(
        "laptime.report.estimate.terminal:judged_report",
        "laptime.report.estimate.page:judged_page",
        "laptime.report.estimate.data:judged_json",
    ),
    "laptime.estimate.prediction.Prediction": Faces(
        "laptime.report.estimate.terminal:prediction_report", json="laptime.estimate.prediction:prediction_json"
    ),
    "laptime.estimate.budget.BudgetReport": Faces("laptime.report.estimate.budget_terminal:budget_report"),
    "laptime.remedy.result.RemedyReport": Faces(
        "laptime.report.remedy.terminal:remedy_report", "laptime.report.remedy.page:remedy_page"
    ),
    "laptime.engines.result.ServeReport": Faces(
        "laptime.report.serve.terminal:serve_report", "laptime.report.serve.page:serve_page"
    ),
    "laptime.engines.engine_result.EngineReport": Faces(
        "laptime.report.engine.terminal:engine_terminal", "laptime.report.engine.page:engine_page"
    ),
    "laptime.control.judge.result.ControlEvaluation": Faces(
        "laptime.report.control.terminal:control_report", "laptime.report.control.page:control_page"
    ),
}
"""The faces of each result, by the full name of its class."""


def report(result: Any) -> RenderableType:
    """What `show` prints of a result, for rich.console.Console.print. Raises TypeError for what is no result."""
    return _function(_faces(result).terminal)(result)  # type: ignore[no-any-return]


def show(result: Any) -> None:
    """Print the report that the command line prints of a result. Raises TypeError for what is no result.

    Example: laptime.show(laptime.audit("runs/demo"))
    """
    from laptime.report.kit.terminal import ReportConsole

    ReportConsole().print(report(result))


def page(result: Any) -> str:
    """One self-contained HTML page of a result; it works offline. Raises TypeError for a result that has no page.

    Example: Path("trace.html").write_text(laptime.page(laptime.read_trace("decode.json.gz")))
    """
    place = _faces(result).page
    if place is None:
        raise TypeError(f"a {type(result).__name__} has no page; laptime.show and laptime.to_json have it")
    return _function(place)(result)  # type: ignore[no-any-return]


def to_json(result: Any) -> bytes:
    """The JSON that the command line prints of a result with --json. Raises TypeError for what is no result.

    Its field `schema` names the format and its version ("laptime.audit/1"); a Summary is written as in summary.json.

    Example: json.loads(laptime.to_json(laptime.audit("runs/demo")))["findings"]
    """
    encoded: bytes = _function(_faces(result).json)(result)
    return encoded.rstrip(b"\n")


def read_run_or_sweep(path: str | Path) -> Run | SweepView:
    """A folder or a table as what `laptime report` shows of it: a run of one configuration, or a sweep.

    path: a run folder, or a table of samples that laptime.read_frame reads. Raises LaptimeError for others.
    """
    from laptime.audits import read_measurements
    from laptime.data.run_folder import load_run
    from laptime.report.sweep.view import failures_of, several_configs, sweep_view

    measured, failures = read_measurements(path), failures_of(path)
    if measured.info is not None and not several_configs(measured, failures):
        return load_run(path)
    return sweep_view(measured, failures)


def _faces(result: Any) -> Faces:
    for kind in type(result).__mro__:
        faces = FACES.get(f"{kind.__module__}.{kind.__qualname__}")
        if faces is not None:
            return faces
    known = ", ".join(sorted(name.rpartition(".")[2] for name in FACES))
    raise TypeError(f"{type(result).__name__} is no result of laptime; results are {known}")


def _function(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _run_report(run: Run) -> RenderableType:
    from laptime.report.profile.terminal import profile_report

    sweep = _sweep_of(run)
    return profile_report(run) if sweep is None else report(sweep)


def _run_page(run: Run) -> str:
    from laptime.report.profile.page import profile_page

    sweep = _sweep_of(run)
    return profile_page(run) if sweep is None else page(sweep)


def _run_json(run: Run) -> bytes:
    from laptime.data.run_folder import profile_json

    sweep = _sweep_of(run)
    return profile_json(run) if sweep is None else to_json(sweep)


def _sweep_of(run: Run) -> Any:
    """A run of several configurations as the sweep that it is, else None."""
    configs = {sample.config_id for sample in run.samples} | {failure.config_id for failure in run.failures}
    if len(configs) < 2:
        return None
    from laptime.report.sweep.view import read_sweep_view

    return read_sweep_view(run.path)


def _estimator_report(estimator: Estimator) -> RenderableType:
    from laptime.report.estimate.terminal import card_report

    return card_report(estimator.card)


def _estimator_json(estimator: Estimator) -> bytes:
    from laptime.data.json_text import readable_json

    return readable_json({"schema": "laptime.fit/1", "estimators": {estimator.target: estimator.card}, "skipped": {}})
