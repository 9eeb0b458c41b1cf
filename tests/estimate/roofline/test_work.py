"""Columns of work in an estimator of laptime's own runs: used where they help, and saved with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from laptime import Estimator
from laptime.errors import LaptimeError
from laptime.estimate.roofline.roofline import CallSizes, Rates, floor_ms, work
from laptime.estimate.roofline.work import Work, known_shape, work_of_run
from laptime.estimate.table.reading import run_columns

GPU = Rates(bandwidth_gb_s=1000, tflop_s=300, launch_us=0.5)
MODELS = ("preset:qwen3-4b", "preset:llama-3-8b", "preset:olmoe-1b-7b", "preset:qwen2.5-vl-3b")


def step_ms(model: str, prompt: float, batch: float) -> float:
    """The law: 1.3 times the floor of a decode step, and 2 ms."""
    shape = known_shape(model)
    assert shape is not None
    done = work(shape, CallSizes(prompt, 16.0, batch, 0.0, float(shape.blocks), float(shape.top_k)))
    return 2.0 + 1.3 * float(floor_ms(done["decode_gflop"], done["decode_gb"], done["launches"], GPU))


def run_frame(models: tuple[str, ...] = MODELS, *, noise: float = 0.02, prompts: int = 5) -> pl.DataFrame:
    """What a sweep over prompts and batches leaves, of several models."""
    rng = np.random.default_rng(0)
    rows = []
    for model in models:
        for prompt in [2 ** (7 + i) for i in range(prompts)]:
            for batch in (1, 2, 4, 8):
                for repeat in range(3):
                    took = step_ms(model, prompt, batch) * float(np.exp(noise * rng.standard_normal()))
                    rows.append(
                        {
                            "config_id": f"{model}{prompt}{batch}", "repeat": repeat, "prompt_tokens": prompt,
                            "batch": batch, "output_tokens": 16, "decode_per_token_ms": took, "config.model": model,
                        }
                    )  # fmt: skip
    return pl.DataFrame(rows)


def fitted(frame: pl.DataFrame, *, offered: bool = True) -> Estimator:
    columns = run_columns(frame, "decode_per_token_ms")
    found = work_of_run(frame, columns.target, columns.features, columns.categorical) if offered else None
    return Estimator(target=columns.target, features=columns.features, categorical=columns.categorical, work=found).fit(
        frame, threads=1
    )


@pytest.fixture(scope="module")
def of_three() -> Estimator:
    return fitted(run_frame(MODELS[:3]))


def error(estimator: Estimator, asked: pl.DataFrame) -> float:
    return float(np.mean(np.abs(estimator.predict(asked) / asked["decode_per_token_ms"].to_numpy() - 1)))


def test_a_model_that_was_never_seen_is_known_by_its_work(of_three: Estimator) -> None:
    other = run_frame(MODELS[3:], noise=0.0)
    assert error(of_three, other) < 0.1
    assert error(fitted(run_frame(MODELS[:3]), offered=False), other) > 0.3
    assert {one.question for one in of_three.support(other)} == {"level"}


def test_larger_sizes_than_measured_follow_the_work() -> None:
    table, larger = run_frame(MODELS[:1], prompts=4), run_frame(MODELS[:1], prompts=7, noise=0.0)
    beyond = larger.filter(pl.col("prompt_tokens") > 1024)
    made = fitted(table)
    assert made.work is not None and made.work.model == MODELS[0]
    assert error(made, beyond) < 0.08
    assert error(fitted(table, offered=False), beyond) > 0.1


def test_the_card_names_the_work_and_its_rates(of_three: Estimator) -> None:
    terms = [term for choice in of_three.card.choices for term in choice.terms]
    assert any("roofline.decode_gb" in term for term in terms)
    assert any(score.candidate.basis == "work" for score in of_three.card.scores)


def test_what_was_saved_answers_the_same(of_three: Estimator, tmp_path: Path) -> None:
    of_three.save(tmp_path / "est")
    again = Estimator.load(tmp_path / "est")
    asked = run_frame(noise=0.0)
    assert (again.predict(asked) == of_three.predict(asked)).all()
    assert (again.quantile(asked, 0.9) == of_three.quantile(asked, 0.9)).all()


def test_a_model_of_which_nothing_is_known_is_named(of_three: Estimator) -> None:
    strange = run_frame(MODELS[:1]).with_columns(pl.lit("nobody/nothing").alias("config.model"))
    with pytest.raises(LaptimeError, match="nothing is known of the model 'nobody/nothing'"):
        of_three.predict(strange)


@pytest.mark.parametrize(
    "change",
    [
        pl.lit("nobody/nothing").alias("config.model"),
        pl.lit(None, pl.String).alias("config.model"),
    ],
)
def test_without_a_known_model_there_is_no_work(change: pl.Expr) -> None:
    frame = run_frame(MODELS[:1])
    assert work_of_run(frame, "decode_per_token_ms", ["prompt_tokens", "batch"], []) is not None
    assert work_of_run(frame.with_columns(change), "decode_per_token_ms", ["prompt_tokens", "batch"], []) is None
    assert work_of_run(frame, "other_ms", ["prompt_tokens", "batch"], []) is None
    assert work_of_run(frame, "vision_ms", ["prompt_tokens", "batch"], []) is None, "a text model has none"
    assert work_of_run(frame.drop("prompt_tokens"), "decode_per_token_ms", ["batch"], []) is None


def test_floors_need_rates_and_the_total_has_every_stages_work() -> None:
    frame = run_frame(MODELS[:1]).with_columns(pl.Series("output_tokens", [4, 8, 16] * 20))
    features = ["prompt_tokens", "batch", "output_tokens"]
    without, floors = (work_of_run(frame, "total_ms", features, [], rates) for rates in (None, GPU))
    assert without is not None and floors is not None
    assert not [name for name in without.columns if name.endswith("_ms")]
    assert {"prefill_ms", "steps*decode_per_token_ms"} <= set(floors.columns)
    shape = known_shape(MODELS[0])
    assert shape is not None
    sizes = {"prompt_tokens": 100.0, "batch": 2.0, "output_tokens": 9.0}
    one, step = (
        dict(zip(names, Work(columns=names, constants={}, model=None, shapes={}).of(sizes, shape), strict=True))
        for names in (["steps*decode_gb"], ["decode_gb"])
    )
    assert one["steps*decode_gb"] == pytest.approx(8 * step["decode_gb"])


def damaged(folder: Path, change: dict[str, object]) -> None:
    content = json.loads((folder / "estimator.json").read_text())
    content["columns"]["work"].update(change)
    (folder / "estimator.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        {"columns": []},
        {"columns": ["decode_gb", "decode_gb"]},
        {"columns": ["no such"]},
        {"columns": ["decode_per_token_ms"]},
        {"constants": {"no such": 1.0}},
        {"model": "another"},
        {"shapes": {}, "model": "preset:qwen3-4b"},
        {"rates": {"bandwidth_gb_s": 0.0, "tflop_s": 1.0, "launch_us": 1.0, "launches_per_block": 1.0}},
    ],
)
def test_damaged_work_is_one_line(of_three: Estimator, tmp_path: Path, change: dict[str, object]) -> None:
    of_three.save(tmp_path)
    damaged(tmp_path, change)
    with pytest.raises(LaptimeError, match="don't fit together"):
        Estimator.load(tmp_path)


def test_a_shape_out_of_range_is_one_line(of_three: Estimator, tmp_path: Path) -> None:
    for key, value in (("hidden", 10**30), ("blocks", -1), ("weight_bytes", 1e300)):
        of_three.save(tmp_path, force=True)
        content = json.loads((tmp_path / "estimator.json").read_text())
        content["columns"]["work"]["shapes"][MODELS[0]][key] = value
        (tmp_path / "estimator.json").write_text(json.dumps(content))
        with pytest.raises(LaptimeError):
            Estimator.load(tmp_path)
