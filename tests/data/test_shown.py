"""Results show themselves in a notebook and give their rows as data frames."""

from __future__ import annotations

from pathlib import Path

import msgspec
import polars
import pytest

import laptime
from laptime.errors import LaptimeError
from laptime.report.results import FACES
from tests.report.hostile import HOSTILE
from tests.report.sample_runs import run_of, samples


@pytest.mark.parametrize("place", sorted(set(FACES) - {"laptime.estimate.estimator.Estimator"}))
def test_every_result_shows_itself(place):
    module, _, name = place.rpartition(".")
    kind = getattr(pytest.importorskip(module), name)  # one of them needs torch
    assert kind._repr_html_ and kind.frame


def test_a_report_in_a_notebook_is_the_terminals_as_html():
    html = run_of(samples(12))._repr_html_()
    assert html.startswith("<pre") and "Prefill" in html and "<script" not in html


def test_nothing_in_a_name_becomes_markup(tmp_path):
    frame = polars.DataFrame({"sample_id": [f"{HOSTILE[1]}{i}" for i in range(4)], "total_ms": [5.0, 6.0, 5.5, -1.0]})
    html = laptime.audit(frame)._repr_html_()
    assert "<img" not in html and "<script" not in html


def test_rows_are_a_frame_with_a_column_for_each_field():
    run = run_of(samples(12))
    assert run.frame().height == len(run.samples)
    stages = run.summary.frame()
    assert stages["name"].to_list() == list(run.summary.stages)
    assert stages["median.value"].to_list() == [stage.median.value for stage in run.summary.stages.values()]
    assert run.summary.frame(kind="pandas")["p95"].tolist() == stages["p95"].to_list()
    assert run.frame("sessions").height == len(run.sessions)


def test_a_field_without_rows_is_one_line_that_names_those_with_rows():
    with pytest.raises(LaptimeError, match=r"frame\('info'\): no rows there; name one of .*samples"):
        run_of(samples(12)).frame("info")


def test_a_mixin_changes_nothing_in_the_json():
    report = laptime.audit(polars.DataFrame({"sample_id": ["a"], "total_ms": [1.0]}))
    assert set(msgspec.to_builtins(report)) == set(type(report).__struct_fields__)
    assert "ROWS" not in type(report).__struct_fields__


def test_a_bar_follows_the_work(capsys):
    show = laptime.progress_bars()
    for done in range(1, 4):
        show("measure", done, 3)
    assert "measure: 100%" in capsys.readouterr().err


def test_rows_inside_a_field_have_a_dot_and_a_near_name_is_said():
    from laptime import read_trace

    trace = read_trace(Path(__file__).parents[1] / "trace/data/decode-eager.json.gz")
    launchers = trace.frame("launched_by.launchers")
    assert launchers["total_ns"].to_list() == [row.total_ns for row in trace.launched_by.launchers]
    with pytest.raises(LaptimeError, match=r"did you mean kernels\? name one of"):
        trace.frame("kernel")
    for name in ("launched_by", "launched_by.nothing", "no.such"):
        with pytest.raises(LaptimeError, match="no rows there"):
            trace.frame(name)
