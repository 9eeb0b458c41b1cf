"""A profile from Python: a run with or without a folder, nothing printed, refused before a model is loaded."""

import pytest

import laptime
from laptime.errors import LaptimeError
from laptime.measure.profile import ProfileRequest, profile
from laptime.measure.session import MeasuringPlan

QUICK = ProfileRequest(
    model="preset:tiny-llm",
    samples=2,
    prompt_tokens=16,
    new_tokens=4,
    plan=MeasuringPlan(max_warmups=3, max_repeats=1),
    method="both",
)


def test_a_run_in_memory_holds_what_a_folder_would(tmp_path, capsys):
    calls = []
    in_memory = profile(QUICK, None, lambda phase, done, of: calls.append(phase))
    on_disk = profile(QUICK, tmp_path / "run")
    assert capsys.readouterr() == ("", "")
    assert calls.count("measure") == 2
    assert "warm-up" in calls
    for run in (in_memory, on_disk):
        assert [sample.sample_id for sample in run.samples if sample.repeat >= 0] == ["0000", "0001"]
        assert len(run.subtractions) == 2
        assert run.info.session.pop("load_s") >= 0
        assert run.info.session == {"method": "both", "per_token": False, "precision": 0.01, "max_repeats": 1}
        assert run.info.environment.torch
        assert len(run.sessions) == 1
    assert in_memory.path == ""
    assert in_memory.info.config == on_disk.info.config
    assert (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize("plan", [MeasuringPlan(precision=7.0), MeasuringPlan(autocast="int8")])
def test_a_plan_that_makes_no_sense_is_refused_before_the_model_is_loaded(plan):
    with pytest.raises(LaptimeError, match=r"`precision` 7|`autocast` int8"):
        profile(ProfileRequest(model="no/such-model", plan=plan))


def test_a_folder_that_is_not_free_is_refused_before_the_model_is_loaded(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(LaptimeError, match="not empty"):
        profile(ProfileRequest(model="no/such-model"), tmp_path)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"samples": "3x"}, r"samples '3x': expected `int`"),
        ({"batch": 2.5}, r"batch '2.5': expected `int`"),
        ({"percentiles": (50, "x")}, r"percentiles .*: expected `float`"),
        ({"precision": "small"}, r"precision 'small': expected `float`"),
        ({"method": "guess"}, r"method 'guess'"),
    ],
)
def test_a_value_of_another_kind_is_named(given, line):
    with pytest.raises(LaptimeError, match=line):
        laptime.profile("preset:tiny-llm", **given)


def test_an_assistant_of_the_same_weights_has_all_its_drafts_kept(capsys):
    run = laptime.profile(
        "preset:tiny-llm",
        assistant="preset:tiny-llm",
        samples=1,
        prompt_tokens=16,
        new_tokens=8,
        repeats=1,
        max_warmups=0,
        verify=True,
    )
    (sample,) = run.samples
    assert run.sessions[0].tokens == "identical"
    assert run.info.config["assistant"] == "preset:tiny-llm"
    assert 0 < sample.accepted_tokens == sample.drafted_tokens
    assert sample.output_tokens == sample.decode_forwards + 1 + sample.accepted_tokens == 8
    assert run.summary.drafting.acceptance == 1
    assert run.summary.decode_tokens_per_s is None  # the first forward gave more than one token
    laptime.show(run)
    assert "Drafts kept" in capsys.readouterr().out
