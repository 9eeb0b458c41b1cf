"""What the verbs of the command line do, as functions with the same words. They return values and print nothing.

Every result goes to laptime.show (a report in the terminal), laptime.page (HTML) and laptime.to_json. Imports stand in
the functions, so that `import laptime` stays fast and what reads needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars

    from laptime.audits.result import AuditReport
    from laptime.comparisons.result import Comparison
    from laptime.data.run_folder import Run
    from laptime.sweeps.merge import MergeReport


def audit(source: str | Path | polars.DataFrame) -> AuditReport:
    """Find which measurements are not valid, and why.

    source: a run folder, a Parquet or CSV table, the older JSON files, or a frame with one row for each sample.
    Raises LaptimeError for what can't be read as samples.

    Example: laptime.audit("runs/demo").findings
    """
    from laptime import audits

    if isinstance(source, (str, Path)):
        return audits.audit(source)
    return audits.audit_measurements(audits.measurements_of(source))


def compare(
    a: str | Path | Run,
    b: str | Path | Run,
    *,
    stage: str | None = None,
    min_effect: float = 0.02,
    confidence: float = 0.95,
) -> Comparison:
    """Say whether run B is faster or slower than run A, by how much, and how sure that is.

    a, b: run folders, or what laptime.load_run read of them.
    stage: judge this one alone: a stage's name, "total" or "decode_per_token".
    min_effect: a smaller relative change counts as none (0.02 is 2 %).
    confidence: that all verdicts hold together, from 0.5 to below 1.
    Raises LaptimeError when the runs are not comparable.

    Example: laptime.compare("runs/main", "runs/branch").verdict
    """
    from laptime.comparisons import compare_runs
    from laptime.data.run_folder import load_run

    first, second = (load_run(run) if isinstance(run, (str, Path)) else run for run in (a, b))
    return compare_runs(first, second, stage=stage, min_effect=min_effect, confidence=confidence)


def merge(runs: Sequence[str | Path], out: str | Path) -> MergeReport:
    """Make one run folder of the parts of a sweep that several workers or machines wrote.

    runs: their folders, in any order. out: the folder to write; it must be new or empty.
    Raises LaptimeError when they are no parts of one sweep; nothing is written then.

    Example: laptime.merge(["runs/node0", "runs/node1"], out="runs/all").conflicts
    """
    from laptime.sweeps.merge import merge as merge_runs

    return merge_runs([Path(run) for run in runs], Path(out))
