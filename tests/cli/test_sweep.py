"""`laptime sweep` as its user runs it, on the tiny presets."""

import fcntl
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from laptime.cli.main import main
from laptime.data.run_folder import RunFolder, load_run, new_info
from laptime.models.block_importance import importance_text
from laptime.models.block_list import written_experts
from laptime.sweeps.grid import settings_of
from laptime.sweeps.plan import read_plan
from laptime.sweeps.prepare import knobs_of
from laptime.sweeps.schedule import visits
from tests.models.tiny import build
from tests.samples import environment, sample

LLM = """
model: preset:tiny-llm
device: cpu
workload: {samples: 2}
knobs: {blocks: [2, 4], new_tokens: 2, prompt_tokens: 8}
measure: {repeats: 2, rounds: 2, warmups: 3}
"""


def laptime(capsys, *arguments):
    """Exit code, stdout, stderr of one command."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return left.value.code, out, err


@pytest.fixture
def config(tmp_path):
    """Write a configuration file."""

    def write(text):
        file = tmp_path / "sweep.yaml"
        file.write_text(text)
        return file

    return write


def measured(run):
    return [s for s in run.samples if s.repeat >= 0]


def assert_complete(out):
    run, plan = load_run(out), read_plan(out)
    keys = [s.key for s in run.samples]
    assert len(keys) == len(set(keys))
    assert {key for key in keys if key[2] >= 0} == plan.keys()
    return run


def test_a_grid_is_measured_in_the_planned_order_and_everything_is_written(capsys, tmp_path, config):
    out = tmp_path / "run"
    file = config("""
