"""A controller on a GPU, end to end: a sweep, an estimator, policies, and all of them judged by measured calls.

    python benchmarks/control_glyphs.py sweep judge --config benchmarks/sweeps/glyphs-gpu.yaml --questions 200 \\
        --seconds 540
    python benchmarks/control_docs.py                             # the figures into docs/appendix/control-figures.md

sweep: questions, sweep, audit, estimator, features. ask: further questions, scored and not timed, into
runs/control-glyphs-answers; they belong to the model, not to a machine, and policies and peers learn from them too.
judge: trained policies, measured evaluation, slow-down; with --seconds for all parts together, on as many held-out
questions as that time allows. Run sweep and judge on one machine, one after the other, since bounds are of the machine
that they were measured on. Files between them are in runs/control-glyphs.
On a CPU: --config examples/glyphs/demo.yaml --name control_glyphs-cpu. replay: the score and time that each decision
would have had, looked up in such a sweep (sweep, estimator, features in runs/control-glyphs), on any machine.
The slow-down is real: from the middle of the stream on, another process computes on the same device, as often as makes
calls about 1.5 times slower.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
import yaml

from laptime.cli.control_sweep import ScoredSweep, questions_of, score_kind, scored_sweep, with_answers
from laptime.control.adaptive_model import AdaptiveModel
from laptime.control.bounds.bounds import Bounds
from laptime.control.judge.contest import Examination, JudgedSweep, measured_evaluation
from laptime.control.judge.live import Contestant, stream
from laptime.control.judge.replay import spread_budgets
from laptime.control.judge.result import ControlEvaluation, SlowDown
from laptime.control.judge.slow_stream import slow_down
from laptime.control.policies.saved_policy import SavedPolicy, read_policy
from laptime.control.policies.static import static_policy
from laptime.control.question import OpenedQuestion, opened
from laptime.control.tables.feature_table import read_features
from laptime.data.run_folder import read_info
from laptime.models.loading import Loaded, load_model
from laptime.workload.example import pick
from recorded import record

HERE = Path(__file__).parent
REPO = HERE.parent
WORK = REPO / "runs" / "control-glyphs"
POLICIES = {
    "grpo": ["--policy", "grpo", "--sees", "language,hidden"],
    "grpo-pixels": ["--policy", "grpo", "--sees", "all"],
    "grpo-language": ["--policy", "grpo", "--sees", "language"],
    "grpo-budget": ["--policy", "grpo", "--sees", "none"],
    "supervised": ["--policy", "supervised", "--sees", "language,hidden"],
}
SPLIT, FURTHER = "evaluation", "further"
"""Pages that neither the model nor anything of how policies learn was tuned on, and others to learn from."""
ANSWERS = REPO / "runs" / "control-glyphs-answers"
SLOWER = 1.5
SLOW_DOWN_S = 45.0
"""Kept free of `--seconds` for the slow-down."""
PEERS = 7
"""Static, lookup twice, by means, by arithmetic, the oracle with and without bounds."""
CALLS_TAKE = 1.4
"""Times the sweep's median call: inputs are made between calls, and dear choices are chosen more often."""
THREADS = {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // len(POLICIES)))}
BURNER = """
import sys, threading, time, torch
on_gpu = torch.cuda.is_available()
side = 2048 if on_gpu else 512
a = torch.randn(side, side, device="cuda" if on_gpu else "cpu")
print("ready", flush=True)
pause = -1.0
def listen():
    global pause
    for line in sys.stdin:
        pause = float(line)
threading.Thread(target=listen, daemon=True).start()
while True:
    now = pause
    if now < 0:
        time.sleep(0.01)
        continue
    for _ in range(4):
        a @ a
    if on_gpu:
        torch.cuda.synchronize()
    time.sleep(now)
"""


Pauses = Callable[[float], None]
"""Sets how long the other process sleeps between bursts, in s; below 0 it rests."""


def laptime(*words: str | Path) -> None:
    """Run a verb of laptime, and say how long it took."""
    began = time.monotonic()
    print("$ laptime", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "laptime", *map(str, words)], cwd=REPO, check=False)
    print(f"  exit {done.returncode}, {time.monotonic() - began:.1f} s", flush=True)
    if done.returncode not in (0, 1):
        raise SystemExit(done.returncode)


