"""What is shown of a sweep, built from the sweeps of sample_sweeps.py: for the page's and the terminal's tests."""

from __future__ import annotations

from typing import Any

import msgspec

from laptime.audits import Measurements
from laptime.audits.result import AuditFinding, AuditReport, RuleRun, Severity
from laptime.data.record import Failure, Sample, Scalar
from laptime.data.run_folder import Run
from laptime.report.sweep.view import SweepView, sweep_view
from tests.report.sample_runs import environment
from tests.report.sweep.sample_sweeps import GRID, failure, grid, start, sweep_run, sweep_samples

SMALL: dict[str, list[Scalar]] = {"tier": ["low", "high"], "top_k": [2, 8]}


def view_of(run: Run, audit: AuditReport | None = None) -> SweepView:
    frame = run.frame().with_row_index("row")
    shown = sweep_view(Measurements(run.path, frame, info=run.info, workers=run.workers), run.failures)
    return shown if audit is None else msgspec.structs.replace(shown, audit=audit)


def view(knobs: dict[str, list[Scalar]] | None = None, items: int = 8, **options: Any) -> SweepView:
    return view_of(sweep_run(*sweep_samples(knobs or GRID, items, **options)))


def report_of(*severities: Severity, text: str = "words") -> AuditReport:
    findings = [
        AuditFinding(code=f"{text} {i}", severity=severity, count=3, of=12, share=0.25, examples=[text],
                     reason=f"{text} reason", mend=f"{text} mend")
        for i, severity in enumerate(severities)
    ]  # fmt: skip
    rules = [RuleRun(code="zero-decode", checks=text), RuleRun(code="throttled", checks="", could_not_judge=text)]
    clean = not {"severe", "warning"} & set(severities)
    return AuditReport(source=text, samples=12, configs=3, findings=findings, rules=rules, clean=clean)


def hostile_view(words: str) -> SweepView:
    text = words.replace("\ud800", "?")  # what comes from a JSON file holds no lone surrogate
    samples, failures = sweep_samples({text: [text, text + "2"], "tier": ["low", "high"], "top_k": [2, 8]}, 7)
    samples = [msgspec.structs.replace(one, sample_id=f"{text}{one.sample_id}", worker=text) for one in samples]
    failed = [failure(one, 0, 0, text) for one in grid({text: [text, text + "2"], "tier": [text], "top_k": [2, 8]})]
    hostile = environment(gpu=text, cpu=text, torch=text, variables={text: text}, driver=text)
    run = sweep_run(samples, [*failures, *failed], argv=[text], environment=hostile,
                    workers=[start(text, hostile), start("1", environment())], path=text)  # fmt: skip
    return view_of(run, report_of("severe", "warning", text=words))


def all_failed() -> tuple[list[Sample], list[Failure]]:
    return [], [failure(config, item, item) for config in grid(SMALL) for item in range(2)]