model: preset:tiny-vlm
device: cpu
workload: {samples: 2}
knobs: {crops: [1, 1-3], top_k: [1, 4], new_tokens: 3, prompt_tokens: 8, image_size: 600x336}
exclude: [{crops: 1, top_k: 4}]
measure: {repeats: 2, rounds: 2, warmups: 3}
""")
    code, said, progress = laptime(capsys, "sweep", file, "--out", out)
    assert code == 0
    assert {path.name for path in out.iterdir()} == {
        "run.json", "plan.json", "samples-0.jsonl", "worker-0.jsonl", "summary.json", "report.html",
    }  # fmt: skip
    run = assert_complete(out)
    for s in measured(run):
        assert s.crops == (2 if s.config["crops"] == "1-3" else 1)
        assert s.stages.closes()
        assert s.stages.vision_ms > 0
        assert s.output_tokens == 3
    assert {(s.config.get("tier"), s.config["top_k"], s.config["blocks"]) for s in run.samples} == {
        (None, 1, 8), ("low", 1, 8), ("low", 4, 8)
    }  # fmt: skip
    planned = [key for visit in visits(read_plan(out)) for key in visit.keys]
    assert [s.key for s in sorted(measured(run), key=lambda s: s.started_unix_ms)] == planned
    assert all("cold" in s.flags for s in run.samples if s.repeat < 0)
    assert run.workers[0].environment.torch
    assert "12/12 measured" in progress
    assert "top-k" in said
    assert str(out / "report.html") in said
    assert json.loads((out / "summary.json").read_text())["schema"] == "laptime.sweep/1"
    assert "3 configurations" in (out / "report.html").read_text()


def test_a_dry_run_says_what_would_be_done_and_does_nothing(capsys, tmp_path, config):
    out = tmp_path / "run"
    file = config(LLM.replace("new_tokens: 2", "new_tokens: 2, compile: [true, false]"))
    code, said, _ = laptime(capsys, "sweep", file, "--out", out, "--dry-run")
    said = " ".join(said.split())
    assert code == 0
    assert "2 configurations × 2 samples × 2 repeats = 8 calls, in 2 rounds" in said
    assert "2 combinations of the file are equal to another one and measured once with it" in said
    assert "a rough guess" in said
    assert not out.exists()
    code, said, _ = laptime(capsys, "sweep", file, "--out", out, "--dry-run", "--json")
    plan = json.loads(said)
    assert (plan["schema"], plan["calls"], plan["visits"]) == ("laptime.sweep-plan/1", 8, 4)


@pytest.mark.parametrize(
    ("model", "knobs", "said"),
    [
        ("tiny-vlm", "top_k: [1, 17]", "17"),
        ("tiny-llm", "top_k: [2]", "expert"),
        ("tiny-llm", "blocks: [99]", "blocks"),
        ("tiny-llm", "prompt_tokens: 4090, new_tokens: 32", "4096"),
        ("tiny-llm", "image_size: 336x336", "text only"),
        ("tiny-llm", "tier: low", "crops"),
        ("tiny-llm", "attention: magic", "magic"),
        ("tiny-vlm", "image_size: 300000x2", "image_size"),
        ("none-such", "batch: 1", "no preset"),
    ],
)
def test_what_the_model_cannot_do_is_said_before_anything_is_measured(capsys, tmp_path, config, model, knobs, said):
    file = config(f"model: preset:{model}\ndevice: cpu\nknobs: {{{knobs}}}\n")
    for more in ([], ["--dry-run"]):
        code, out, err = laptime(capsys, "sweep", file, "--out", tmp_path / "run", *more)
        assert code == 2
        assert said in err
        assert err.count("\n") == 1
        assert out == ""
    assert not (tmp_path / "run").exists()


def test_an_importance_file_chooses_the_blocks_and_must_fit(capsys, tmp_path, config):
    file = config(LLM + "importance: importance.json\n")
    (tmp_path / "importance.json").write_text("[1, 2, 3]")
    code, _, err = laptime(capsys, "sweep", file, "--out", tmp_path / "run", "--dry-run")
    assert code == 2
    assert "importance" in err
    assert "8" in err
    (tmp_path / "importance.json").write_text("nonsense")
    code, _, err = laptime(capsys, "sweep", file, "--out", tmp_path / "run", "--dry-run")
    assert (code, "is no JSON; write a list of numbers" in err) == (2, True)
    (tmp_path / "importance.json").write_text("[1, 2, 3, 4, 5, 6, 7, 8]")
    code, said, _ = laptime(capsys, "sweep", file, "--out", tmp_path / "run", "--dry-run", "--json")
    assert code == 0
    configs = [one["config"] for one in json.loads(said)["configs"]]
    assert all("importance" in one for one in configs)
    assert {one["blocks"]: one["active_blocks"] for one in configs} == {2: "0,7", 4: "0,5-7"}


def test_a_file_of_experts_says_how_many_each_block_has_and_must_fit(capsys, tmp_path, config):
    """What the plan says is what a worker sets; a top-k whose total the file doesn't name is one number for all."""
    file = config("""
model: preset:tiny-vlm
device: cpu
workload: {samples: 1}
knobs: {top_k: [1, 2], new_tokens: 2, prompt_tokens: 8, image_size: 96x96}
experts: experts.json
""")
    asked = ["sweep", file, "--out", tmp_path / "run", "--dry-run", "--json"]
    experts = [3, 1] * 4
    text = importance_text([1.0] * 8, experts={16: written_experts(experts)})
    for content, says in (
        ("[1, 2]", "names no experts"),
        (text.replace('"16"', '"17"'), "16 experts stand under 17"),
        (importance_text([], experts={9: "9"}), "names totals of 9 experts; a top_k of the sweep times the 8 blocks"),
        (importance_text([], experts={16: "9,7"}), "experts.json: experts by block: 2 numbers for a model of 8 blocks"),
        (importance_text([], experts={16: "99,-83"}), "write one number for each block"),
    ):
        (tmp_path / "experts.json").write_text(content)
        code, _, err = laptime(capsys, *asked)
        assert (code, says in err, err.count("\n")) == (2, True, 1), err
    (tmp_path / "experts.json").write_text(text)
    code, said, _ = laptime(capsys, *asked)
    assert code == 0
    configs = {one["config"]["top_k"]: one["config"] for one in json.loads(said)["configs"]}
    assert {top_k: one.get("experts") for top_k, one in configs.items()} == {1: None, 2: "3,1,3,1,3,1,3,1"}
    sets = {top_k: knobs_of(settings_of(one)) for top_k, one in configs.items()}
    assert (sets[1].top_k, sets[1].experts) == (1, None)
    assert (sets[2].top_k, sets[2].experts) == (None, tuple(experts))


