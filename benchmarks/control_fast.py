"""The controller on FastModel, on glyphs: answers, knobs, bounds learnt there, and what is in time. Needs a GPU.

    python benchmarks/control_fast.py
    python -m examples.glyphs.widen --out runs/glyphs-wide        # 1.9 billion weights, the same answers
    python benchmarks/control_fast.py --model runs/glyphs-wide --name control-fast-wide

First, in float32, tokens are compared with those of the model's own generate(). Every setting of crops, experts and
blocks is measured on the questions to learn from. One half of them trains GRPO and the supervised policy; the other
half gives the bounds and what may be late. The simple peers learn from both. Then held-out questions are asked under
five budgets by all of them, side by side, with online correction (laptime.control.judge.contest).
benchmarks/results/NAME.json, and NAME.html beside it.
With --device cpu it runs in plain torch: a rehearsal, no figures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter
from typing import Any

import msgspec
import numpy as np
import torch

from recorded import record

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from examples.glyphs.write_questions import write_questions  # noqa: E402

import laptime  # noqa: E402
from laptime.control.adaptive_model import AdaptiveModel  # noqa: E402
from laptime.control.bounds.bounds import GRID, Bounds  # noqa: E402
from laptime.control.bounds.lengths import fit_lengths  # noqa: E402
from laptime.control.bounds.measured_bounds import MeasuredTimes, measured_bounds, times_of  # noqa: E402
from laptime.control.choices import ChoiceSpace, Tier  # noqa: E402
from laptime.control.judge.contest import Contest, contest  # noqa: E402
from laptime.control.judge.lineup import Training, leeways_of, lineup  # noqa: E402
from laptime.control.judge.replay import spread_budgets  # noqa: E402
from laptime.control.policies.policy import Needs  # noqa: E402
from laptime.control.policies.static import StaticPolicy, static_policy  # noqa: E402
from laptime.control.question import inputs_for, opened  # noqa: E402
from laptime.control.tables.collection import facts_of  # noqa: E402
from laptime.control.tables.decision_table import DecisionTable, question_type  # noqa: E402
from laptime.control.tables.feature_table import FeatureTable  # noqa: E402
from laptime.control.tables.features import language_features  # noqa: E402
from laptime.control.training.kinds import PolicySpec, train_policy  # noqa: E402
from laptime.decoder import FastModel  # noqa: E402
from laptime.measure.session import quiet_collector  # noqa: E402
from laptime.models.knob_switch import LateKnobs  # noqa: E402
from laptime.models.loading import load_model  # noqa: E402
from laptime.workload.datasets import answer_text  # noqa: E402
from laptime.workload.inputs import generation_arguments  # noqa: E402
from laptime.workload.jsonl import read_jsonl  # noqa: E402
from laptime.workload.scoring import score  # noqa: E402

TIERS = (Tier("low", 1, 3), Tier("medium", 4, 8), Tier("high", 9, 15))
MOST, BUDGETS, NEEDS = 6, 5, Needs(language=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="examples/glyphs/model")
    parser.add_argument("--learn", type=int, default=240, help="questions to learn from: half trains, half bounds")
    parser.add_argument("--held-out", type=int, default=150)
    parser.add_argument("--blocks", default="2,4,6,8")
    parser.add_argument("--equal", type=int, default=200, help="questions whose answers are compared in float32")
    parser.add_argument("--steps", type=int, help="of training; the policies' own unless given")
    parser.add_argument("--seconds", type=float, default=560, help="no further question is asked after that")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--name", default="control-fast")
    return parser.parse_args()


def main() -> None:
    """Measure every choice, learn, then ask."""
    began, asked = monotonic(), parsed()
    device = asked.device
    loaded = load_model(asked.model, device=device, dtype="bfloat16" if device == "cuda" else "float32")
    own = facts_of(loaded).top_k or 1
    space = ChoiceSpace(tiers=TIERS, top_ks=(max(1, own // 4), own), blocks=tuple(map(int, asked.blocks.split(","))))
    with tempfile.TemporaryDirectory() as folder:
        file = write_questions(Path(folder), split="test", samples=asked.learn + asked.held_out, first=5000)
        examples = read_jsonl(file)
        equal = equal_in_float32(asked, [opened(example) for example in examples[-asked.equal :]])
        run(asked, loaded, space, examples, began, equal)


def equal_in_float32(asked: argparse.Namespace, questions: Any) -> str:
    """For how many questions FastModel says the very tokens of generate(), both in float32."""
    if not questions:
        return "not compared"
    loaded, same = load_model(asked.model, device=asked.device, dtype="float32"), 0
    with FastModel(loaded.model) as fast:
        for question in questions:
            inputs = inputs_for(loaded, question, None, MOST).kwargs  # the processor's own cut is the high tier's
            call = {**inputs, "max_new_tokens": MOST, "do_sample": False}
            same += torch.equal(loaded.model.generate(**call), fast.generate(**call))
    print(f"equal to eager in float32: {same} of {len(questions)}", flush=True)
    return f"{same} of {len(questions)}"


def run(asked: argparse.Namespace, loaded: Any, space: ChoiceSpace, examples: Any, began: float, equal: str) -> None:
    questions = [opened(example) for example in examples]
    language = np.stack([language_features(question.text) for question in questions])
    count, ids = len(space), tuple(example.id for example in examples)
    tokens = np.full((len(ids), count), MOST, dtype=np.int32)
    empty = Bounds(
        space=space,
        model=facts_of(loaded),
        confidence=0.95,
        lengths=fit_lengths(language, tokens, MOST, space)[0],
        known_ms=np.full((MOST, count), 1e6),
        median_ms=np.full((MOST, count), 1e6),
        grid_ms=np.tile(np.linspace(1e5, 1e6, GRID), (count, 1)),
        within=np.linspace(0, 1, GRID, dtype=np.float32)[None, None].repeat(count, 0),
        level=np.full(count, 0.95),
    )
    dearest = StaticPolicy(space=space, accuracy=np.ones(count), bound_ms=np.full(count, 1e6))
    adaptive = AdaptiveModel(loaded, dearest, empty, fast=True)
    assert adaptive.fast is not None
    adaptive.warm_up(questions[0], 2)
    for question in (min(questions, key=_length), max(questions, key=_length)):  # prompts fall into other buckets
        adaptive.warm_up(question, 1)
    print(f"every choice is warm after {monotonic() - began:.0f} s", flush=True)
    held = slice(asked.learn, None)
    same, plain_ms = equal_to_eager(loaded, adaptive, questions[held], asked.device)
    print(f"equal to eager {same}, eager {plain_ms:.1f} ms a call", flush=True)
    with quiet_collector():
        times, tokens, right, stages = measured(loaded, adaptive, examples, questions)
    adaptive.close()
    print(f"every choice is measured after {monotonic() - began:.0f} s", flush=True)
    table = DecisionTable(
        space=space,
        model=facts_of(loaded),
        sample_ids=ids,
        question_types=tuple(map(question_type, ids)),
        score=right.astype(np.float32),
        output_tokens=tokens,
        total_ms=times.total_ms,
        prompt_tokens=np.zeros_like(tokens),
        image_tokens=np.zeros_like(tokens),
        crops=np.zeros_like(tokens),
        most_tokens=MOST,
    )
    features = FeatureTable(
        sample_ids=ids,
        model=table.model,
        tiers=space.tiers,
        early_block=1,
        language=language,
        pixels=np.zeros((len(ids), 0), np.float32),
        hidden=np.zeros((len(ids), len(space.tiers), 0), np.float32),
    )
    learn = table.take(np.arange(asked.learn))
    train, rest = learn.half("train"), learn.half("held-out")
    rows = np.array([table.row(name) for name in rest.sample_ids])
    lengths, _ = fit_lengths(features.of(train.sample_ids, space).language, train.output_tokens, MOST, space)
    start = np.full((lengths.most, count), 1e6)
    within = np.zeros((count, len(lengths.counts), GRID), dtype=np.float32)
    base = {"lengths": lengths, "known_ms": start, "median_ms": start, "within": within}
    bounds = measured_bounds(
        msgspec.structs.replace(empty, **base), MeasuredTimes(*(part[rows] for part in times)), language[rows]
    )
    saved = [
        train_policy(learn, features, bounds, PolicySpec(kind=kind, needs=NEEDS, steps=asked.steps))
        for kind in ("grpo", "supervised")
    ]
    for one in saved:
        print(f"{one.policy.name}: leeway {one.leeway}", flush=True)
    training = Training(learn, language[: asked.learn])  # peers know all that the trained policies know
    trained = [one.policy for one in saved]
    everyone = lineup(trained, training, table.take(np.arange(asked.learn, len(ids))), bounds)
    budgets = spread_budgets(rest, bounds, language[rows], static_policy(learn, bounds), BUDGETS)
    print(f"policies have learnt after {monotonic() - began:.0f} s; budgets {budgets} ms", flush=True)
    left = max(1.0, asked.seconds - (monotonic() - began))
    evaluation, outcomes = contest(
        loaded,
        everyone,
        msgspec.structs.replace(bounds, fast=True),
        examples[held],
        Contest(
            budgets_ms=budgets,
            compared=["grpo"],
            leeways=leeways_of(saved),
            kind="exact",
            limit_s=left,
        ),
    )
    laptime.show(evaluation)
    learnt_ms = np.nanmedian(times.total_ms[: asked.learn], axis=0)
    slower = [(one.total_ms - one.deciding_ms) / learnt_ms[one.choice] for one in outcomes]
    live = dict(zip(("p5", "median", "p95"), np.quantile(slower, (0.05, 0.5, 0.95)).round(3).tolist(), strict=True))
    print(f"answers took {live} of what their setting took while learning", flush=True)
    usual = {
        str(space.choice(number)): {
            "total_ms": round(float(np.median(times.total_ms[:, number])), 3),
            "step_ms": round(float(np.nanmedian(times.step_ms[:, number])), 4),
            **{f"{name}_ms": round(float(np.nanmedian(one[:, number])), 3) for name, one in stages.items()},
            "right": round(float(right[:, number].mean()), 3),
        }
        for number in range(count)
    }
    figures = {
        "learn": asked.learn,
        "equal_in_float32": equal,
        "equal_to_eager": same,
        "eager_ms": round(plain_ms, 2),
        "choices": usual,
        "live_over_learnt": live,
        "evaluation": evaluation,
    }
    written = record(asked.name, figures, evaluation.environment)
    written.with_suffix(".html").write_text(laptime.page(evaluation), encoding="utf-8")
    print("written to", written)


def _length(question: Any) -> int:
    return len(question.text)


def equal_to_eager(loaded: Any, adaptive: AdaptiveModel, questions: Any, device: str) -> tuple[str, float]:
    """How many answers of the dearest setting are the model's own, and the median of its own eager call in ms."""
    arguments = generation_arguments(new_tokens=MOST, cache=None, compile=False)
    tier = adaptive.space.tiers[-1]
    same, taken = 0, []
    for question in questions:
        with adaptive.switch.crops((tier.low, tier.high)):
            inputs = inputs_for(loaded, question, (tier.low, tier.high), MOST).kwargs
            began = perf_counter()
            own = loaded.model.generate(**inputs, **arguments)
            if device == "cuda":
                torch.cuda.synchronize()
            taken.append((perf_counter() - began) * 1e3)
            assert adaptive.fast is not None
            sample = adaptive.fast.answer(inputs, arguments, LateKnobs(None, None), None)
        mine = answer_text(loaded, sample.output_ids[0])
        same += mine == answer_text(loaded, own[0, inputs["input_ids"].shape[1] :].tolist())
    return f"{same} of {len(questions)}", median(taken)


