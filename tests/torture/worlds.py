"""What is damaged: one small artefact of each kind that laptime reads, written by laptime where it writes it."""

from __future__ import annotations

import json
from pathlib import Path

SWEEP_YAML = """# a sweep
model: preset:tiny-vlm
device: cpu
seed: 3
workload: {samples: 4}
knobs:
  top_k: [1, 4]
  blocks: [2, 4]
  image_size: [336x336, null]
  new_tokens: 2
measure: {repeats: 2, rounds: 2, warmups: 3}
exclude:
  - {top_k: 1, blocks: 2}
"""
GRID_YAML = "top_k: [2, 4, 8]\nblocks: [8, 12]\nprompt_tokens: [128]\n"

PARTS = (
    "profile", "sweep", "sweep.parquet", "sweep.csv", "legacy", "est", "policy", "features", "answers", "trace.json",
    "trace.json.gz", "trace.sqlite", "sweep.yaml", "grid.yaml", "questions.jsonl", "vqa",
)  # fmt: skip
"""Names in the folder of `build`."""


def build(folder: Path) -> int:
    """Write all PARTS; for a fork, since it computes."""
    from laptime.cli.main import run
    from laptime.data.run_folder import RunFolder
    from tests.report.sample_runs import run_of, samples, subtractions
    from tests.report.sweep.sample_sweeps import failure, grid, sweep_run, sweep_samples, write_run

    knobs = {"tier": ["low", "high"], "top_k": [2, 8], "blocks": [8, 16], "prompt_tokens": [128]}
    measured = samples(14)
    profile = run_of(measured, subtractions=subtractions(measured[:4]))
    with RunFolder(folder / "profile", profile.info) as out:
        out.append_all([*profile.samples, *profile.subtractions, *profile.sessions])
        out.write_summary()
    swept, _ = sweep_samples(knobs, items=6)
    write_run(folder / "sweep", sweep_run(swept, [failure(grid(knobs)[0], 7, 3)]))
    _write_plan(folder / "sweep", swept)
    verbs = (
        ("export", "sweep", "--to", "sweep.parquet"),
        ("export", "sweep", "--to", "sweep.csv", "--format", "csv"),
        ("export", "sweep", "--to", "legacy", "--format", "legacy-json"),
        ("fit", "sweep", "--out", "est"),
    )
    for verb in verbs:
        known = {word: str(folder / word) for word in ("sweep", *PARTS)}
        code = run([known.get(word, word) if number else word for number, word in enumerate(verb)])
        if code:
            return code
    _write_control(folder, questions=240)
    _write_control(folder / "other", questions=200)
    _write_traces(folder)
    (folder / "sweep.yaml").write_text(SWEEP_YAML)
    (folder / "grid.yaml").write_text(GRID_YAML)
    _write_questions(folder)
    return 0


def _write_plan(folder: Path, swept: list) -> None:
    from laptime.sweeps.config_reading import as_sweep_config
    from laptime.sweeps.grid import Configuration
    from laptime.sweeps.plan import SweepPlan, write_plan

    configs = {sample.config_id: sample.config for sample in swept}
    config = as_sweep_config({"model": "preset:molmoe-1b", "knobs": {"top_k": [2, 8], "blocks": [8, 16]}})
    write_plan(
        folder,
        SweepPlan(
            configs=[Configuration(config_id=i, config=c) for i, c in configs.items()],
            samples=sorted({sample.sample_id for sample in swept}),
            repeats=1,
            rounds=2,
            seed=0,
            sweep_config=config,
        ),
    )


def _write_control(folder: Path, questions: int) -> None:
    from laptime.control.policies.saved_policy import CurvePoint, SavedPolicy, TrainingCurve, write_policy
    from laptime.control.policies.static import lookup_policy
    from laptime.control.tables.answers import write_answers
    from laptime.control.tables.feature_table import write_features
    from tests.control.worlds import FACTS, world

    made = world(questions)
    curve = TrainingCurve(policy="p", seconds=1.5, decisions=1, points=[CurvePoint(1, 10, 0.5, 0.5, 1.0, 0.0, 1.0)])
    write_policy(
        SavedPolicy(
            policy=lookup_policy(made.train), model=FACTS, early_block=2, budgets=(5.0, 50.0), settings={"seed": 1},
            curve=curve,
        ),
        made.bounds,
        folder / "policy",
    )  # fmt: skip
    write_features(made.features, folder / "features")
    write_answers(made.train, folder / "answers")


def _write_traces(folder: Path) -> None:
    from tests.trace.write_traces import ActivityRow, CallRow, RangeRow, write_kineto, write_nsys

    at = 1_712_195_495_519_689_034
    activities = [ActivityRow(at + 90 * i, at + 90 * i + 61, f"k{i % 5}", correlation=i + 1) for i in range(40)]
    calls = [CallRow(at + 90 * i - 5_000, at + 90 * i - 4_000, correlation=i + 1) for i in range(40)]
    ranges = [RangeRow(at - 9_000, at + 9_000)]
    for name in ("trace.json", "trace.json.gz"):
        write_kineto(folder / name, activities, calls, ranges)
    write_nsys(folder / "trace.sqlite", activities, calls, ranges)


def _write_questions(folder: Path) -> None:
    lines = [
        {"id": str(number), "question": f"what is {number}?", "answers": ["one", "two"], "image": None}
        for number in range(6)
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    vqa = folder / "vqa"
    vqa.mkdir()
    (vqa / "val2014").mkdir()
    questions = [{"question_id": 10 + n, "image_id": n, "question": f"how many {n}?"} for n in range(5)]
    (vqa / "questions.json").write_text(
        json.dumps({"info": {}, "data_type": "mscoco", "data_subtype": "val2014", "questions": questions})
    )
    annotations = [
        {
            "question_id": 10 + n, "image_id": n, "question_type": "how many", "answer_type": "number",
            "multiple_choice_answer": "2", "answers": [{"answer": "2", "answer_id": 1, "answer_confidence": "yes"}],
        }
        for n in range(5)
    ]  # fmt: skip
    (vqa / "annotations.json").write_text(
        json.dumps({"annotations": annotations, "data_subtype": "val2014", "data_type": "mscoco"})
    )
    for n in range(5):
        (vqa / "val2014" / f"COCO_val2014_{n:012d}.jpg").write_bytes(b"")
