"""A pytest fixture that measures a model and holds its speed against stored runs.

    def test_speed(laptime):
        timed = laptime.time(model, **inputs, max_new_tokens=32)
        timed.assert_not_slower_than("main", by="2%")

`pytest --laptime-save main` stores what is measured as one more run of the baseline "main". With BASELINES of them,
each from a pytest process of its own, a test can fail. A verdict is laptime.compare's, with the noise between runs.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from laptime.comparisons.result import Comparison
    from laptime.data.run_folder import Run

BASELINES = 4
"""So many stored runs show how far runs of the same code lie apart; with fewer, nothing is judged."""
NEWEST = 12
"""At most so many stored runs are compared with, the newest ones."""
KEPT_FLAGS = frozenset({"foreign-process"})
"""Other work on a CI machine disturbs baselines as it disturbs the run in question, so such samples count in both."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the fixture."""
    group = parser.getgroup("laptime", "speed of generate()")
    group.addoption("--laptime-save", metavar="NAME", help="Store what is measured as one more run of this baseline.")
    group.addoption("--laptime-strict", action="store_true", help="Fail also where a baseline can't decide.")
    group.addoption("--laptime-baselines", metavar="FOLDER", help="Where baselines are: .laptime/baselines by default.")


@pytest.fixture
def laptime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpeedTest]:
    """Measures a model's generate() in a test: `laptime.time(model, **inputs)`."""
    options = request.config
    root = options.getoption("--laptime-baselines")
    yield SpeedTest(
        folder=Path(root) if root else options.rootpath / ".laptime" / "baselines",
        save=options.getoption("--laptime-save"),
        strict=options.getoption("--laptime-strict"),
        node=request.node,
        scratch=tmp_path_factory.mktemp("laptime"),
    )


class SpeedTest:
    """The fixture's value: what measures, and where the baselines of this test are."""

    def __init__(self, folder: Path, save: str | None, strict: bool, node: pytest.Item, scratch: Path) -> None:
        self.folder = folder
        self.save = save
        self.strict = strict
        self.node = node
        self._scratch = scratch
        self._timed = 0

    def time(self, model: Any, *, calls: int = 15, warmups: int = 3, **inputs: Any) -> TimedCalls:
        """Time `calls` calls of model.generate(**inputs), after `warmups` that don't count.

        inputs: what generate() is called with, max_new_tokens too.
        Raises LaptimeError for a model that can't be timed.
        """
        from laptime.data.run_folder import load_run
        from laptime.measure.stage_timer import StageTimer

        with StageTimer(model) as timer:
            for number in range(-warmups, calls):
                timer.label("call", repeat=number)
                model.generate(**inputs)
        self._timed += 1
        written = self._scratch / str(self._timed)
        timer.save(written)
        key = f"{self.node.nodeid}#{self._timed}"
        short = re.sub(r"[^A-Za-z0-9_.-]+", "-", key)[-80:].strip("-.")
        name = f"{short}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
        if self.save is not None:
            shutil.copytree(written, self.place(self.save, name) / f"{len(self.stored(self.save, name)):04d}")
        total_ms = load_run(written).summary.stages["total"].median.value
        self.node.user_properties.append((f"laptime_total_ms_{self._timed}", total_ms))
        return TimedCalls(self, name, load_run(written))

    def place(self, baseline: str, name: str) -> Path:
        """The folder of a baseline's runs of one measurement. Raises LaptimeError for a name that is no name."""
        from laptime.errors import LaptimeError

        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", baseline):
            raise LaptimeError(f"baseline {baseline!r}: write a name of letters, digits, '-', '_' and '.'")
        return self.folder / baseline / name

    def stored(self, baseline: str, name: str) -> list[Path]:
        """The stored runs of one measurement, oldest first."""
        place = self.place(baseline, name)
        return sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []


class TimedCalls:
    """What one `laptime.time` measured. `run` is a laptime.Run: show it, save it, compare it."""

    def __init__(self, test: SpeedTest, name: str, run: Run) -> None:
        self._test = test
        self._name = name
        self.run = run

    def assert_not_slower_than(self, baseline: str, by: str = "2%", stage: str | None = None) -> None:
        """Fail the test if these calls are slower than the baseline's by more than `by`.

        baseline: a name that `pytest --laptime-save NAME` stored runs under.
        by: the smallest change that counts, as 2% or 0.02. stage: judge this one alone ("decode", "total").
        Without enough stored runs, or with runs of another machine, the test is skipped and says so; where the runs
        can't decide, it passes with a warning. Under --laptime-strict both fail.
        """
        from laptime.cli.options import share

        if self._test.save == baseline:
            return  # this run becomes part of what it would be held against
        stored = [_kept(one) for one in self._stored(baseline)]
        missing = self._missing(baseline, stored)
        if missing:
            self._unknown(missing)
            pytest.skip(missing)
        compared = self._comparison(stored, share("by", by), stage)
        said = _report(compared)
        self._test.node.add_report_section("call", "laptime", said)
        if compared.verdict == "slower":
            pytest.fail(f"slower than {baseline!r}\n{said}", pytrace=False)
        if compared.verdict == "inconclusive":
            self._unknown(f"{baseline!r} does not decide\n{said}")
            warnings.warn(pytest.PytestWarning(f"laptime: {said.splitlines()[0]}"), stacklevel=2)

    def _stored(self, baseline: str) -> list[Run]:
        from laptime.data.run_folder import load_run

        return [load_run(path) for path in self._test.stored(baseline, self._name)[-NEWEST:]]

    def _missing(self, baseline: str, stored: list[Run]) -> str | None:
        """Why nothing can be judged, or None."""
        if len(stored) < BASELINES:
            return (
                f"laptime: baseline {baseline!r} has {len(stored)} of {BASELINES} runs of this test; "
                f"run pytest --laptime-save {baseline} once for each run, on code that is fast enough"
            )
        here = self.run.info.environment
        for run in stored:
            there = run.info.environment
            for fact in ("cpu", "cpu_count", "gpu"):
                if getattr(here, fact) != getattr(there, fact):
                    return (
                        f"laptime: baseline {baseline!r} is of another machine: {fact} {getattr(there, fact)}, "
                        f"here {getattr(here, fact)}; store one here"
                    )
        return None

    def _comparison(self, stored: list[Run], by: float, stage: str | None) -> Comparison:
        from laptime.comparisons import compare_two_runs

        first, *others = stored
        return compare_two_runs(first, _kept(self.run), baselines=others, stage=stage, min_effect=by)

    def _unknown(self, why: str) -> None:
        if self._test.strict:
            pytest.fail(why, pytrace=False)


def _kept(run: Run) -> Run:
    """The run with the flags taken off that disturb baselines alike."""
    import msgspec

    samples = [
        msgspec.structs.replace(sample, flags=[flag for flag in sample.flags if flag not in KEPT_FLAGS])
        for sample in run.samples
    ]
    return msgspec.structs.replace(run, samples=samples)


def _report(comparison: Comparison) -> str:
    import io

    from laptime.report.kit.terminal import ReportConsole
    from laptime.report.results import report

    out = io.StringIO()
    ReportConsole(file=out, width=100, color_system=None).print(report(comparison))
    return out.getvalue().rstrip()
