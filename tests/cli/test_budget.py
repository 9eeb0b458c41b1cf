"""`laptime budget`: yes or no by exit code, a grid's feasible set, accuracies, and what rules of thumb cost."""

from __future__ import annotations

import json

import msgspec
import polars as pl
import pytest

from laptime.cli.main import run as laptime
from laptime.cli.options import milliseconds
from laptime.errors import LaptimeError
from laptime.estimate.budget import budget
from tests.cli.estimates import COLUMNS, ask, write_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("budget")
    table = write_table(folder / "steps.csv", noise=0.1, repeats=10)
    assert laptime(["fit", str(table), *COLUMNS, "--out", str(folder / "est")]) == 0
    (folder / "grid.yaml").write_text("batch: [1, 2, 4, 8]\nprompt: [64, 128, 256, 512]\n")
    return folder


@pytest.mark.parametrize("nothing", ["", ",", " ", " , "])
def test_no_configuration_is_refused_in_a_line(folder, capsys, nothing):
    code, out, err = ask(capsys, "budget", folder / "est", "--budget-ms", "170", "--config", nothing)
    assert (code, out, err.count("\n")) == (2, "", 1)
    with pytest.raises(LaptimeError, match="name at least one value"):
        budget(folder / "est", {}, 170)


def test_one_configuration_is_answered_by_the_exit_code(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    code, out, _ = ask(capsys, "budget", folder / "est", "--budget-ms", "170", "--config", "batch=4,prompt=256")
    assert code == 0
    assert out.startswith("Yes: within 170\xa0ms with probability")
    code, out, _ = ask(
        capsys, "budget", folder / "est", "--budget-ms", "6.5", "--config", "batch=4", "--config", "prompt=256"
    )
    assert code == 1
    assert out.startswith("No: within 6.5\xa0ms with probability")
    assert "prediction + 2 sd" in out
    assert any(line.split()[-1:] == ["no"] for line in out.splitlines()), out


def test_a_grid_gives_the_feasible_set(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    code, out, _ = ask(capsys, "budget", folder / "est", "--budget-ms", "6", "--grid", folder / "grid.yaml", "--json")
    answer = json.loads(out)
    assert (code, answer["schema"], answer["asked"]) == (0, "laptime.budget/1", 16)
    assert 0 < answer["feasible"] < 16
    assert all((a["bound_ms"] <= 6) == a["within"] == (a["probability"] >= 0.95 - 1e-9) for a in answer["answers"])
    assert answer["best"]["bound_ms"] == max(a["bound_ms"] for a in answer["answers"] if a["within"])
    assert ask(capsys, "budget", folder / "est", "--budget-ms", "1", "--grid", folder / "grid.yaml")[0] == 1
    _, out, _ = ask(capsys, "budget", folder / "est", "--budget-ms", "6ms", "--grid", folder / "grid.yaml")
    assert f"{answer['feasible']} of 16 configurations keep 6\xa0ms with 95\xa0% confidence" in out


def test_a_measured_table_brings_accuracies_and_judges_the_rules(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "130")
    words = [
        "budget",
        folder / "est",
        "--budget-ms",
        "0.0065s",
        "--grid",
        folder / "steps.csv",
        "--accuracy",
        "accuracy",
    ]
    _, out, _ = ask(capsys, *words, "--json")
    answer = json.loads(out)
    assert (answer["asked"], answer["measured_rows"], answer["budget_ms"]) == (16, 160, pytest.approx(6.5))
    feasible = [a for a in answer["answers"] if a["within"]]
    assert answer["best"]["accuracy"] == pytest.approx(max(a["accuracy"] for a in feasible))
    rules = {rule["rule"]: rule for rule in answer["rules"]}
    assert rules["prediction"]["late"] > rules["calibrated bound"]["late"]
    assert rules["prediction"]["wrongly_admitted"] >= rules["calibrated bound"]["wrongly_admitted"]
    assert rules["prediction + 25 %"]["unused"] > rules["prediction"]["unused"]
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = ask(capsys, *words)
    told = " ".join(out.split())
    for said in ("it is the most accurate that keeps the budget with 97.5", "judged by 160 measured times"):
        assert said in told, said
    assert "wrongly admitted" in told
    assert "admits: how many configurations the rule lets pass" in told
    for rule in rules:
        assert any(rule in line.replace("\xa0", " ") for line in out.splitlines()), rule


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget-ms", "0", "--config", "batch=1"], "--budget-ms 0"),
        (["--budget-ms", "fast", "--config", "batch=1"], "--budget-ms fast"),
        (["--budget-ms", "10"], "--config batch=4"),
        (["--budget-ms", "10", "--config", "batch=1,prompt=1", "--grid", "GRID"], "one configuration"),
        (["--budget-ms", "10", "--config", "batch=1,prompt=1", "--confidence", "1"], "--confidence 1"),
        (["--budget-ms", "10", "--config", "batch=1,prompt=1", "--confidence", "0"], "confidence 0"),
        (["--budget-ms", "10", "--grid", "nowhere.yaml"], "nowhere.yaml: can't be read: No such file"),
        (["--budget-ms", "10", "--grid", "GRID", "--accuracy", "score"], "--accuracy score"),
        (["--budget-ms", "10", "--grid", "TABLE", "--accuracy", "scor"], "scor"),
        (["--budget-ms", "10", "--grid", "TABLE", "--accuracy", "config"], "holds text"),
    ],
)
def test_bad_words_are_one_line(folder, capsys, words, message):
    places = {"GRID": folder / "grid.yaml", "TABLE": folder / "steps.csv"}
    code, out, err = ask(capsys, "budget", folder / "est", *(places.get(word, word) for word in words))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "mapping of names"),
        ("batch: []", "batch"),
        ("batch: [1, x]\nprompt: 3", "numbers and text"),
        ("batch: {a: 1}", "batch"),
        ("batch: [", "not YAML"),
        ("!!python/object/apply:os.system ['true']", "python/object/apply:os.system is not used here"),
        ("\n".join(f"k{i}: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]" for i in range(8)), "combinations are more"),
    ],
)
def test_a_bad_grid_is_one_line(folder, capsys, tmp_path, text, message):
    file = tmp_path / "grid.yaml"
    file.write_text(text)
    code, _, err = ask(capsys, "budget", folder / "est", "--budget-ms", "10", "--grid", file)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err


