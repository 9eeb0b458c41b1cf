"""Save, load, and what a damaged or hostile folder does: one clear line, never a crash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import laptime
from laptime.errors import LaptimeError
from laptime.estimate.learn.trees import checked
from tests.estimate.latency_table import FEATURES, latency_table

LEVELS = [0.05, 0.5, 0.9, 0.95]


@pytest.fixture(scope="module")
def jagged() -> pl.DataFrame:
    """A table for trees on a roofline: work, times a factor that jumps from block to block of both sizes."""
    rng = np.random.default_rng(0)
    factor = np.exp(0.5 * rng.standard_normal((8, 8)))
    batch, context = rng.integers(1, 65, 700), rng.integers(1, 65, 700) * 100
    ms = factor[(batch - 1) // 8, (context // 100 - 1) // 8] * (1 + batch * context / 1000)
    return pl.DataFrame({"batch": batch, "context": context, "ms": ms * np.exp(0.01 * rng.standard_normal(700))})


@pytest.fixture(scope="module")
def fitted(jagged: pl.DataFrame) -> laptime.Estimator:
    return laptime.Estimator(target="ms", features=FEATURES).fit(jagged, threads=1)


@pytest.fixture
def folder(fitted: laptime.Estimator, tmp_path: Path) -> Path:
    fitted.save(tmp_path / "est")
    return tmp_path / "est"


def test_what_is_loaded_answers_to_the_last_bit(
    fitted: laptime.Estimator, jagged: pl.DataFrame, folder: Path, tmp_path: Path
) -> None:
    assert any(file.name.startswith("trees-") for file in folder.iterdir())
    loaded = laptime.Estimator.load(folder)
    rows = pl.concat([jagged.head(100), jagged.head(20).with_columns(pl.col("context") * 3)])
    assert (loaded.predict(rows) == fitted.predict(rows)).all()
    assert (loaded.quantile(rows, LEVELS) == fitted.quantile(rows, LEVELS)).all()
    assert (loaded.probability_within(rows, 2.0) == fitted.probability_within(rows, 2.0)).all()
    assert loaded.support(rows) == fitted.support(rows)
    assert loaded.card == fitted.card
    loaded.save(tmp_path / "again")
    for file in folder.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


BEFORE = Path(__file__).parent / "saved_before"
"""What laptime 0.1.0 saved at commit de50371, rows to ask, and what `laptime predict` printed of them then."""


def test_a_folder_that_was_saved_before_answers_as_it_did() -> None:
    loaded = laptime.Estimator.load(BEFORE)
    asked, then = pl.read_csv(BEFORE / "asked.csv"), json.loads((BEFORE / "predicted.json").read_bytes())
    rows = pl.DataFrame(then["rows"])
    assert loaded.predict(asked) == pytest.approx(rows["median_ms"].to_numpy(), rel=1e-9)
    assert loaded.quantile(asked, then["quantile"]) == pytest.approx(rows["bound_ms"].to_numpy(), rel=1e-9)
    assert loaded.probability_within(asked, then["budget_ms"]).tolist() == rows["probability_within"].to_list()
    assert [one.where for one in loaded.support(asked)] == rows["support"].to_list()


def test_groups_keep_their_own_residuals(tmp_path: Path) -> None:
    table = latency_table(configs=240, repeats=1)
    noisy = table.with_columns(
        ms=pl.when(pl.col("gpu") == "slow").then(pl.col("ms") * (1 + 0.4 * (pl.int_range(240) % 2))).otherwise("ms")
    )
    grouped = laptime.Estimator(target="ms", features=FEATURES, categorical=["gpu"], group=["gpu"])
    table = pl.concat([noisy, noisy.with_columns(context=pl.col("context") + 7)])
    estimator = grouped.fit(table)
    width = estimator.quantile(table, 0.9) / estimator.predict(table)
    slow = (table["gpu"] == "slow").to_numpy()
    assert np.median(width[slow]) > 1.1 > np.median(width[~slow])
    estimator.save(tmp_path)
    assert (laptime.Estimator.load(tmp_path).quantile(table, 0.9) == estimator.quantile(table, 0.9)).all()


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change estimator.json."""
    file = folder / "estimator.json"
    content = json.loads(file.read_bytes())
    change(content)
    file.write_text(json.dumps(content))


def with_trees(folder: Path, text: str) -> None:
    """Put another text in the place of all trees, with the hash that fits it."""
    for file in folder.glob("trees-*.txt"):
        file.write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    edited(folder, lambda m: m["files"].update({name: digest for name in m["files"] if name.startswith("trees")}))


def trees_of(folder: Path) -> str:
    return next(folder.glob("trees-*.txt")).read_text()


