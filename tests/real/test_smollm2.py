"""A real model with real ends, SmolLM2-135M-Instruct: `make test-real` fetches it; elsewhere this is skipped."""

import os
from pathlib import Path

import pytest
import torch

import laptime

FOLDER = Path(os.environ.get("LAPTIME_SMOLLM2", "nowhere"))
QUESTIONS = Path(__file__).parents[2] / "examples" / "real" / "questions.jsonl"

pytestmark = pytest.mark.skipif(
    not (FOLDER / "model.safetensors").exists(), reason="SmolLM2-135M-Instruct is not here: make test-real fetches it"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return laptime.profile(
        str(FOLDER), data=QUESTIONS, samples=6, new_tokens=48, repeats=1, max_warmups=3, per_token=True, verify=True,
        device="cpu", out=tmp_path_factory.mktemp("real") / "a",
    )  # fmt: skip


def measured(run):
    return [sample for sample in run.samples if sample.repeat >= 0]


def test_answers_end_by_themselves_and_have_different_lengths(run):
    samples = measured(run)
    assert len({sample.output_tokens for sample in samples}) > 1
    assert any(sample.cut_rows == 0 for sample in samples)
    assert all(sample.stages.closes() for sample in samples)
    assert all(sample.decode_forwards == sample.output_tokens - 1 for sample in samples)
    assert all(sample.preprocess_ms > 0 for sample in samples)
    assert run.sessions[0].tokens == "identical"


def test_the_chat_template_is_asked_and_the_answer_makes_sense():
    from laptime.models.loading import load_model
    from laptime.workload.datasets import answer_text, inputs_from_examples
    from laptime.workload.jsonl import read_jsonl

    loaded = load_model(str(FOLDER), device="cpu")
    asked = inputs_from_examples(loaded, [read_jsonl(QUESTIONS)[0]])
    assert "<|im_start|>user" in loaded.tokenizer.decode(asked.kwargs["input_ids"][0])
    with laptime.StageTimer(loaded.model) as timer:
        loaded.model.generate(**asked.kwargs, max_new_tokens=32, do_sample=False)
    assert "Paris" in answer_text(loaded, timer.last.output_ids[0])


def test_fast_decoder_gives_the_same_tokens():
    from laptime.decoder import FastDecoder
    from laptime.models.loading import load_model
    from laptime.workload.datasets import inputs_from_examples
    from laptime.workload.jsonl import read_jsonl

    loaded = load_model(str(FOLDER), device="cpu")
    for example in read_jsonl(QUESTIONS)[:2]:
        call = dict(inputs_from_examples(loaded, [example]).kwargs)
        own = loaded.model.generate(**call, max_new_tokens=16, do_sample=False)
        with FastDecoder(loaded.model) as decoder:
            assert torch.equal(decoder.generate(**call, max_new_tokens=16), own)


def test_audit_finds_no_contradiction_and_two_runs_alone_decide_nothing(run, tmp_path):
    report = laptime.audit(run.path)
    assert not [finding for finding in report.findings if "closes" in finding.code or "contradict" in finding.code]
    few = {"samples": 6, "new_tokens": 48, "repeats": 1, "max_warmups": 3, "device": "cpu"}
    again = laptime.profile(str(FOLDER), data=QUESTIONS, out=tmp_path / "b", **few)
    assert [s.output_tokens for s in measured(again)] == [s.output_tokens for s in measured(run)]
    assert laptime.compare(run.path, tmp_path / "b").verdict not in ("faster", "slower")


def test_a_sweep_can_be_fitted(tmp_path):
    config = {
        "model": str(FOLDER),
        "device": "cpu",
        "workload": {"samples": 4},
        "knobs": {"prompt_tokens": [16, 64, 128], "new_tokens": [4, 12]},
        "measure": {"repeats": 1, "rounds": 1, "warmups": 2},
    }
    laptime.sweep(config, out=tmp_path / "sweep")
    keep = ["cold", "foreign-process"]
    fitted = laptime.fit_run(tmp_path / "sweep", keep=keep)
    assert "prefill_ms" in fitted.targets
