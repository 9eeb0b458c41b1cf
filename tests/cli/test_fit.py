"""`laptime fit`: any table in, an estimator out; a run needs no column named; bad tables are one line."""

from __future__ import annotations

import io
import json

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from laptime import Estimator
from laptime.estimate.run_fit import FittedRun, FittedTarget
from laptime.report.estimate.terminal import fit_report
from tests.cli.estimates import COLUMNS, ask, write_table


def test_a_table_becomes_an_estimator_that_says_what_it_is(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    table = write_table(tmp_path / "steps.csv")
    code, out, err = ask(capsys, "fit", table, *COLUMNS, "--out", tmp_path / "est")
    assert (code, err) == (0, "")
    assert out.startswith("step_ms: 64 rows, 16 different, in 16 groups\n")
    assert "fitted in " in out
    assert "within what was measured" in out
    assert (tmp_path / "est" / "estimator.json").exists()
    code, out, _ = ask(capsys, "predict", tmp_path / "est", "batch=4", "prompt=256", "--json")
    (row,) = json.loads(out)["rows"]
    assert row["median_ms"] == pytest.approx(3 + 1.6 + 2.048, rel=0.1)
    assert row["bound_ms"] > row["median_ms"]


def test_json_is_alone_on_stdout(tmp_path, capsys):
    table = write_table(tmp_path / "steps.csv")
    code, out, _ = ask(capsys, "fit", table, *COLUMNS, "--out", tmp_path / "est", "--json")
    answer = json.loads(out)
    assert (code, answer["schema"]) == (0, "laptime.fit/1")
    assert answer["estimators"][str(tmp_path / "est")]["target"] == "step_ms"


def run_table(file, *, vision=True):
    """A frame as a sweep leaves it, a warm-up that took 50 times as long included; without vision it is text only."""
    rng = np.random.default_rng(0)
    rows = []
    for tier in ("low", "high"):
        for k in (2, 4, 8):
            for n in (4, 8):
                for repeat in range(-1, 4):
                    vision_ms, prefill, step = (5.0 + 9 * (tier == "high")) * vision, 4.0 + k, 2.0 + 0.3 * k
                    noise = np.exp(0.03 * rng.normal())
                    slow = 50.0 if repeat < 0 else 1.0
                    rows.append(
                        {
                            "config_id": f"{tier}{k}{n}", "sample_id": "s", "repeat": repeat, "worker": "0",
                            "vision_ms": vision_ms * noise * slow, "prefill_ms": prefill * noise,
                            "decode_ms": step * (n - 1) * noise, "other_ms": 0.5 * noise,
                            "output_tokens": n, "decode_forwards": n - 1,
                            "total_ms": (vision_ms * slow + prefill + step * (n - 1) + 0.5) * noise, "batch": 1,
                            "prompt_tokens": 100, "image_tokens": 144 * (3 if tier == "low" else 9),
                            "flags": "cold" if repeat < 0 else "", "config.tier": tier, "config.top_k": k,
                        }
                    )  # fmt: skip
    pl.DataFrame(rows).write_parquet(file)
    return file


def test_a_run_needs_no_column_named(tmp_path, capsys):
    """Flagged and warm-up samples stay out, each stage gets an estimator, the folder answers for the total."""
    table = run_table(tmp_path / "run.parquet")
    code, out, err = ask(capsys, "fit", table, "--out", tmp_path / "est", "--json")
    assert (code, err) == (0, "")
    cards = json.loads(out)["estimators"]
    assert {card["target"] for card in cards.values()} == {
        "vision_ms", "prefill_ms", "decode_per_token_ms", "other_ms", "total_ms",
    }  # fmt: skip
    total = cards[str(tmp_path / "est" / "total")]
    assert total["rows"] == 48, "the warm-up stays out"
    assert set(total["features"]) == {"image_tokens", "output_tokens", "config.top_k"}, "config.tier says the same"
    asked = ["image_tokens=432", "config.top_k=4"]
    truth = 5 + 8 + 3.2 * 7 + 0.5
    for place in ("total", "."):
        _, out, _ = ask(capsys, "predict", tmp_path / "est" / place, *asked, "output_tokens=8", "--json")
        assert json.loads(out)["rows"][0]["median_ms"] == pytest.approx(truth, rel=0.1), place
    _, out, _ = ask(capsys, "predict", tmp_path / "est", *asked, "--tokens", "1,8", "--budget-ms", "20", "--json")
    assert json.loads(out)["rows"][0]["probability_within"] == pytest.approx(0.5, abs=0.02), "only one token fits"
    code, _, err = ask(capsys, "predict", tmp_path / "est" / "total", *asked, "--tokens", "1,8")
    assert (code, "no folder of stages" in err) == (2, True)
    code, _, err = ask(capsys, "predict", tmp_path / "est", *asked, "--tokens", "0,8")
    assert (code, "counts of 1 or more" in err) == (2, True)


def test_a_text_model_has_no_vision_to_learn_and_a_total_all_the_same(tmp_path, capsys):
    table = run_table(tmp_path / "run.parquet", vision=False)
    code, out, err = ask(capsys, "fit", table, "--out", tmp_path / "est", "--json")
    assert code == 0
    assert err.startswith("vision_ms: left out (")
    assert len(json.loads(out)["estimators"]) == 4
    asked = ["image_tokens=432", "config.top_k=4", "output_tokens=8"]
    _, out, _ = ask(capsys, "predict", tmp_path / "est", *asked, "--json")
    assert json.loads(out)["rows"][0]["median_ms"] == pytest.approx(8 + 3.2 * 7 + 0.5, rel=0.1)
    folders = sorted(file.parent for file in (tmp_path / "est").glob("*/estimator.json"))
    fitted = FittedRun({f.name: FittedTarget(Estimator.load(f), f, 1.0, None) for f in folders}, {})
    shared = set.intersection(*(set(one.estimator.card.notes) for one in fitted.targets.values()))
    assert shared, "the four tables are alike, so a note belongs to all"
    console = Console(file=io.StringIO(), width=500)
    console.print(fit_report(fitted))
    assert console.file.getvalue().count("Chosen: of the ways to predict that were tried") == 1
    for note in shared:
        assert console.file.getvalue().count(note) == 1, "a note of all is said once"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "step"], "step_ms"),
        (["--target", "step_ms"], "--features is needed: the columns"),
        ([], "--target is needed: the column"),
        (["--target", "step_ms", "--features", "batch,promt"], "prompt"),
        (["--target", "config", "--features", "batch"], "config"),
        (["--target", "step_ms", "--features", "step_ms"], "step_ms"),
        ([*COLUMNS, "--iqr", "-1"], "--iqr -1"),
    ],
)
def test_bad_columns_are_one_line(tmp_path, capsys, words, message):
    table = write_table(tmp_path / "steps.csv")
    code, out, err = ask(capsys, "fit", table, *words, "--out", tmp_path / "est")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not (tmp_path / "est").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.when(pl.int_range(pl.len()) == 3).then(0.0).otherwise(pl.col("step_ms")), "1 of 64 values are zero"),
        (-pl.col("step_ms"), "negative"),
        (pl.when(pl.int_range(pl.len()) < 2).then(None).otherwise(pl.col("step_ms")), "2 of 64 values are missing"),
        (pl.lit("fast").alias("step_ms"), "text"),
        (pl.when(pl.int_range(pl.len()) < 20).then(pl.col("step_ms") / 1000).otherwise(pl.col("step_ms")), "units"),
    ],
)
def test_a_target_that_can_not_be_learnt_is_one_line(tmp_path, capsys, change, message):
    table = write_table(tmp_path / "steps.csv")
    pl.read_csv(table).with_columns(change.alias("step_ms")).write_csv(table)
    code, _, err = ask(capsys, "fit", table, *COLUMNS, "--out", tmp_path / "est")
    assert (code, err.count("\n"), str(table) in err) == (2, 1, True)
    assert message in err


