"""The proof on a CPU: rows for what makes sense there, reasons for the rest, and a model as it was before."""

import msgspec
import pytest
import torch

from laptime.errors import LaptimeError
from laptime.remedy import remedies
from laptime.remedy.prove import RemedyInput, RemedyOptions, prove_by_name, prove_remedies
from laptime.remedy.result import NAMES, RemedyReport
from tests.models.tiny import build, tiny_inputs

CHEAP = ("buffers", "static", "graph", "fast", "whole")


def proven(family, only=CHEAP, batch=1, **changes):
    model = build(family).requires_grad_(False)
    inputs = tiny_inputs(family, text=11, batch=batch)
    return model, prove_remedies(model, inputs, RemedyOptions(new_tokens=8, rounds=6, only=only), **changes)


@pytest.mark.parametrize("family", ["qwen3", "olmoe", "qwen2_5_vl"])
def test_every_remedy_has_a_row_and_the_model_is_as_before(family):
    fresh = build(family)
    model, report = proven(family)
    rows = {row.name: row for row in report.rows}
    assert list(rows) == ["eager", *CHEAP]
    assert rows["graph"].failed == "needs a CUDA GPU"
    assert any("without a CUDA GPU" in note for note in report.notes)
    assert any(note.startswith("times as fast: the median over pairs") for note in report.notes)
    for name in ("eager", "buffers", "static", "fast", "whole"):
        row = rows[name]
        assert row.failed is None
        assert row.tpot_ms.n == 6
        assert row.tpot_ms.low <= row.tpot_ms.value <= row.tpot_ms.high
        assert row.call_ms.value > row.tpot_ms.value
        assert row.promise is None
        assert name == "eager" or row.tokens_same is True
        stages = {figures.stage: figures for figures in row.stages}
        assert list(stages) == [*(["vision"] if family == "qwen2_5_vl" else []), "prefill", "decode"]
        assert all(figures.measured.value >= figures.floor_ms * 0.5 > 0 for figures in row.stages), "floors are floors"
    by_length = {(answer.tokens, answer.remedy): answer for answer in report.answers}
    assert {tokens for tokens, _ in by_length} == {2, 8, 32, 256}
    assert by_length[8, "whole"].measured
    assert not by_length[32, "whole"].measured
    assert by_length[2, "eager"].ms < by_length[256, "eager"].ms
    assert by_length[8, "eager"].ms == pytest.approx(rows["eager"].call_ms.value, rel=1e-3)
    assert by_length[2, "eager"].pays_after_answers is None
    assert rows["eager"].speedup is None
    assert rows["fast"].speedup.n == 6
    assert report.floor_ms > 0
    for (name, parameter), (_, own) in zip(model.named_parameters(), fresh.named_parameters(), strict=True):
        assert torch.equal(parameter, own), name
        assert parameter.untyped_storage().nbytes() == parameter.nbytes, f"{name} still lies in a merged matrix"
    assert "generate" not in model.__dict__


def test_it_is_json_and_back():
    _, report = proven("llama", only=("buffers",))
    assert msgspec.json.decode(report.to_json(), type=RemedyReport) == report


def test_eos_is_ignored_meanwhile_and_there_again_afterwards():
    model = build("llama").requires_grad_(False)
    model.generation_config.eos_token_id = list(range(2, 300))
    options = RemedyOptions(new_tokens=8, rounds=1, only=("buffers", "fast"))
    report = prove_remedies(model, tiny_inputs("llama", text=11), options)
    assert all(row.tpot_ms is not None for row in report.rows)
    assert model.generation_config.eos_token_id == list(range(2, 300))


def test_a_family_without_a_fast_step_keeps_its_other_remedies():
    _, report = proven("paligemma")
    rows = {row.name: row for row in report.rows}
    assert "GemmaDecoderLayer have no fast step" in rows["fast"].failed
    assert rows["buffers"].tokens_same is True
    assert report.floor_ms is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("no room\nfor it"), "RuntimeError: no room"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), "out of memory"),
        (LaptimeError("the step could not be captured"), "the step could not be captured"),
    ],
)
def test_a_remedy_that_raises_is_a_row_with_its_reason(monkeypatch, error, reason):
    def broken(layers, capacity):
        raise error

    monkeypatch.setattr(remedies, "preallocated_cache", broken)
    _, report = proven("llama", only=("buffers", "fast"))
    rows = {row.name: row for row in report.rows}
    assert rows["buffers"].failed == reason
    assert rows["fast"].failed is None


def test_a_remedy_that_changes_tokens_says_where_and_by_how_much(monkeypatch):
    real = remedies.timed_generate

    def liar(decoder, ids, **call):
        output, sample = real(decoder, ids, **call)
        own = [row[:] for row in sample.output_ids]
        own[0][3] = (own[0][3] + 1) % 300
        return output, msgspec.structs.replace(sample, output_ids=own)

    monkeypatch.setattr(remedies, "timed_generate", liar)
    _, report = proven("llama", only=("fast",))
    row = report.rows[1]
    assert (row.tokens_same, row.first_difference) == (False, 3)
    assert row.logit_gap > 0
    assert row.bf16_steps > 0


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"new_tokens": 4}, "`new_tokens` 4"),
        ({"rounds": 0}, "`rounds` 0"),
        ({"only": ("fast", "magic")}, "`only` magic: no such remedy; there are eager, buffers"),
    ],
)
def test_options_that_can_t_be_used_are_refused_before_anything_runs(given, reason):
    with pytest.raises(LaptimeError, match=reason):
        RemedyOptions(**given)


def test_the_names_are_those_of_the_remedies():
    assert tuple(remedy.name for remedy in remedies.REMEDIES) == NAMES


def test_python_can_do_what_the_command_does(capsys):
    heard = []
    options = RemedyOptions(new_tokens=8, rounds=1, only=("fast",))
    report = prove_by_name("preset:tiny-llm", RemedyInput(prompt_tokens=16), options, progress=heard.append)
    assert report.model == "preset:tiny-llm"
    assert (report.config["prompt_tokens"], report.config["new_tokens"]) == (16, 8)
    assert heard[0].startswith("baseline")
    assert heard[1:3] == ["preparing fast", "round 1 of 1"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("model", "inputs", "says"),
    [
        (3, {}, "int has no generate"),
        (None, {}, "input_ids is missing"),
        (None, {"input_ids": [[1, 2]]}, "input_ids is a list"),
        (None, {"input_ids": torch.ones(1, 3)}, "float32"),
    ],
)
def test_what_can_t_be_called_is_refused_in_a_line(model, inputs, says):
    with pytest.raises(LaptimeError, match=says):
        prove_remedies(model or build("llama"), inputs, RemedyOptions(new_tokens=8, rounds=1, only=("fast",)))
