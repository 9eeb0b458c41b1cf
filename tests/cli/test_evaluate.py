"""`laptime evaluate`: an estimator on a table, a table held out in turns, and the page."""

from __future__ import annotations

import json

import polars as pl
import pytest

from laptime.cli.main import run as laptime
from tests.cli.estimates import COLUMNS, ask, write_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    table = write_table(folder / "steps.csv")
    assert laptime(["fit", str(table), *COLUMNS, "--out", str(folder / "est")]) == 0
    write_table(folder / "tomorrow.csv", seed=1)
    return folder


def test_an_estimator_is_judged_on_another_day(folder, capsys, tmp_path):
    page = tmp_path / "page.html"
    code, out, err = ask(capsys, "evaluate", folder / "est", folder / "tomorrow.csv", "--json", "--html", page)
    answer = json.loads(out)
    assert (code, answer["schema"], answer["rows"], answer["configurations"]) == (0, "laptime.evaluation/1", 64, 16)
    assert answer["different_rows"] == 16
    (split,) = answer["splits"]
    assert split["metrics"]["mape"]["mean"] < 0.08
    assert split["metrics"]["r2"]["mean"] <= split["reachable_r2"]["mean"] + 0.02
    assert 0.85 <= split["metrics"]["coverage"]["mean"] <= 1
    assert answer["fitted_on"] == 0
    assert "Model card" in page.read_text()
    assert str(page) in err


def test_rows_that_it_was_fitted_on_are_said_and_one_ceiling_is_given(folder, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    both = tmp_path / "both.csv"
    old, new = pl.read_csv(folder / "steps.csv"), pl.read_csv(folder / "tomorrow.csv")
    pl.concat([old.head(16), new.head(48)]).sample(fraction=1, shuffle=True, seed=0).write_csv(both)
    code, out, _ = ask(capsys, "evaluate", folder / "est", both)
    assert code == 0
    assert "25.0\xa0% of these rows are those that it was fitted on" in out
    assert "note: rows that it was fitted on make an estimator look better" in out
    assert "within reach" not in out
    assert "fitted on" not in ask(capsys, "evaluate", folder / "est", folder / "tomorrow.csv")[1]


def test_a_table_is_held_out_in_turns(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    words = ["evaluate", folder / "steps.csv", *COLUMNS, "--seeds", "2", "--splits", "new-config,largest"]
    code, out, err = ask(capsys, *words, "--json", "--iqr", "1.5")
    answer = json.loads(out)
    assert (code, [split["kind"] for split in answer["splits"]]) == (0, ["new-config", "largest"])
    assert answer["splits"][0]["metrics"]["mape"]["n"] == 2
    assert answer["splits"][1]["details"][0].startswith("batch × prompt above ")
    assert answer["filtered"]["rows"] == 64
    assert "splits 3/3" in err
    code, out, _ = ask(capsys, *words[:-1], "new-config")
    assert code == 0
    for said in (
        "64 rows, 16 different. Repeats of a row differ by",
        "one answer for repeats of a row is not expected to exceed an R²",
        "95\xa0% bound holds", "R² within reach",
    ):  # fmt: skip
        assert said in out, said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["EST"], "name the table"),
        (["EST", "TABLE", "--splits", "random"], "fitted already"),
        (["EST", "TABLE", "--bandwidth-gb-s", "4000", "--tflop-s", "700"], "fitted already"),
        (["TABLE", *COLUMNS, "--bandwidth-gb-s", "4000"], "go together"),
        (["TABLE", "TABLE"], "holds no estimator"),
        (["TABLE"], "--target is needed: the column"),
        (["TABLE", *COLUMNS, "--splits", "all"], "--splits all"),
        (["TABLE", *COLUMNS, "--size", "volume", "--splits", "largest"], "volume"),
        (["TABLE", *COLUMNS, "--confidence", "x"], "--confidence x"),
        (["TABLE", *COLUMNS, "--splits", "held-out"], "nothing to hold out"),
        (["EST", "nowhere.csv"], "no such file"),
    ],
)
def test_bad_words_are_one_line(folder, capsys, words, message):
    places = {"EST": folder / "est", "TABLE": folder / "steps.csv"}
    code, out, err = ask(capsys, "evaluate", *(places.get(word, word) for word in words))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            pl.when(pl.int_range(pl.len()) < 3).then(0.0).otherwise("step_ms").alias("step_ms"),
            "3 of 64 values are zero",
        ),
        (pl.lit("fast").alias("step_ms"), "holds text ('fast')"),
        (-pl.col("step_ms"), "64 of 64 values are negative"),
        (pl.when(pl.int_range(pl.len()) == 5).then(None).otherwise("batch").alias("batch"), "(first: row 6)"),
    ],
)
def test_a_table_that_can_not_be_judged_by_is_one_line_that_names_it(folder, capsys, tmp_path, change, message):
    bad = tmp_path / "bad.csv"
    pl.read_csv(folder / "tomorrow.csv").with_columns(change).write_csv(bad)
    for words in ([folder / "est", bad], [bad, *COLUMNS]):
        code, out, err = ask(capsys, "evaluate", *words)
        assert (code, out, err.splitlines()[-1].startswith(f"laptime: {bad}: ")) == (2, "", True)
        assert message in err


def test_a_table_without_rows_and_one_of_a_single_configuration_are_one_line(folder, capsys, tmp_path):
    bad = tmp_path / "bad.csv"
    table = pl.read_csv(folder / "tomorrow.csv")
    table.head(0).write_csv(bad)
    code, _, err = ask(capsys, "evaluate", folder / "est", bad)
    assert (code, err) == (2, f"laptime: {bad}: the table has no row to judge by\n")
    table.with_columns(pl.lit(1).alias("batch"), pl.lit(64).alias("prompt"), pl.lit("a").alias("config")).write_csv(bad)
    code, _, err = ask(capsys, "evaluate", bad, *COLUMNS)
    assert (code, err.count("\n")) == (2, 1)
    assert "one group" in err


def test_a_page_is_replaced_only_when_that_is_asked(folder, capsys, tmp_path):
    page = tmp_path / "page.html"
    old = '<meta name="generator" content="laptime">'
    page.write_text(old)
    words = ["evaluate", folder / "est", folder / "tomorrow.csv", "--html", page]
    code, out, err = ask(capsys, *words)
    assert (code, out, "is already there" in err, page.read_text()) == (2, "", True, old)
    assert ask(capsys, *words, "--force")[0] == 0
    assert "Model card" in page.read_text()