def kept(flags: str) -> list[str]:
    """The option that keeps flagged samples."""
    return ["--keep", flags] if flags else []


def sweep(config: Path, questions: int, keep: str) -> None:
    """Everything that a policy is trained on."""
    data = config.parent / yaml.safe_load(config.read_text(encoding="utf-8"))["workload"]["data"]
    words = ["-m", "examples.glyphs.write_questions", "--split", SPLIT, "--samples", str(questions)]
    words += ["--out", str(data.parent.resolve())]
    subprocess.run([sys.executable, *words], cwd=REPO, check=True)
    shutil.rmtree(WORK / "sweep", ignore_errors=True)
    laptime("sweep", config, "--out", WORK / "sweep")
    laptime("audit", WORK / "sweep")
    fit = ("--target", "total_ms", "--group", "sample_id", "--force")
    laptime("fit", WORK / "sweep", *fit, "--out", WORK / "estimator", *kept(keep))
    laptime("control", "features", WORK / "sweep", "--out", WORK / "features", "--force", *kept(keep))


def ask(questions: int, keep: str) -> None:
    """Further questions under the sweep's choices, for policies and peers to learn from."""
    data = REPO / "runs" / "control-glyphs-questions"
    words = ["-m", "examples.glyphs.write_questions", "--split", FURTHER, "--samples", str(questions)]
    words += ["--first", "100000", "--out", str(data)]
    subprocess.run([sys.executable, *words], cwd=REPO, check=True)
    data_and_model = ("--data", data / "questions.jsonl", "--model", REPO / "examples" / "glyphs" / "model")
    laptime(
        "control", "ask", WORK / "sweep", *data_and_model, "--batch", "128", "--out", ANSWERS, "--force", *kept(keep)
    )


def answers() -> list[str | Path]:
    """The option that names the further answers, if there are any."""
    return ["--answers", ANSWERS] if (ANSWERS / "answers.json").exists() else []


def trained(names: Sequence[str], keep: str) -> list[tuple[SavedPolicy, Bounds]]:
    """The policies with their bounds, all trained at the same time."""
    began = time.monotonic()
    common = ["control", "train", WORK / "sweep", "--estimator", WORK / "estimator", "--features", WORK / "features"]
    common += answers()
    running = []
    for name in names:
        words = [*common, "--out", WORK / name, "--force", "--name", name, *POLICIES[name], *kept(keep)]
        print("$ laptime", *words, flush=True)
        running.append(subprocess.Popen([sys.executable, "-m", "laptime", *map(str, words)], cwd=REPO, env=THREADS))
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit(f"a policy was not trained (exit codes {codes})")
    print(f"  {time.monotonic() - began:.1f} s", flush=True)
    return [read_policy(WORK / name) for name in names]


