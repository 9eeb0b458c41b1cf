"""Policies judged on a GPU's sweep without the GPU: what each decision would have scored and taken, as it was measured.

    python benchmarks/control_replayed.py runs/control-glyphs --keep cold,foreign-process --name control_replayed-h100

The folder is control_glyphs.py's: sweep, estimator and features, made on the machine that the result names. What
deciding takes there isn't in it (control_cost.py measures that).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
import numpy as np
from transformers import AutoConfig

from laptime.cli.columns import load_estimator
from laptime.cli.control_sweep import scored_sweep
from laptime.control.analytic import analytic_ms, nominal_rates, relative_ms
from laptime.control.feature_table import read_features
from laptime.control.lineup import lineup
from laptime.control.make_bounds import make_bounds
from laptime.control.policies.policy import Needs
from laptime.control.replay import replayed_evaluation, spread_budgets
from laptime.control.slow_stream import StreamSettings, online_baseline, slow_down, slow_stream
from laptime.control.training.grpo import train_grpo
from laptime.control.training.supervised import train_supervised
from laptime.report.control_page import control_page
from laptime.runs import read_info
from recorded import record

MODEL = Path(__file__).parent.parent / "examples" / "glyphs" / "model"
SLOWER = 1.5


def main() -> None:
    """Train, replay, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keep", default="")
    parser.add_argument("--name", default="control_replayed")
    asked = parser.parse_args()
    features = read_features(asked.folder / "features")
    one = scored_sweep(asked.folder / "sweep", features.model, asked.keep)
    environment = read_info(asked.folder / "sweep").environment
    train, held_out = one.table.half("train"), one.table.half("held-out")
    language = features.of(train.sample_ids, train.space).language
    bounds = make_bounds(load_estimator(asked.folder / "estimator", None), train, language)
    grpo, curve = train_grpo(train, features, bounds)
    by_words, _ = train_grpo(train, features, bounds, needs=Needs(language=True), name="grpo-language")
    by_budget, _ = train_grpo(train, features, bounds, needs=Needs(), name="grpo-budget")
    supervised, _ = train_supervised(train, features, bounds)
    config = AutoConfig.from_pretrained(MODEL).to_dict()
    alone = analytic_ms(train, config, nominal_rates(environment.gpu), weight_bytes=2 if environment.gpu else 4)
    arithmetic = relative_ms(alone, float(np.median(train.total_ms, axis=0).max()))
    everyone = lineup([grpo, by_words, by_budget, supervised], train, held_out, bounds, arithmetic)
    mine = features.of(held_out.sample_ids, held_out.space)
    budgets = spread_budgets(held_out, bounds, mine.language)
    found = replayed_evaluation(everyone, held_out, features, bounds, budgets, compared=[grpo.name])
    baseline, settings = online_baseline(train, bounds, language), StreamSettings(factor=SLOWER)
    middle = budgets[len(budgets) // 2] * SLOWER
    slow = [
        slow_down(
            slow_stream(grpo, held_out, mine, bounds, middle, baseline, settings, online=online),
            at=settings.at,
            settling=settings.settling,
            factor=SLOWER,
            how="measured times multiplied",
            online=online,
        )
        for online in (False, True)
    ]
    found = msgspec.structs.replace(
        found, model="examples/glyphs/model", training=[curve], slow_downs=slow, environment=environment
    )
    for point in found.points:
        print(
            f"{point.budget_ms:7.1f} ms  {point.policy:28} right {point.accuracy.value:.3f} "
            f"in time {point.attainment.value:.3f}  median {point.total_ms.value:.1f} ms"
        )
    for pair in found.differences:
        if pair.than in ("static", "lookup, told less", "lookup"):
            ends = f"{pair.accuracy.low:+.3f} to {pair.accuracy.high:+.3f}" if pair.accuracy.low is not None else "?"
            print(f"{pair.budget_ms:7.1f} ms  {pair.policy} - {pair.than}: {pair.accuracy.value:+.3f} ({ends})")
    target = record(asked.name, found, environment)
    target.with_suffix(".html").write_text(control_page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
