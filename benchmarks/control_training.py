"""How many decisions a minute training learns from, and how long one decision takes.

    python benchmarks/control_training.py [--questions 400] [--steps 200] [--out]

The table is of synthetic questions (tests/control/worlds.py) with 18 choices. A decision of training is a trajectory (a
tier, then top-k and blocks) that is drawn, rewarded and learned from. The peer draws and rewards the same decisions one
at a time, as a loop over questions does, and learns nothing. --out writes benchmarks/results/control_training.json.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from recorded import record

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import laptime  # noqa: E402
from laptime.control.policies.learned import GrpoPolicy  # noqa: E402
from laptime.control.policies.policy import Needs, decide_twice  # noqa: E402
from laptime.control.tables.features import language_features, pixel_features  # noqa: E402
from laptime.control.training.grpo import GrpoSettings, train_grpo  # noqa: E402
from laptime.control.training.supervised import train_supervised  # noqa: E402
from laptime.estimate.reward import rewards  # noqa: E402
from tests.control.worlds import SPACE, WORDS, World, world  # noqa: E402

VARIANTS = {
    "grpo, budget": Needs(),
    "grpo, budget and words": Needs(language=True),
    "grpo, budget, words, pixels, hidden": Needs(language=True, pixels=True, hidden=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/control_training.json")
    asked = parser.parse_args()
    data = world(asked.questions)
    one_by_one = decisions_one_by_one(data)
    print(f"one at a time{'':34s} {one_by_one / 1e6:8.2f} M decisions/min (nothing learned)")
    per_minute: dict[str, float] = {}
    policy: GrpoPolicy | None = None
    for name, needs in VARIANTS.items():
        settings = GrpoSettings(steps=asked.steps, patience=asked.steps, imitation=0, reference="uniform")
        policy, curve = train_grpo(data.train, data.features, data.bounds, needs=needs, settings=settings, name=name)
        per_minute[name] = curve.decisions / curve.seconds * 60
        print(
            f"{name:47s} {per_minute[name] / 1e6:8.2f} M decisions/min, {per_minute[name] / one_by_one:.0f} times that"
        )
    began = time.perf_counter()
    train_supervised(data.train, data.features, data.bounds)
    supervised_s = time.perf_counter() - began
    print(f"supervised, the whole training{'':18s} {supervised_s:7.2f} s")
    assert policy is not None
    deciding = deciding_us(data, policy)
    for part, microseconds in deciding.items():
        print(f"{part:47s} {microseconds:8.1f} us")
    if not asked.out:
        return
    figures = {
        "decisions_per_minute": per_minute,
        "one_at_a_time_per_minute": one_by_one,
        "supervised_s": supervised_s,
        "deciding_us": deciding,
        "questions": len(data.train),
        "choices": len(SPACE),
    }
    environment = {
        "python": platform.python_version(), "numpy": np.__version__, "torch": str(torch.__version__),
        "torch_threads": torch.get_num_threads(), "laptime": laptime.__version__, "platform": platform.platform(),
        "processors": os.cpu_count(), "load": os.getloadavg()[0],
    }  # fmt: skip
    print(record("control_training", figures, environment).name)


def decisions_one_by_one(data: World, count: int = 3000) -> float:
    """Decisions a minute of a loop: a question and a budget, features, two networks, a reward."""
    needs = VARIANTS["grpo, budget, words, pixels, hidden"]
    policy, _ = train_grpo(data.train, data.features, data.bounds, needs=needs, settings=GrpoSettings(steps=1))
    features = data.features.of(data.train.sample_ids, SPACE)
    own = data.bounds.at_tokens(data.train.output_tokens)
    rng = np.random.default_rng(0)
    began = time.perf_counter()
    for _ in range(count):
        row, ms = int(rng.integers(len(data.train))), float(rng.uniform(10, 40))
        number = decide_twice(policy, features, row, data.bounds.budget(ms, features.language[row]))
        rewards(data.train.score[row, number], own[row, number], ms)
    return count / (time.perf_counter() - began) * 60


def deciding_us(data: World, policy: GrpoPolicy) -> dict[str, float]:
    """Medians of what is done on the host for one answer, without a device."""
    before, after = data.features.seen(0), data.features.seen(0, 1)
    image = np.random.default_rng(0).integers(0, 256, (672, 672, 3), dtype=np.uint8)
    budget = data.bounds.budget(20.0, before.language)
    parts: dict[str, Callable[[], object]] = {
        "features of the words": lambda: language_features(WORDS["read"]),
        "features of a 672 x 672 image": lambda: pixel_features(image),
        "tokens, bounds and budget": lambda: data.bounds.budget(20.0, before.language, 1.1, 1.05),
        "decision before the vision tower": lambda: policy.decide(before, budget),
        "decision after the early block": lambda: policy.decide(after, budget),
    }
    by_part = {name: microseconds(part) for name, part in parts.items()}
    return by_part | {"all of it": sum(by_part.values())}


def microseconds(part: Callable[[], object], rounds: int = 15, calls: int = 200) -> float:
    """The median over rounds of the mean time of a call."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(calls):
            part()
        taken.append((time.perf_counter() - began) / calls * 1e6)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