def judge(names: Sequence[str], requests: int, keep: str, result_name: str, until: float | None) -> None:
    """Train, judge, slow down; writes the result and its page. until: time.monotonic() at the end."""
    pairs = trained(names, keep)
    saved, bounds = [policy for policy, _ in pairs], pairs[0][1]
    features = read_features(WORK / "features")
    one = scored_sweep(WORK / "sweep", features.model, keep)
    known, _ = with_answers(one.table.half("train"), features, ANSWERS if answers() else None)
    held_out = one.table.half("held-out")
    language = features.of(held_out.sample_ids, held_out.space).language
    budgets = spread_budgets(held_out, bounds, language, static_policy(known, bounds))
    loaded = load_model("examples/glyphs/model", dtype=one.config.knobs.dtype[0])
    count = None
    if until is not None:
        calls_s = (len(saved) + PEERS) * len(budgets) * float(np.median(held_out.total_ms)) / 1e3 * CALLS_TAKE
        count = max(20, int((until - time.monotonic() - SLOW_DOWN_S) / calls_s))
        print(f"  time for {min(count, len(held_out))} of {len(held_out)} held-out questions", flush=True)
    examples = questions_of(one, tuple(pick(held_out.sample_ids, held_out.sample_ids, count, seed=0)))
    shown = [time.monotonic()]

    def show(done: int, of: int) -> None:
        if time.monotonic() - shown[0] > 20:
            shown[0] = time.monotonic()
            print(f"  {done}/{of} questions", flush=True)

    judged = JudgedSweep(table=one.table, features=features, bounds=bounds, known=known)
    examination = Examination(examples=examples, budgets_ms=budgets, kind=score_kind(one))
    evaluation, _ = measured_evaluation(loaded, saved, judged, examination, show)
    evaluation = msgspec.structs.replace(evaluation, training=[p.curve for p in saved if p.curve is not None])
    _write(evaluation, result_name)
    slow: list[SlowDown] = []
    if requests:
        slow = _slow_downs(loaded, saved[0], bounds, one, budgets[len(budgets) // 2], requests)
        _write(msgspec.structs.replace(evaluation, slow_downs=slow), result_name)
    for point in evaluation.points:
        print(
            f"{point.budget_ms:7.1f} ms  {point.policy:28} right {point.accuracy.value:.3f} "
            f"in time {point.attainment.value:.3f}  median {point.total_ms.value:.1f} ms  "
            f"deciding {point.deciding_ms.value if point.deciding_ms else 0:.3f} ms"
        )
    for pair in evaluation.differences:
        ends = f"{pair.accuracy.low:+.3f} to {pair.accuracy.high:+.3f}" if pair.accuracy.low is not None else "?"
        print(f"{pair.budget_ms:7.1f} ms  {pair.policy} - {pair.than} ({pair.at}): {pair.accuracy.value:+.3f} ({ends})")
    for stream_ in slow:
        print(
            f"x{stream_.factor:.2f}, online {stream_.online}: {stream_.before.value:.3f} before, "
            f"{stream_.after.value:.3f} after"
        )


def replay(names: Sequence[str], keep: str, result_name: str) -> None:
    """Train, and judge by the sweep's own measurements; the environment written is the sweep's."""
    trained(names, keep)
    words = ["control", "evaluate", WORK / "sweep", *(WORK / name for name in names), "--features", WORK / "features"]
    words += ["--replay", "--slow-down", SLOWER, "--json", *answers(), *kept(keep)]
    command = [sys.executable, "-m", "laptime", *map(str, words)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, check=False, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    evaluation = msgspec.json.decode(done.stdout)
    environment = read_info(WORK / "sweep").environment
    print(
        record(
            result_name, {**evaluation, "model": "examples/glyphs/model", "environment": environment}, environment
        ).name
    )


def _write(evaluation: ControlEvaluation, name: str) -> None:
    from laptime.report.control.page import control_page

    target = record(name, evaluation, evaluation.environment)
    target.with_suffix(".html").write_text(control_page(evaluation), encoding="utf-8")


def _slow_downs(
    loaded: Loaded,
    saved: SavedPolicy,
    bounds: Bounds,
    one: ScoredSweep,
    budget_ms: float,
    requests: int,
) -> list[SlowDown]:
    """The same requests with and without online correction, the device shared from the middle on.

    The budget leaves room for the slower half: where nothing fits any more, no correction can help.
    """
    held_out = one.table.half("held-out").sample_ids
    drawn = np.random.default_rng(1).integers(0, len(held_out), requests)
    examples = questions_of(one, tuple(dict.fromkeys(held_out)))
    by_id = {example.id: example for example in examples}
    wanted = [by_id[held_out[i]] for i in drawn]
    evaluation = []
    with _burner() as set_pause:
        early = max(1, saved.early_block)
        adaptive = AdaptiveModel(loaded, saved.policy, bounds, online=False, early_block=early)
        pause, factor = _calibrated(adaptive, opened(wanted[0]), set_pause)
        print(f"  pause {pause:.4f} s: calls take {factor:.2f} times as long", flush=True)
        for online in (False, True):
            adaptive = AdaptiveModel(loaded, saved.policy, bounds, online=online, early_block=early)
            adaptive.warm_up(opened(wanted[0]))
            outcomes = stream(
                Contestant(policy=saved.policy, adaptive=adaptive, leeway=saved.leeway),
                wanted,
                budget_ms * SLOWER,
                kind=score_kind(one),
                slow_from=requests // 2,
                slowing=_slower(set_pause, pause),
            )
            evaluation.append(
                slow_down(
                    outcomes,
                    at=requests // 2,
                    settling=40,
                    factor=factor,
                    how="another process computing on the same device",
                    online=online,
                )
            )
    return evaluation


@contextmanager
def _burner() -> Iterator[Pauses]:
    process = subprocess.Popen([sys.executable, "-c", BURNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()

    def set_pause(seconds: float) -> None:
        assert process.stdin is not None
        process.stdin.write(f"{seconds}\n")
        process.stdin.flush()
        time.sleep(0.3)

    try:
        yield set_pause
    finally:
        process.kill()
        process.wait()


@contextmanager
def _slower(set_pause: Pauses, pause: float) -> Iterator[None]:
    set_pause(pause)
    try:
        yield
    finally:
        set_pause(-1.0)


def _calibrated(adaptive: AdaptiveModel, question: OpenedQuestion, set_pause: Pauses) -> tuple[float, float]:
    """The pause between bursts of the other process at which calls are about SLOWER times as long, and that factor."""

    def took() -> float:
        return median(adaptive.generate(question, budget_ms=1e4).spent_ms for _ in range(15))

    adaptive.warm_up(question)
    took()
    alone = took()
    best = (float("inf"), 0.0, 1.0)
    for pause in (0.02, 0.01, 0.005, 0.003, 0.002, 0.001, 0.0005, 0.0):
        with _slower(set_pause, pause):
            factor = took() / alone
        best = min(best, (abs(factor - SLOWER), pause, factor))
        if factor > 2 * SLOWER:
            break
    return best[1], best[2]


def main() -> None:
    """One part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=["sweep", "ask", "judge", "replay"])
    parser.add_argument("--config", type=Path, default=REPO / "examples" / "glyphs" / "sweep.yaml")
    parser.add_argument("--questions", type=int, default=280)
    parser.add_argument("--further", type=int, default=2000, help="questions to learn from, of part ask")
    parser.add_argument("--policies", default=",".join(POLICIES), help="which, with commas; the first is compared")
    parser.add_argument("--seconds", type=float, help="for all of it; fewer questions are judged rather than more time")
    parser.add_argument("--requests", type=int, default=160, help="of each stream; 0: no slow-down")
    parser.add_argument("--name", default="control_glyphs", help="of the result: one for each machine")
    parser.add_argument("--keep", default="", help="flags whose samples are used all the same, on a busy machine")
    asked_for = parser.parse_args()
    until = None if asked_for.seconds is None else time.monotonic() + asked_for.seconds
    if "sweep" in asked_for.parts:
        sweep(asked_for.config, asked_for.questions, asked_for.keep)
    if "ask" in asked_for.parts:
        ask(asked_for.further, asked_for.keep)
    if "judge" in asked_for.parts:
        judge(asked_for.policies.split(","), asked_for.requests, asked_for.keep, asked_for.name, until)
    if "replay" in asked_for.parts:
        replay(asked_for.policies.split(","), asked_for.keep, asked_for.name)


if __name__ == "__main__":
    main()