def test_resume_does_what_is_missing_and_nothing_twice(capsys, tmp_path, config):
    out = tmp_path / "run"
    file = config(LLM + "out: elsewhere\n")
    assert laptime(capsys, "sweep", file, "--out", out)[0] == 0
    samples = out / "samples-0.jsonl"
    whole = samples.read_bytes()
    lines = whole.splitlines(keepends=True)
    kept = b"".join(lines[: len(lines) // 2]) + lines[len(lines) // 2][:40]
    samples.write_bytes(kept)
    code, _, err = laptime(capsys, "sweep", file, "--out", out)
    assert (code, "already holds a sweep; add --resume" in err) == (2, True)
    assert samples.read_bytes() == kept
    code, said, _ = laptime(capsys, "sweep", file, "--out", out, "--resume", "--dry-run")
    assert "from the" in said, "the estimate uses what was measured"
    assert laptime(capsys, "sweep", file, "--out", out, "--resume")[0] == 0
    assert samples.read_bytes().startswith(b"".join(lines[: len(lines) // 2]))
    assert_complete(out)
    before = samples.read_bytes()
    assert laptime(capsys, "sweep", file, "--out", out, "--resume")[0] == 0
    assert samples.read_bytes() == before


def test_a_page_that_can_not_be_written_is_one_line_and_the_samples_are_kept(capsys, tmp_path, config):
    out = tmp_path / "run"
    file = config(LLM)
    assert laptime(capsys, "sweep", file, "--out", out)[0] == 0
    before = (out / "samples-0.jsonl").read_bytes()
    (out / "report.html").unlink()
    (out / "report.html").mkdir()
    code, said, err = laptime(capsys, "sweep", file, "--out", out, "--resume")
    assert (code, said) == (2, "")
    assert f"laptime: {out}: Is a directory; every sample is kept" in err
    assert (out / "samples-0.jsonl").read_bytes() == before


def test_resume_with_another_configuration_is_refused_with_what_changed(capsys, tmp_path, config):
    out = tmp_path / "run"
    assert laptime(capsys, "sweep", config(LLM), "--out", out)[0] == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    file = config(LLM.replace("blocks: [2, 4]", "blocks: [2, 4, 6]"))
    code, _, err = laptime(capsys, "sweep", file, "--out", out, "--resume")
    assert code == 2
    assert "knobs.blocks: [2,4] became [2,4,6]" in err
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    file = config(LLM.replace("warmups: 3", "warmups: 4, time_limit_s: 100"))
    assert laptime(capsys, "sweep", file, "--out", out, "--resume")[0] == 0


def test_a_sweep_that_does_not_say_which_blocks_run_is_not_gone_on_with(capsys, tmp_path, config):
    """A plan from before that was recorded: going on by position would measure other blocks under the same name."""
    out = tmp_path / "run"
    (tmp_path / "importance.json").write_text("[1, 2, 3, 4, 5, 6, 7, 8]")
    file = config(LLM + "importance: importance.json\n")
    assert laptime(capsys, "sweep", file, "--out", out)[0] == 0
    plan = out / "plan.json"
    plan.write_text(re.sub(r',\s*"active_blocks": "[^"]*"', "", plan.read_text()))
    assert "active_blocks" not in plan.read_text()
    before = {path: path.read_bytes() for path in out.iterdir()}
    code, _, err = laptime(capsys, "sweep", file, "--out", out, "--resume")
    assert (code, "before a sweep recorded which blocks run" in err, err.count("\n")) == (2, True, 1)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_another_kind_of_run_is_not_gone_on_with(capsys, tmp_path, config):
    out = tmp_path / "run"
    with RunFolder(out, new_info([], {"model": "m"}, environment())) as folder:
        folder.append(sample(0))
    before = {path: path.read_bytes() for path in out.iterdir()}
    code, _, err = laptime(capsys, "sweep", config(LLM), "--out", out, "--resume")
    assert (code, "no sweep's" in err) == (2, True)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_configuration_that_fails_is_recorded_and_not_tried_again_and_the_rest_goes_on(capsys, tmp_path, config):
    out = tmp_path / "run"
    file = config("""
model: preset:tiny-llm
device: cpu
workload: {samples: 2}
knobs: {batch: [1, 3000], new_tokens: 2, prompt_tokens: 400}
measure: {repeats: 2, rounds: 2, warmups: 2}
""")
    limit = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 30), limit[1]))
    try:
        code, said, _ = laptime(capsys, "sweep", file, "--out", out)
        run, plan = load_run(out), read_plan(out)
        assert code == 0
        large = next(c.config_id for c in plan.configs if c.config["batch"] == 3000)
        failed = {(f.config_id, f.sample_id, f.repeat) for f in run.failures}
        assert failed == {(large, sample, repeat) for sample in plan.samples for repeat in range(2)}
        assert len(run.failures) == len(failed)
        assert {s.key for s in measured(run)} == plan.keys() - failed
        assert all("out of memory" in f.error for f in run.failures)
        assert [path.name for path in out.glob("failures-*")] == ["failures-0.jsonl"]
        assert "4 samples failed" in " ".join(said.split())
        assert laptime(capsys, "sweep", file, "--out", out, "--resume")[0] == 0
        assert load_run(out).failures == run.failures
        assert laptime(capsys, "sweep", file, "--out", out, "--resume", "--retry-failures")[0] == 0
        again = load_run(out)
        assert len(again.failures) == 2 * len(failed)
        assert len(again.samples) == len(run.samples)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)


def test_a_folder_that_another_sweep_is_writing_is_left_alone(capsys, tmp_path, config, monkeypatch):
    monkeypatch.setattr("laptime.sweeps.opening.LOCK_PATIENCE_S", 0.1)
    (tmp_path / "run").mkdir()
    lock = os.open(tmp_path / "run", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    code, _, err = laptime(capsys, "sweep", config(LLM), "--out", tmp_path / "run")
    os.close(lock)
    assert code == 2
    assert "another run is being written there" in err


def test_a_time_limit_ends_the_sweep_between_visits_and_resume_goes_on(capsys, tmp_path, config):
    out = tmp_path / "run"
    file = config(LLM.replace("warmups: 3", "warmups: 3, time_limit_s: 0.001"))
    code, _, err = laptime(capsys, "sweep", file, "--out", out)
    assert code == 1
    assert "8 samples are missing (the time limit was reached): go on with --resume" in err
    assert laptime(capsys, "sweep", config(LLM), "--out", out, "--resume")[0] == 0
    assert_complete(out)


def test_json_goes_to_stdout_alone(capsys, tmp_path, config):
    code, said, _ = laptime(capsys, "sweep", config(LLM), "--out", tmp_path / "run", "--json")
    assert code == 0
    assert json.loads(said)["schema"] == "laptime.sweep/1"


def test_questions_from_a_file_are_answered_and_scored(capsys, tmp_path, config):
    Image.new("RGB", (400, 336), "red").save(tmp_path / "red.png")
    lines = [{"image": "red.png", "question": f"Colour {n}?", "answer": "red", "id": f"q{n}"} for n in range(2)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, lines)))
    file = config("""
model: preset:tiny-vlm
device: cpu
workload: {data: q.jsonl, score: exact}
knobs: {top_k: [1, 4], new_tokens: 3}
measure: {repeats: 1, rounds: 1, warmups: 1}
""")
    out = tmp_path / "run"
    assert laptime(capsys, "sweep", file, "--out", out)[0] == 0
    run = assert_complete(out)
    assert {s.sample_id for s in run.samples} == {"q0", "q1"}
    assert all(s.text is not None and s.score in (0.0, 1.0) for s in measured(run))
    (tmp_path / "q.jsonl").write_text(json.dumps({"image": "red.png", "question": "No answer?"}))
    code, _, err = laptime(capsys, "sweep", file, "--out", tmp_path / "other")
    assert code == 2
    assert "q.jsonl:1" in err