def measured(
    loaded: Any, adaptive: AdaptiveModel, examples: Any, questions: Any
) -> tuple[MeasuredTimes, Any, Any, dict[str, Any]]:
    """Times, answer lengths, scores and two stages in ms, of every choice: (questions, choices)."""
    shape = (len(questions), len(adaptive.space))
    before, step, total = (np.full(shape, np.nan) for _ in range(3))
    tokens, right = np.ones(shape, dtype=np.int32), np.zeros(shape)
    stages = {"vision": np.full(shape, np.nan), "prefill": np.full(shape, np.nan)}
    arguments = generation_arguments(new_tokens=MOST, cache=None, compile=False)
    for row, (example, question) in enumerate(zip(examples, questions, strict=True)):
        made_for: dict[tuple[int, int], Any] = {}
        for number in range(len(adaptive.space)):
            choice = adaptive.space.choice(number)
            assert choice.tier is not None and adaptive.fast is not None
            crops = (choice.tier.low, choice.tier.high)
            with adaptive.switch.crops(crops):
                if crops not in made_for:
                    made_for[crops] = inputs_for(loaded, question, crops, MOST).kwargs
                knobs = LateKnobs(choice.top_k, choice.blocks)
                made = -1
                while made != adaptive.fast.model.made:  # not a call that captured a graph
                    made = adaptive.fast.model.made
                    sample = adaptive.fast.answer(made_for[crops], arguments, knobs, None)
            tokens[row, number] = sample.output_tokens or 1
            for kept, ((value,),) in zip((before, step, total), times_of([[sample]]), strict=True):
                kept[row, number] = value
            for name, kept in stages.items():
                kept[row, number] = getattr(sample.stages, f"{name}_ms")
            right[row, number] = score("exact", answer_text(loaded, sample.output_ids[0]), example)
    return MeasuredTimes(before, step, total), tokens, right, stages


if __name__ == "__main__":
    main()