def test_an_empty_table_is_one_line(folder, capsys, tmp_path):
    file = tmp_path / "none.csv"
    pl.read_csv(folder / "steps.csv").head(0).write_csv(file)
    code, _, err = ask(capsys, "budget", folder / "est", "--budget-ms", "10", "--grid", file)
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.parametrize(("words", "ms"), [("170", 170), ("170ms", 170), ("0.17 s", 170), ("1e2", 100)])
def test_times_are_read_in_their_spellings(words, ms):
    assert milliseconds("--budget-ms", words) == pytest.approx(ms)
    for bad in ("nan", "inf", "-1", "1h", ""):
        with pytest.raises(LaptimeError):
            milliseconds("--budget-ms", bad)


def test_python_and_the_command_line_answer_the_same(folder, capsys):
    _, out, _ = ask(capsys, "budget", folder / "est", "--budget-ms", "6", "--grid", folder / "grid.yaml", "--json")
    grid = {"batch": [1, 2, 4, 8], "prompt": [64, 128, 256, 512]}
    assert json.loads(msgspec.json.encode(budget(folder / "est", grid, 6.0))) == json.loads(out)
    _, out, _ = ask(capsys, "budget", folder / "est", "--budget-ms", "6", "--grid", folder / "steps.csv", "--json")
    frame = pl.read_csv(folder / "steps.csv")
    assert json.loads(msgspec.json.encode(budget(folder / "est", frame, 6.0))) == json.loads(out)
    with pytest.raises(LaptimeError, match="needs a table"):
        budget(folder / "est", grid, 6.0, accuracy="accuracy")
    code, _, err = ask(capsys, "budget", folder / "est", "--config", "batch=1")
    assert (code, err.count("\n"), "--budget-ms is needed" in err) == (2, 1, True)


def test_what_is_unknown_is_not_guessed_by_a_rule(folder, capsys):
    words = [
        "budget",
        folder / "est",
        "--budget-ms",
        "170",
        "--config",
        "batch=4,prompt=256",
        "--confidence",
        "0.99999",
    ]
    code, out, _ = ask(capsys, *words)
    assert code == 1
    assert out.startswith("Unknown: whether it stays within 170\xa0ms can't be said")
    assert "prediction" not in out


def test_in_a_grid_what_is_unknown_has_no_probability(folder, capsys, tmp_path):
    grid = tmp_path / "grid.csv"
    grid.write_text("batch,prompt\n4,128\n4,90000\n")
    _, out, _ = ask(capsys, "budget", folder / "est", "--budget-ms", "100", "--grid", grid)
    far = next(line for line in out.splitlines() if "90000" in line.replace("\u202f", ""))
    assert "unknown" in far
    assert "%" not in far  # 0 % would say that it is late