def test_a_plan_is_made_without_reading_a_checkpoints_weights(capsys, tmp_path, config):
    build("llama").to(torch.bfloat16).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"no weights")
    file = config("model: ./model\ndevice: cpu\nknobs: {blocks: [2, 3], prompt_tokens: 8, new_tokens: 2}\n")
    code, said, err = laptime(capsys, "sweep", file, "--out", tmp_path / "run", "--dry-run", "--json")
    assert code == 0, err
    plan = json.loads(said)
    assert plan["common"]["dtype"] == "bfloat16"
    assert plan["common"]["model"] == str(tmp_path / "model")


def test_ctrl_c_keeps_what_was_finished_and_ends_all_workers(tmp_path, config):
    out = tmp_path / "run"
    file = config(LLM.replace("repeats: 2", "repeats: 5000"))
    process = subprocess.Popen(
        [sys.executable, "-m", "laptime", "sweep", str(file), "--out", str(out), "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 90
    while (
        min(
            [f.read_bytes().count(b"\n") for f in out.glob("samples-*.jsonl")]
            + [0] * (2 - len([*out.glob("samples-*.jsonl")]))
        )
        < 6
    ):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(workers) == 2
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the workers too
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "laptime: stopped; what was written is kept"
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    run = load_run(out)
    assert len(run.samples) >= 12
    assert run.dropped_tails == []
    assert {s.worker for s in run.samples} == {"0", "1"}


def test_help_shows_an_example(capsys):
    code, said, _ = laptime(capsys, "sweep", "--help")
    assert code == 0
    assert "Example: laptime sweep" in " ".join(said.split())


def test_the_example_is_a_sweep_that_can_be_run(capsys, tmp_path):
    code, said, _ = laptime(
        capsys, "sweep", Path(__file__).parents[2] / "examples" / "sweep.yaml", "--out", tmp_path / "run", "--dry-run"
    )
    assert code == 0
    assert "calls" in said
