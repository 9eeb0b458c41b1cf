"""The controller on FastModel, on glyphs: answers, knobs, bounds learnt there, and what is in time. Needs a GPU.

    python benchmarks/control_fast.py

Every setting of crops, experts and blocks is measured on the calibration questions, and the bounds and accuracies are
learnt from them. Then held-out questions are asked under five budgets by two policies with the same bounds: the best
setting for all questions, and the best for the question's type. benchmarks/results/control-fast.json.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import torch
from examples.glyphs.write_questions import type_of, write_questions

from laptime.control.adaptive_model import AdaptiveModel
from laptime.control.bounds.bounds import GRID, Bounds
from laptime.control.bounds.lengths import fit_lengths
from laptime.control.bounds.measured_bounds import MeasuredTimes, measured_bounds
from laptime.control.choices import ChoiceSpace, Tier
from laptime.control.policies.policy import Needs
from laptime.control.question import inputs_for, opened
from laptime.control.tables.collection import facts_of
from laptime.control.tables.features import language_features
from laptime.data.stats import wilson
from laptime.measure.environment import describe
from laptime.models.knob_switch import LateKnobs
from laptime.models.loading import load_model
from laptime.workload.datasets import answer_text
from laptime.workload.inputs import generation_arguments
from laptime.workload.jsonl import read_jsonl
from laptime.workload.scoring import score
from recorded import record

MODEL = Path(__file__).parents[1] / "examples" / "glyphs" / "model"
SPACE = ChoiceSpace(
    tiers=(Tier("low", 1, 1), Tier("medium", 4, 4), Tier("high", 9, 9)), top_ks=(1, 4), blocks=(2, 4, 6, 8)
)
CALIBRATION, HELD_OUT, MOST = 100, 200, 6
BUDGETS = 5


class Best:
    """The most accurate choice whose bound keeps the budget. accuracy (types, choices); centres (types, L)."""

    space = SPACE

    def __init__(self, name: str, accuracy: Any, centres: Any) -> None:
        self.name, self.accuracy, self.centres = name, accuracy, centres
        self.needs = Needs(language=True, pixels=False, hidden=False)

    def decide(self, seen: Any, budget: Any) -> int:
        own = self.accuracy[int((self.centres @ seen.language).argmax())]
        fits = budget.bound_ms <= budget.ms
        if not fits.any():
            return int(budget.bound_ms.argmin())
        return int(np.lexsort((budget.bound_ms, -np.where(fits, own, -1.0)))[0])


def main() -> None:
    """Calibrate, then ask."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load_model(str(MODEL), device=device, dtype="bfloat16" if device == "cuda" else "float32")
    with tempfile.TemporaryDirectory() as folder:
        file = write_questions(Path(folder), split="test", samples=CALIBRATION + HELD_OUT, first=5000)
        examples = read_jsonl(file)
        questions = [opened(example) for example in examples]
    learn, held = slice(0, CALIBRATION), slice(CALIBRATION, None)
    language = np.stack([language_features(question.text) for question in questions])
    count = len(SPACE)
    empty = Bounds(
        space=SPACE,
        model=facts_of(loaded),
        confidence=0.95,
        lengths=fit_lengths(language[learn], np.full((CALIBRATION, count), MOST, dtype=np.int32), MOST, SPACE)[0],
        known_ms=np.full((MOST, count), 1e6),
        median_ms=np.full((MOST, count), 1e6),
        grid_ms=np.tile(np.linspace(1e5, 1e6, GRID), (count, 1)),
        within=np.linspace(0, 1, GRID, dtype=np.float32)[None, None].repeat(count, 0),
        level=np.full(count, 0.95),
    )
    accuracy = np.zeros((1, count))
    adaptive = AdaptiveModel(loaded, Best("any", accuracy, np.zeros((1, language.shape[1]))), empty, fast=True)
    assert adaptive.fast is not None
    adaptive.warm_up(questions[0], 2)
    same, plain_ms = equal_to_eager(loaded, adaptive, questions[held], device)
    print(f"equal to eager {same}, eager {plain_ms:.1f} ms a call", flush=True)
    times, tokens, right = calibrate(loaded, adaptive, examples[learn], questions[learn])
    lengths, _ = fit_lengths(language[learn], tokens, int(tokens.max()), SPACE)
    start = np.full((lengths.most, count), 1e6)
    within = np.zeros((count, len(lengths.counts), GRID), dtype=np.float32)
    base = {"lengths": lengths, "known_ms": start, "median_ms": start, "within": within}
    bounds = measured_bounds(msgspec.structs.replace(empty, **base), times, language[learn])
    kinds = [type_of(example.id) for example in examples]
    names = sorted(set(kinds))
    of = np.array([names.index(kind) for kind in kinds])
    centres = np.stack([language[learn][of[learn] == kind].mean(axis=0) for kind in range(len(names))])
    by_type = np.stack([right[of[learn] == kind].mean(axis=0) for kind in range(len(names))])
    overall = right.mean(axis=0)[None]
    adaptive.close()
    policies = [Best("best fixed", overall, centres[:1]), Best("per type", by_type, centres)]
    judged = AdaptiveModel(loaded, policies[0], msgspec.structs.replace(bounds, fast=True))
    judged.warm_up(questions[0], 2)
    reach = [bounds.for_question(language_features(question.text))[0] for question in questions[:20]]
    budgets = np.geomspace(1.03 * np.max(np.min(reach, axis=1)), 1.03 * np.max(reach), BUDGETS)
    rows = []
    for budget in budgets:
        for policy in policies:
            judged.policy = policy
            scores, spent, deciding = [], [], []
            for example, question in zip(examples[held], questions[held], strict=True):
                answer = judged.generate(question, budget_ms=float(budget))
                assert answer.sample.decision is not None
                scores.append(score("exact", answer.text, example))
                spent.append(answer.spent_ms)
                deciding.append(answer.sample.decision.deciding_ms)
            late = int(np.sum(np.array(spent) > budget))
            interval = wilson(1 - late / len(spent), len(spent))
            rows.append(
                {
                    "budget_ms": round(float(budget), 2),
                    "policy": policy.name,
                    "in_time": round(1 - late / len(spent), 4),
                    "in_time_95": [interval.low, interval.high],
                    "accuracy": round(float(np.mean(scores)), 4),
                    "median_ms": round(median(spent), 2),
                    "deciding_ms": round(median(deciding), 3),
                }
            )
            print(*rows[-1].values(), flush=True)
    table = enumerate(knob_table(times, right))
    usual = {str(SPACE.choice(number)): [round(float(value), 3) for value in pair] for number, pair in table}
    print({key: usual[key] for key in list(usual)[:: max(1, len(usual) // 8)]})
    figures = {
        "questions": HELD_OUT,
        "calibration": CALIBRATION,
        "equal_to_eager": same,
        "eager_ms": round(plain_ms, 2),
        "choices": usual,
        "rows": rows,
    }
    print("written to", record("control-fast", figures, describe(torch.device(device))))
    judged.close()


def equal_to_eager(loaded: Any, adaptive: AdaptiveModel, questions: Any, device: str) -> tuple[str, float]:
    """How many answers of the dearest setting are the model's own, and the median of its own eager call in ms."""
    arguments = generation_arguments(new_tokens=MOST, cache=None, compile=False)
    tier = SPACE.tiers[-1]
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


def calibrate(loaded: Any, adaptive: AdaptiveModel, examples: Any, questions: Any) -> tuple[MeasuredTimes, Any, Any]:
    """Times, answer lengths and scores of every choice, (questions, choices)."""
    shape = (len(questions), len(SPACE))
    before, step, total = (np.full(shape, np.nan) for _ in range(3))
    tokens, right = np.ones(shape, dtype=np.int32), np.zeros(shape)
    arguments = generation_arguments(new_tokens=MOST, cache=None, compile=False)
    for row, (example, question) in enumerate(zip(examples, questions, strict=True)):
        for number in range(len(SPACE)):
            choice = SPACE.choice(number)
            assert choice.tier is not None and adaptive.fast is not None
            crops = (choice.tier.low, choice.tier.high)
            with adaptive.switch.crops(crops):
                inputs = inputs_for(loaded, question, crops, MOST).kwargs
                knobs = LateKnobs(choice.top_k, choice.blocks)
                sample = adaptive.fast.answer(inputs, arguments, knobs, None)
            decode, made = sample.stages.decode_ms or 0.0, sample.output_tokens or 1
            total[row, number], tokens[row, number] = sample.stages.total_ms, made
            before[row, number] = sample.stages.total_ms - decode
            step[row, number] = decode / (made - 1) if made > 1 else np.nan
            right[row, number] = score("exact", answer_text(loaded, sample.output_ids[0]), example)
    return MeasuredTimes(before, step, total), tokens, right


def knob_table(times: MeasuredTimes, right: Any) -> Any:
    """Median time and accuracy of each choice."""
    return np.stack([np.median(times.total_ms, axis=0), right.mean(axis=0)], axis=1)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
