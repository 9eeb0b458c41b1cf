"""`laptime predict`: one row as words or a table, bounds and probabilities, and no traceback."""

from __future__ import annotations

import json
import subprocess
import sys

import polars as pl
import pytest

from laptime.cli.main import run as laptime
from laptime.estimate.prediction import predict
from tests.cli.estimates import COLUMNS, ask, write_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    table = write_table(folder / "steps.csv")
    assert laptime(["fit", str(table), *COLUMNS, "--out", str(folder / "est")]) == 0
    return folder


def test_one_configuration_is_a_sentence(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    code, out, _ = ask(capsys, "predict", folder / "est", "batch=4", "prompt=256", "--budget-ms", "20")
    assert code == 0
    for words in ("step_ms: 6.", "in 95\xa0% of cases", "within 20\xa0ms: probability", "inside what the estimator"):
        assert words in out, words
    code, out, _ = ask(capsys, "predict", folder / "est", "batch=4,prompt=90000")
    assert code == 1
    assert "unknown. prompt is 90000," in out
    assert "times the largest that was measured" in out
    _, out, _ = ask(
        capsys, "predict", folder / "est", "batch=4,prompt=256", "--confidence", "0.9999", "--budget-ms", "1e-6"
    )
    assert "no bound can be promised" in out
    assert "no probability can be promised" in out  # 0 % would say that it is late


def test_what_lies_outside_is_named_with_what_was_measured(folder, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    table = pl.read_csv(folder / "steps.csv")
    least, most = table["batch"].min(), table["batch"].max()
    _, out, _ = ask(capsys, "predict", folder / "est", f"batch={2 * most}", "prompt=256")
    said = f"batch {2 * most} (measured: {least} to {most})"
    assert f"outside what the estimator was fitted on, in {said}" in out
    rows = tmp_path / "rows.csv"
    rows.write_text(f"batch,prompt\n{2 * most},256\n{most},256\n")
    _, out, _ = ask(capsys, "predict", folder / "est", rows, "--json")
    assert [row["outside"] for row in json.loads(out)["rows"]] == [said, None]
    _, out, _ = ask(capsys, "predict", folder / "est", rows)
    assert f"not inside: {said}" in out


def test_a_table_keeps_its_rows_and_gets_columns(folder, capsys, tmp_path):
    out_file = tmp_path / "out.parquet"
    code, out, err = ask(
        capsys, "predict", folder / "est", folder / "steps.csv", "--budget-ms", "8ms", "--confidence", "90%", "--json",
        "--to", out_file,
    )  # fmt: skip
    answer = json.loads(out)
    assert (code, answer["schema"], answer["quantile"], answer["budget_ms"]) == (0, "laptime.predict/1", 0.9, 8.0)
    both = pl.read_parquet(out_file)
    assert len(both) == len(answer["rows"]) == 64
    assert both["bound_ms"].to_list() == [row["bound_ms"] for row in answer["rows"]]
    assert ((both["bound_ms"] <= 8.0) == (both["probability_within"] >= 0.9 - 1e-9)).all()
    assert str(out_file) in err
    ordered = both.sort("batch", "prompt")
    assert ordered["median_ms"].to_list()[0] == ordered["median_ms"].min()


def test_words_of_the_support_column_are_explained_once(folder, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    asked = tmp_path / "asked.csv"
    for batches, said in ((("4", "8"), 0), (("4", "12", "14"), 1)):
        asked.write_text("batch,prompt\n" + "".join(f"{batch},128\n" for batch in batches))
        _, out, _ = ask(capsys, "predict", folder / "est", asked)
        assert out.count("outside: beyond what the estimator was fitted on") == said


def test_a_new_level_says_what_was_held_out_to_check_its_bound(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    rows = [
        (gpu, batch, speed * (2 + batch)) for gpu, speed in (("a", 1), ("b", 2), ("c", 9)) for batch in range(1, 15)
    ]
    table = tmp_path / "gpus.csv"
    table.write_text("gpu,batch,step_ms\n" + "".join(f"{gpu},{batch},{ms}\n" for gpu, batch, ms in rows))
    fit = ["fit", str(table), "--target", "step_ms", "--features", "batch", "--categorical", "gpu"]
    assert laptime([*fit, "--out", str(tmp_path / "est")]) == 0
    capsys.readouterr()
    _, out, _ = ask(capsys, "predict", tmp_path / "est", "batch=4", "gpu=d")
    assert "gpu d was never measured: 3 others were held out in turn (gpu " in out
    assert "they say too little for a bound at this confidence" in out
    asked = tmp_path / "asked.csv"
    asked.write_text("gpu,batch\nd,4\na,4\nd,8\n")
    _, out, _ = ask(capsys, "predict", tmp_path / "est", asked)
    assert out.count("gpu d was never measured") == 1
    _, out, _ = ask(capsys, "predict", tmp_path / "est", asked, "--json")
    assert [row["basis"] is None for row in json.loads(out)["rows"]] == [False, True, False]


def test_more_bounds_are_higher(folder, capsys):
    bounds = []
    for level in ("50%", "0.9", "0.95"):
        _, out, _ = ask(capsys, "predict", folder / "est", "batch=2", "prompt=128", "--confidence", level, "--json")
        bounds.append(json.loads(out)["rows"][0]["bound_ms"])
    assert bounds == sorted(bounds)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["batch=4"], "laptime: prompt is missing; the estimator needs batch, prompt"),
        (["batch=4", "promt=64"], "did you mean prompt"),
        (["batch=4", "prompt=many"], "'prompt' holds text ('many'), but numbers in training; a number is needed"),
        (["batch=4", "batch=5", "prompt=1"], "batch is given twice"),
        (["batch=4", "prompt"], "not of the form NAME=VALUE"),
        (["nowhere.csv"], "no such file"),
        (["batch=4", "prompt=64", "--confidence", "2"], "--confidence 2"),
        (["batch=4", "prompt=64", "--confidence", "0"], "0"),
        (["batch=4", "prompt=64", "--budget-ms", "soon"], "--budget-ms soon"),
        (["batch=4", "prompt=64", "--budget-ms", "0"], "--budget-ms 0"),
        (["batch=4", "prompt=64", "--to", "x.txt"], ".csv or .parquet"),
    ],
)
def test_bad_words_are_one_line(folder, capsys, words, message):
    code, out, err = ask(capsys, "predict", folder / "est", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_what_is_no_estimator_is_named(tmp_path, capsys):
    code, _, err = ask(capsys, "predict", tmp_path, "batch=4")
    assert (code, err.count("\n"), str(tmp_path) in err) == (2, 1, True)


def test_no_torch_is_imported(folder):
    code = (
        "import sys; from laptime.cli.main import run; "
        f"rc = run(['predict', {str(folder / 'est')!r}, 'batch=4', 'prompt=64']); "
        "sys.exit(rc or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_a_table_is_replaced_only_when_that_is_asked(folder, capsys, tmp_path):
    words = ["predict", folder / "est", "batch=4", "prompt=64", "--to", tmp_path / "out.csv"]
    assert ask(capsys, *words)[0] == 0
    before = (tmp_path / "out.csv").read_bytes()
    code, out, err = ask(capsys, *words, "--budget-ms", "9")
    assert (code, out, err.count("\n"), "is already there" in err) == (2, "", 1, True)
    assert (tmp_path / "out.csv").read_bytes() == before
    assert ask(capsys, *words, "--budget-ms", "9", "--force")[0] == 0
    assert "probability_within" in pl.read_csv(tmp_path / "out.csv").columns


def test_python_and_the_command_line_answer_the_same(folder, capsys):
    for batch in (1, 4):
        prediction = predict(folder / "est", {"batch": batch, "prompt": 256}, confidence=0.9, budget_ms=6)
        words = [f"batch={batch}", "prompt=256", "--confidence", "0.9", "--budget-ms", "6", "--json"]
        _, out, _ = ask(capsys, "predict", folder / "est", *words)
        assert json.loads(out)["rows"] == prediction.answers.to_dicts()
    assert predict(folder / "est", {"batch": [1, 4], "prompt": 256}).table()["batch"].to_list() == [1, 4]


def test_names_and_values_with_spaces_can_be_asked(capsys, tmp_path):
    devices, sizes = ("NVIDIA H200", "AMD MI300X"), (1, 2, 4, 8, 16, 32)
    rows = [
        (device, batch, "2 GB", (2 + 0.1 * batch) * (1 + number) * (1 + 0.01 * repeat))
        for number, device in enumerate(devices)
        for batch in sizes
        for repeat in range(4)
    ]
    file = tmp_path / "t.csv"
    pl.DataFrame(rows, schema=["device", "Batch Size", "cache", "ms"], orient="row").write_csv(file)
    words = ["--target", "ms", "--features", "Batch Size,cache", "--categorical", "device"]
    assert ask(capsys, "fit", file, *words, "--out", tmp_path / "est")[0] == 0
    asked = ["predict", tmp_path / "est", "device=NVIDIA H200", "Batch Size=8"]
    code, out, _ = ask(capsys, *asked, "cache=2 GB")
    assert (code, "inside" in out) == (0, True)
    code, again, _ = ask(capsys, "predict", tmp_path / "est", "cache=2 GB device=NVIDIA H200,Batch Size=8")
    assert (code, again) == (0, out)
    code, out, _ = ask(capsys, *asked, "cache=4 GB")
    assert code == 1
    assert out.startswith("ms: unknown. cache is 4 GB, but was always 2 GB in training")
    code, out, _ = ask(
        capsys,
        "budget",
        tmp_path / "est",
        "--budget-ms",
        "1e6",
        "--config",
        "device=NVIDIA H200,Batch Size=8,cache=4 GB",
    )
    assert (code, out.startswith("Unknown: cache is 4 GB")) == (1, True)