BAD = {
    "a constant target's features": (
        [pl.lit(1).alias("batch"), pl.lit(2).alias("prompt")],
        "every feature is constant (batch, prompt)",
    ),
    "no time": ([pl.col("step_ms") * 1e-300], "64 of 64 values are below 1e-09 ms"),
    "longer than anything": ([pl.col("step_ms") * 1e300], "64 of 64 values are above 1e+12 ms"),
    "a feature out of range": ([pl.col("batch") * 1e300], "'batch': 1e+300 is too large"),
    "a feature with a hole": (
        [pl.when(pl.int_range(pl.len()) == 3).then(None).otherwise("batch").alias("batch")],
        "'batch': 1 of 64 values are missing or not finite (first: row 4)",
    ),
    "an infinite feature": (
        [pl.when(pl.int_range(pl.len()) == 3).then(float("inf")).otherwise(pl.col("batch").cast(float)).alias("batch")],
        "'batch': 1 of 64 values are missing or not finite",
    ),
    "an infinite target": (
        [pl.when(pl.int_range(pl.len()) == 3).then(float("inf")).otherwise("step_ms").alias("step_ms")],
        "1 of 64 values are infinite",
    ),
    "seconds in another column": ([(pl.col("step_ms") / 1000).alias("total_ms")], "total_ms is step_ms / 1000"),
    "one group": ([pl.lit("a").alias("config")], "one group only (config=a)"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_table_that_can_not_be_learnt_from_is_one_line(tmp_path, capsys, name):
    change, message = BAD[name]
    table = write_table(tmp_path / "steps.csv")
    pl.read_csv(table).with_columns(change).write_csv(table)
    code, out, err = ask(capsys, "fit", table, *COLUMNS, "--out", tmp_path / "est")
    assert (code, out, err.count("\n"), str(table) in err) == (2, "", 1, True)
    assert message in err
    assert not (tmp_path / "est").exists()


def test_fewer_than_twenty_rows_are_one_line(tmp_path, capsys):
    table = write_table(tmp_path / "steps.csv")
    pl.read_csv(table).head(19).write_csv(table)
    code, _, err = ask(capsys, "fit", table, *COLUMNS, "--out", tmp_path / "est")
    assert (code, err.count("\n")) == (2, 1)
    assert "19 rows are too few" in err


def test_a_stage_in_seconds_among_the_others_is_suspected(tmp_path, capsys):
    table = run_table(tmp_path / "run.parquet")
    pl.read_parquet(table).with_columns(pl.col("decode_ms") / 1000).write_parquet(table)
    code, _, err = ask(capsys, "fit", table, "--target", "total_ms", "--out", tmp_path / "est")
    assert (code, err.count("\n")) == (2, 1)
    assert "decode_ms is a thousandth of what the other stages leave" in err


def test_a_stage_that_is_small_is_not_taken_for_seconds(tmp_path, capsys):
    table = run_table(tmp_path / "run.parquet")
    small = pl.col("total_ms") * 1e-5
    shorter = pl.col("total_ms") - pl.col("other_ms") + small
    pl.read_parquet(table).with_columns(small.alias("other_ms"), shorter.alias("total_ms")).write_parquet(table)
    code, _, err = ask(capsys, "fit", table, "--target", "total_ms", "--out", tmp_path / "est")
    assert (code, err) == (0, "")


def test_a_constant_feature_is_left_out_and_said(tmp_path, capsys):
    table = write_table(tmp_path / "steps.csv")
    pl.read_csv(table).with_columns(pl.lit(7).alias("depth")).write_csv(table)
    columns = ["--target", "step_ms", "--features", "batch,prompt,depth"]
    code, out, _ = ask(capsys, "fit", table, *columns, "--out", tmp_path / "est", "--json")
    (card,) = json.loads(out)["estimators"].values()
    assert (code, card["features"]) == (0, ["batch", "prompt"])
    assert any("'depth' is constant" in note for note in card["notes"])
    code, out, _ = ask(capsys, "predict", tmp_path / "est", "batch=4", "prompt=256", "depth=8", "--json")
    assert json.loads(out)["rows"][0]["bound_ms"] is None, "nothing is known of another depth"


def test_a_run_of_a_known_model_is_learnt_from_its_work(tmp_path, capsys):
    table = run_table(tmp_path / "run.parquet")
    pl.read_parquet(table).with_columns(pl.lit("preset:molmoe-1b").alias("config.model")).write_parquet(table)
    code, out, _ = ask(capsys, "fit", table, "--out", tmp_path / "est", "--json")
    assert code == 0
    cards = json.loads(out)["estimators"]
    tried = {score["candidate"]["basis"] for score in cards[str(tmp_path / "est" / "vision")]["scores"]}
    assert tried == {"sizes", "work", "both"}
    asked = ["image_tokens=432", "config.top_k=4", "output_tokens=8"]
    _, out, _ = ask(capsys, "predict", tmp_path / "est", *asked, "--json")
    assert json.loads(out)["rows"][0]["median_ms"] == pytest.approx(5 + 8 + 3.2 * 7 + 0.5, rel=0.1)
    rates = ["--bandwidth-gb-s", "4250", "--tflop-s", "790"]
    code, out, _ = ask(capsys, "fit", table, "--target", "vision_ms", *rates, "--out", tmp_path / "vision", "--json")
    assert code == 0
    for words, message in (
        (["--bandwidth-gb-s", "4250"], "go together"),
        ([*rates[:2], "--tflop-s", "0"], "--tflop-s 0: write a rate above 0"),
        ([*rates, "--target", "total_ms", "--features", "config.top_k"], "features are not named"),
    ):
        code, _, err = ask(capsys, "fit", table, *words, "--out", tmp_path / "no")
        assert (code, err.count("\n")) == (2, 1)
        assert message in err


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"batch\n1,2,3\n4\n"])
def test_what_is_no_table_is_one_line(tmp_path, capsys, content):
    file = tmp_path / "bad.csv"
    file.write_bytes(content)
    code, _, err = ask(capsys, "fit", file, *COLUMNS, "--out", tmp_path / "est")
    assert (code, err.count("\n")) == (2, 1)
    assert "bad.csv" in err or "--" in err or "column" in err
    code, _, err = ask(capsys, "fit", tmp_path / "nowhere.csv", *COLUMNS, "--out", tmp_path / "est")
    assert (code, "no such file" in err) == (2, True)


@pytest.mark.parametrize(
    ("factor", "says"),
    [(1e300, "64 of 64 values are above 1e+12 ms"), (1e-300, "64 of 64 values are below 1e-09 ms")],
)
def test_a_total_that_can_not_be_is_called_that_and_not_missing(tmp_path, capsys, factor, says):
    table = write_table(tmp_path / "steps.csv")
    pl.read_csv(table).rename({"step_ms": "total_ms"}).with_columns(pl.col("total_ms") * factor).write_csv(table)
    words = [word if word != "step_ms" else "total_ms" for word in COLUMNS]
    code, out, err = ask(capsys, "fit", table, *words, "--out", tmp_path / "est")
    assert (code, out, err.count("\n"), says in err) == (2, "", 1, True), err
