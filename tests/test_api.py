"""The public names: lazy, typed, the same words and the same bytes as the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import msgspec
import polars
import pytest

import laptime
from laptime.cli.main import run as command
from laptime.report.results import FACES
from tests.report.sample_runs import run_of, samples
from tests.report.sweep.sample_sweeps import sweep_run, sweep_samples, write_run

ROOT = Path(__file__).parents[1]
TRACE = ROOT / "tests" / "trace" / "data" / "decode-eager.json.gz"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", run_of(samples(12)))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_run(tmp_path / "sweep", sweep_run(*sweep_samples({"tier": ["low", "high"], "top_k": [2, 8]})))


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert command([str(word) for word in words]) in (0, 1)
    return capsys.readouterr().out


def test_every_public_name_is_there_and_no_other():
    for name in laptime.__all__:
        assert getattr(laptime, name) is not None
    assert dir(laptime) == sorted(laptime.__all__)
    with pytest.raises(AttributeError, match="no attribute 'bogus'"):
        _ = laptime.bogus


def test_importing_laptime_imports_nothing_heavy():
    program = (
        "import sys, laptime; names = {'torch', 'transformers', 'numpy', 'polars', 'msgspec', 'rich', 'typer'}; "
        "print(sorted(names & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_that_need_torch_say_what_to_install():
    program = (
        "import laptime, laptime.errors as errors\n"
        "real = errors.find_spec\n"
        "errors.find_spec = lambda name: None if name == 'torch' else real(name)\n"
        "for name in ('StageTimer', 'FastDecoder', 'AdaptiveModel'):\n"
        "    try:\n"
        "        getattr(laptime, name)\n"
        "    except laptime.LaptimeError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (
        done.stdout.splitlines() == ["torch is not installed but needed to measure: pip install 'laptime[torch]'"] * 3
    )


@pytest.mark.parametrize("name", FACES)
def test_the_faces_of_every_result_exist(name):
    module, _, kind = name.rpartition(".")
    assert isinstance(getattr(import_module(module), kind), type)
    for place in filter(None, FACES[name]):
        module, _, function = place.partition(":")
        assert callable(getattr(import_module(module), function))


def test_a_run_has_the_faces_of_the_command_line(run, capsys):
    value = laptime.load_run(run)
    assert laptime.to_json(value).decode() == printed(capsys, "report", run, "--json").rstrip("\n")
    printed(capsys, "report", run)
    assert laptime.page(value) == (run / "report.html").read_text(encoding="utf-8")
    laptime.show(value)
    assert "Closure" in capsys.readouterr().out


def test_a_run_of_several_configurations_is_shown_as_a_sweep(sweep, capsys):
    value = laptime.load_run(sweep)
    assert laptime.to_json(value).decode() == printed(capsys, "report", sweep, "--json").rstrip("\n")
    assert "Every configuration" in laptime.page(value)


def test_an_audit_is_that_of_the_command_line_also_of_a_frame(sweep, capsys):
    report = laptime.audit(sweep)
    assert laptime.to_json(report).decode() == printed(capsys, "audit", sweep, "--json").rstrip("\n")
    text = printed(capsys, "audit", sweep)
    laptime.show(report)
    assert capsys.readouterr().out == text
    of_frame = laptime.audit(laptime.read_frame(sweep))
    assert {one.code for one in of_frame.findings} <= {one.code for one in report.findings}
    assert of_frame.samples == report.samples


def test_a_comparison_takes_folders_and_runs(run, tmp_path, capsys):
    other = write_run(tmp_path / "other", run_of(samples(12)))
    compared = laptime.compare(run, other, stage="decode")
    assert compared == laptime.compare(laptime.load_run(run), laptime.load_run(other), stage="decode")
    expected = printed(capsys, "compare", run, other, "--stage", "decode", "--json")
    assert laptime.to_json(compared).decode() == expected.rstrip("\n")
    with pytest.raises(TypeError, match="has no page"):
        laptime.page(compared)


def test_a_trace_has_the_faces_of_the_command_line(tmp_path, capsys):
    analysis = laptime.read_trace(TRACE)
    assert laptime.to_json(analysis).decode() == printed(capsys, "trace", TRACE, "--json").rstrip("\n")
    printed(capsys, "trace", TRACE, "--html", tmp_path / "trace.html")
    assert laptime.page(analysis) == (tmp_path / "trace.html").read_text(encoding="utf-8")


def test_every_json_names_its_schema(run, sweep):
    for value in (laptime.load_run(run), laptime.load_run(sweep), laptime.audit(run), laptime.read_trace(TRACE)):
        assert json.loads(laptime.to_json(value))["schema"].startswith("laptime.")


def test_what_is_no_result_is_refused_by_name():
    with pytest.raises(TypeError, match="int is no result of laptime; results are AuditReport, "):
        laptime.show(3)


def test_a_merge_is_that_of_the_command_line(run, tmp_path, capsys):
    report = laptime.merge([run], out=tmp_path / "all")
    again = json.loads(printed(capsys, "merge", run, "--out", tmp_path / "again", "--json"))
    assert {**msgspec.to_builtins(report), "out": ""} == {**again, "out": ""}


def test_an_estimator_is_fitted_and_asked_for_a_budget(tmp_path, capsys):
    rows = [
        {"batch": batch, "prompt": prompt, "ms": (5 + batch + prompt / 100) * (1 + 0.01 * repeat)}
        for batch in (1, 2, 4, 8)
        for prompt in (100, 200, 400)
        for repeat in range(5)
    ]
    table = tmp_path / "table.csv"
    polars.DataFrame(rows).write_csv(table)
    fitted = laptime.fit_run(table, tmp_path / "est", target="ms", features=["batch", "prompt"])
    words = ["fit", table, "--target", "ms", "--features", "batch,prompt", "--out", tmp_path / "again", "--json"]
    again = printed(capsys, *words).replace(str(tmp_path / "again"), str(tmp_path / "est"))
    assert json.loads(laptime.to_json(fitted)) == json.loads(again)
    answer = laptime.budget(fitted, {"batch": [1, 8], "prompt": 200}, 12)
    assert answer == laptime.budget(tmp_path / "est", {"batch": [1, 8], "prompt": 200}, 12)
    assert [(one.config["batch"], one.within) for one in answer.answers] == [(1, True), (8, False)]
    asked = ["budget", tmp_path / "est", "--budget-ms", 12, "--config", "batch=1,prompt=200", "--json"]
    one = laptime.budget(laptime.Estimator.load(tmp_path / "est"), {"batch": 1, "prompt": 200}, 12)
    assert laptime.to_json(one).decode() == printed(capsys, *asked).rstrip("\n")
    for value in (fitted, answer, laptime.Estimator.load(tmp_path / "est")):
        laptime.show(value)
    assert "batch" in capsys.readouterr().out


SWEEP = {
    "model": "preset:tiny-llm",
    "workload": {"samples": 2},
    "knobs": {"new_tokens": [2, 4], "prompt_tokens": 8},
    "measure": {"repeats": 1, "rounds": 1},
}


def test_a_sweep_from_a_mapping_is_planned_measured_and_shown(tmp_path, capsys):
    folder = tmp_path / "sweep"
    plan = laptime.sweep(SWEEP, out=folder, dry_run=True)
    assert (len(plan.configs), plan.done, folder.exists()) == (2, 0, False)
    view = laptime.sweep(SWEEP, out=folder)
    assert [row.config["new_tokens"] for row in view.summary.rows] == [2, 4]
    assert capsys.readouterr().out == ""
    assert laptime.to_json(view).decode() == printed(capsys, "report", folder, "--json").rstrip("\n")
    with pytest.raises(laptime.LaptimeError, match="resume"):
        laptime.sweep(SWEEP, out=folder)


def test_a_profile_is_kept_in_memory_or_written(tmp_path, capsys):
    run = laptime.profile("preset:tiny-llm", samples=2, prompt_tokens=8, new_tokens=4, repeats=1, max_warmups=3)
    assert {sample.output_tokens for sample in run.samples} == {4}
    assert capsys.readouterr().out == ""
    assert json.loads(laptime.to_json(run))["schema"] == "laptime.profile/1"
    written = laptime.profile(
        "preset:tiny-llm", samples=2, prompt_tokens=8, new_tokens=4, repeats=1, max_warmups=3, out=tmp_path / "run"
    )
    assert written == laptime.load_run(tmp_path / "run")


def check_types(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_an_unknown_name_is_a_type_error_and_known_ones_are_typed(tmp_path):
    file = tmp_path / "script.py"
    file.write_text(
        "import laptime\n"
        "laptime.bogus\n"
        "reveal_type(laptime.audit('runs/demo').clean)\n"
        "reveal_type(laptime.load_run('runs/demo').samples[0].repeat)\n"
        "laptime.audit(3)\n"
    )
    done = check_types(file)
    shown = [line.partition("script.py:")[2] for line in done.stdout.splitlines()]  # the path may be a cached one
    lines = {int(line.partition(":")[0]): line for line in shown if line}
    assert 'has no attribute "bogus"' in lines[2]
    assert '"bool"' in lines[3] or '"builtins.bool"' in lines[3]
    assert '"int"' in lines[4] or '"builtins.int"' in lines[4]
    assert "incompatible type" in lines[5]


def test_the_examples_are_typed():
    done = check_types(*sorted((ROOT / "examples").glob("*.py")))
    assert done.returncode == 0, done.stdout