def test_a_changed_file_is_found_by_its_hash(folder: Path) -> None:
    for file in [folder / "residuals.parquet", next(folder.glob("trees-*.txt"))]:
        before = file.read_bytes()
        file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises(LaptimeError, match="was changed after it was saved"):
            laptime.Estimator.load(folder)
        file.write_bytes(before)
    assert laptime.Estimator.load(folder)


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        place: Any = content
        *way, last = [int(step) if step.isdigit() else step for step in path.split("/")]
        for step in way:
            place = place[step]
        place[last] = value

    return change


MANIFESTS = [
    (_set("schema", "laptime.estimator/2"), "schema 'laptime.estimator/2', this laptime reads laptime.estimator/1"),
    (_set("domain/high/0", "wide"), "not an estimator's description"),
    (_set("domain/low", []), "its domain don't fit together"),
    (_set("domain/kinds/0", "sqrt"), "its domain don't fit together"),
    (_set("files", {}), "names no residuals.parquet"),
    (_set("files", {"../../etc/passwd": "0"}), "names a file '../../etc/passwd' that no estimator has"),
    (_set("files", {"trees-/../../x.txt": "0"}), "that no estimator has"),
    (_set("answers", []), "has no answer for beyond"),
    (_set("answers/0/residuals", 3), "residuals of inside, not 3"),
    (_set("answers/0/spread", -1.0), "out of range"),
    (_set("answers/0/trees", "trees-none.txt"), "but no such file"),
    (_set("answers/0/terms/rates", []), "its roofline terms don't fit together"),
    (_set("answers/0/terms/terms/columns", [99]), "its roofline terms don't fit together"),
    (_set("answers/0/clamps", [{"column": 9, "low": 0, "high": 1}]), "its clamps don't fit together"),
    (_set("known/columns", [5]), "its groups don't fit together"),
]


@pytest.mark.parametrize(("change", "line"), MANIFESTS, ids=[line for _, line in MANIFESTS])
def test_a_manifest_that_lies_is_one_clear_line(folder: Path, change: Any, line: str) -> None:
    edited(folder, change)
    with pytest.raises(LaptimeError) as caught:
        laptime.Estimator.load(folder)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ("left_child=1", "left_child=900000", "from parents to children"),
        ("left_child=1", "left_child=0", "from parents to children"),
        ("left_child=1", "left_child=-5000", "leaf that there is not"),
        ("split_feature=", "split_feature=77 ", "values of split_feature"),
        ("max_feature_idx=1", "max_feature_idx=7", "features, not"),
        ("num_leaves=", "num_leaves=9", "values of split_feature"),
        ("num_leaves=", "num_leaves=999999", "out of range"),
        ("leaf_value=", "leaf_value=nan ", "values of leaf_value"),
        ("decision_type=2", "decision_type=1", "unknown kind"),
        ("num_cat=0", "num_cat=3", "categorical splits"),
        ("num_class=1", "num_class=5", "num_class is not 1"),
        ("tree\n", "shrub\n", "doesn't start"),
        ("threshold=", "threshold=\x00", "is no number"),
        ("Tree=0", "Tree=0\nnum_cat=0\nnum_cat=0", "given twice"),
    ],
)
def test_trees_that_lie_never_reach_lightgbm(folder: Path, before: str, after: str, what: str) -> None:
    text = trees_of(folder)
    assert before in text
    with_trees(folder, text.replace(before, after, 1))
    with pytest.raises(LaptimeError, match=what) as caught:
        laptime.Estimator.load(folder)
    assert "trees-" in str(caught.value)


def test_garbage_in_place_of_each_file_is_one_clear_line(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for file in sorted(folder.iterdir()):
        before = file.read_bytes()
        for content in (b"", b"null", b"[" * 100_000, rng.bytes(5000), before[: len(before) // 2]):
            file.write_bytes(content)
            with pytest.raises(LaptimeError) as caught:
                laptime.Estimator.load(folder)
            assert "\n" not in str(caught.value)
        file.write_bytes(before)


def test_residuals_of_another_shape_are_refused(folder: Path) -> None:
    file = folder / "residuals.parquet"
    for frame in (pl.DataFrame({"x": [1]}), pl.read_parquet(file).reverse(), pl.read_parquet(file).head(3)):
        frame.write_parquet(file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        edited(folder, _set("files/residuals.parquet", digest))
        with pytest.raises(LaptimeError, match=r"residuals"):
            laptime.Estimator.load(folder)


def test_no_folder_and_no_place_to_write(tmp_path: Path, fitted: laptime.Estimator) -> None:
    with pytest.raises(LaptimeError, match="nowhere: no such folder"):
        laptime.Estimator.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LaptimeError, match="holds no estimator"):
        laptime.Estimator.load(tmp_path / "empty")
    (tmp_path / "file").write_text("")
    with pytest.raises(LaptimeError, match="is a file; name a folder"):
        fitted.save(tmp_path / "file")
    with pytest.raises(LaptimeError, match="not fitted yet"):
        laptime.Estimator(target="ms", features=["x"]).save(tmp_path / "empty")


def test_a_text_written_anew_is_the_same_model(folder: Path) -> None:
    text = trees_of(folder)
    assert checked(text, "again") == text
