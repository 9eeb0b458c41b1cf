"""`laptime compare`: run folders in, three faces out, exit codes that a CI gate can use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from benchmarks.compare_power import lognormal, runs
from rich.console import Console

from laptime.cli.main import run as laptime
from laptime.cli.options import share
from laptime.comparisons import compare_samples
from laptime.data.record import Sample
from laptime.data.run_folder import RunFolder, load_run, new_info
from laptime.errors import LaptimeError
from laptime.report.compare.terminal import change, compare_report
from tests.samples import environment


def write(path: Path, samples: list[Sample], **facts: object) -> Path:
    info = new_info(["laptime"], {"model": "simulated"}, msgspec.structs.replace(environment(), **facts))
    with RunFolder(path, info) as folder:
        folder.begin()
        for one in samples:
            folder.append(one)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """A run, one of the same code, one 10 % slower in decode, and five repeats of A."""
    a, same = runs(np.random.default_rng(1), lognormal(0.005))
    _, slower = runs(np.random.default_rng(1), lognormal(0.005), decode_factor=1.10)
    named = {"a": a, "same": same, "slower": slower}
    for number in range(1, 6):
        named[f"a{number}"] = runs(np.random.default_rng(1), lognormal(0.005 + number * 1e-5))[0]
    return {name: write(tmp_path / name, samples) for name, samples in named.items()}


def repeats(folders: dict[str, Path]) -> list[object]:
    return [word for number in range(1, 6) for word in ("--baseline", folders[f"a{number}"])]


def ask(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = laptime(["compare", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_sample_with_two_flags_is_left_out_once(tmp_path, capsys):
    a, b = runs(np.random.default_rng(1), lognormal(0.005))
    b[0] = msgspec.structs.replace(b[0], flags=["gc-pause", "throttled"])
    _, out, _ = ask(capsys, write(tmp_path / "a", a), write(tmp_path / "b", b))
    text = " ".join(out.split())
    assert f"{len(b) - 1} of {len(b)} samples; 1 left out: 1 gc-pause (" in text
    assert "a sample can carry several of these flags" in text


def test_exit_codes_gate_a_regression(folders, capsys):
    known = repeats(folders)
    assert ask(capsys, folders["a"], folders["same"], *known)[0] == 0
    assert ask(capsys, folders["a"], folders["slower"], *known)[0] == 1
    assert ask(capsys, folders["slower"], folders["a"], *known)[0] == 0
    assert ask(capsys, folders["a"], folders["slower"], "--stage", "prefill", *known)[0] == 0
    assert ask(capsys, folders["a"], folders["slower"], "--stage", "decode", *known)[0] == 1
    assert ask(capsys, folders["a"], folders["slower"], "--min-effect", "20%", *known)[0] == 0


def test_two_single_runs_are_never_called_slower(folders, capsys):
    code, out, _ = ask(capsys, folders["a"], folders["slower"], "--json")
    value = json.loads(out)
    assert (code, value["verdict"], value["reason"]) == (0, "inconclusive", "between-run noise unknown")
    assert {stage["verdict"] for stage in value["stages"]} == {"inconclusive"}
    assert "slower" in {stage["within_run"] for stage in value["stages"]}
    words = " ".join(ask(capsys, folders["a"], folders["slower"])[1].split())
    assert words.startswith("Inconclusive: between-run noise unknown. Between these two runs lie decode +")
    assert "--against" in words
    assert "more samples" not in words


def test_fewer_than_three_baselines_are_refused(folders, capsys):
    code, _, err = ask(capsys, folders["a"], folders["slower"], *repeats(folders)[:4])
    assert (code, "2 baselines" in err) == (2, True)


def test_the_terminal_says_what_and_how_sure(folders, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    _, out, _ = ask(capsys, folders["a"], folders["slower"], *repeats(folders))
    assert out.startswith("B is slower than A: decode +")
    for words in ("Prefill", "interval (95\xa0% together)", "same", "20 of 20 samples", "Paired by sample"):
        assert words in out
    assert ask(capsys, folders["a"], folders["same"], *repeats(folders))[1].startswith("B takes the same time as A")


def test_the_columns_are_the_medians_of_the_page_and_one_folder_twice_is_said(folders, capsys):
    out = ask(capsys, folders["a"], folders["a"])[1]
    words = " ".join(out.split())
    assert "A and B are one folder" in words
    assert (
        "A and B: medians of a side's paired samples. Change: from the ratios within each pair, so it may not be"
        in words
    )
    other = json.loads(ask(capsys, folders["a"], folders["same"], "--json")[1])
    assert "one-folder" not in {finding["code"] for finding in other["findings"]}
    of_page = load_run(folders["a"]).summary.stages
    for stage in other["stages"]:  # 20 samples: the middle of two, as the page has it
        assert stage["a_median_ms"] == pytest.approx(of_page[stage["stage"]].median.value, rel=1e-12)


def test_json_is_alone_on_stdout_and_versioned(folders, capsys):
    asked = ("--json", "--stage", "decode", "--confidence", "99%")
    code, out, err = ask(capsys, folders["a"], folders["slower"], *asked, *repeats(folders))
    value = json.loads(out)
    assert (code, err) == (1, "")
    assert (value["schema"], value["verdict"], value["confidence"]) == ("laptime.compare/1", "slower", 0.99)
    (decode,) = value["stages"]
    assert (decode["stage"], decode["paired"], decode["ratio"]["n"]) == ("decode", True, 20)
    assert decode["ratio"]["low"] < 1.10 < decode["ratio"]["high"] + 0.01
    assert decode["between"]["n"] == 6
    assert value["a"]["run"] == str(folders["a"])


def test_an_environment_that_differs_is_said(folders, tmp_path, capsys):
    _, same = runs(np.random.default_rng(1), lognormal(0.005))
    other = write(tmp_path / "other", same, torch="9.9")
    code, out, _ = ask(capsys, folders["a"], other)
    assert code == 0
    assert "torch (none → 9.9)" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--min-effect", "2"], "as 2% or 0.02"),
        (["--min-effect", "-1%"], "as 2% or 0.02"),
        (["--min-effect", "nan"], "as 2% or 0.02"),
        (["--confidence", "much"], "as 95% or 0.95"),
        (["--confidence", "10%"], "from 0.5 to below 1"),
        (["--stage", "decoder"], "'decoder' is not one of 'preprocessing', 'queue'"),
    ],
)
def test_bad_options_are_one_line(folders, capsys, words, message):
    code, out, err = ask(capsys, folders["a"], folders["same"], *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_what_is_no_run_or_an_empty_one_is_named(folders, tmp_path, capsys):
    code, _, err = ask(capsys, folders["a"], tmp_path / "nowhere")
    assert (code, "nowhere: no such file or folder" in err) == (2, True)
    code, _, err = ask(capsys, write(tmp_path / "empty", []), folders["a"])
    assert (code, "empty: no sample was measured" in err) == (2, True)


def test_too_few_samples_say_how_many_more(tmp_path, folders, capsys):
    a, b = runs(np.random.default_rng(2), lognormal(0.005), samples=3)
    code, out, _ = ask(capsys, write(tmp_path / "x", a), write(tmp_path / "y", b), "--json")
    assert (code, {s["more_samples"] for s in json.loads(out)["stages"]}) == (0, {5})


@pytest.mark.parametrize(("words", "value"), [("2%", 0.02), ("2 %", 0.02), ("0.02", 0.02), ("0", 0.0), ("95%", 0.95)])
def test_shares_are_read_in_both_spellings(words, value):
    assert share("--min-effect", words) == pytest.approx(value)
    with pytest.raises(LaptimeError):
        share("--min-effect", words + "!")


def test_changes_are_signed():
    assert [change(r) for r in (1.051, 0.88, 1.0)] == ["+5.1\xa0%", "−12.0\xa0%", "0\xa0%"]


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_nothing_from_outside_acts(width):
    a, b = runs(np.random.default_rng(3), lognormal(0.03), decode_factor=1.03)
    compared = compare_samples(a, b, names=("[bold]a\x1b[31m", "b"))
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(compare_report(compared))
    shown = console.export_text(styles=False)
    assert "\x1b" not in shown
    assert "[bold]a" in shown
    assert all(len(line) <= width for line in shown.splitlines())
    assert "each run needs about this many more samples: " in " ".join(shown.split())


def test_no_torch_is_imported(folders):
    code = (
        "import sys; from laptime.cli.main import run; "
        f"run(['compare', {str(folders['a'])!r}, {str(folders['same'])!r}]); "
        "sys.exit('torch' in sys.modules or 'polars' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("width", [40, 60])
def test_a_narrow_terminal_keeps_every_figure(folders, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    _, said, _ = ask(capsys, folders["a"], folders["slower"])
    _, data, _ = ask(capsys, folders["a"], folders["slower"], "--json")
    assert "…" not in said
    for stage in json.loads(data)["stages"]:
        assert change(stage["ratio"]["value"]) in said
        assert f"{change(stage['ratio']['low'])} to {change(stage['ratio']['high'])}" in said
    assert max(map(len, said.splitlines())) <= width
