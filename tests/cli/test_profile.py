"""`laptime profile` as its user runs it, on the tiny presets."""

import json
import os

import pytest

from laptime.cli.main import main
from laptime.cli.profile import Attention
from laptime.data.run_folder import load_run
from laptime.models.loading import ATTENTIONS
from tests.models.tiny import build

QUICK = ["--samples", "2", "--repeats", "1", "--max-warmups", "3", "--new-tokens", "4", "--prompt-tokens", "16"]


def laptime(capsys, *arguments):
    """Exit code, stdout, stderr of one command."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return left.value.code, out, err


def test_a_vision_model_is_measured_and_everything_is_written(capsys, tmp_path):
    out = tmp_path / "run"
    code, said, progress = laptime(
        capsys, "profile", "preset:tiny-vlm", *QUICK, "--per-token", "--verify", "--image-size", "400x300",
        "--method", "both", "--out", out
    )  # fmt: skip
    assert code == 0
    for word in ("Vision", "Prefill", "Decode", "Other", "TTFT"):
        assert word in said
    assert f"page: {out / 'report.html'}" in progress
    assert "warm-up" in progress
    assert {path.name for path in out.iterdir()} == {
        "run.json",
        "samples-0.jsonl",
        "subtraction-0.jsonl",
        "session-0.jsonl",
        "summary.json",
        "report.html",
    }
    run = load_run(out)
    measured = [s for s in run.samples if s.repeat >= 0]
    assert [s.sample_id for s in measured] == ["0000", "0001"]
    for sample in measured:
        assert sample.stages.closes()
        assert sample.stages.vision_ms > 0
        assert sample.image_tokens > 0
        assert (sample.output_tokens, len(sample.itl_ms)) == (4, 3)
    assert run.sessions[0].tokens == "identical"
    assert "tokens with and without the timer are identical" in " ".join(said.split())
    assert len(run.subtractions) == 2
    assert run.info.config["image_size"] == "400x300"
    assert run.info.environment.torch


def test_json_goes_to_stdout_alone_and_report_repeats_it(capsys, tmp_path):
    out = tmp_path / "run"
    code, said, _ = laptime(capsys, "profile", "preset:tiny-llm", *QUICK, "--json", "--out", out)
    value = json.loads(said)
    assert code == 0
    assert value["schema"] == "laptime.profile/1"
    assert value["summary"]["stages"]["prefill"]["median"]["value"] > 0
    assert value["sessions"][0]["stopped"] in ("precise", "noise-stable", "max-repeats", "time-limit")
    code, again, _ = laptime(capsys, "report", out, "--json")
    assert json.loads(again) == value
    (out / "report.html").unlink()
    code, said, _ = laptime(capsys, "report", out)
    assert (code, said.strip()) == (0, str(out / "report.html"))
    assert "preset:tiny-llm" in (out / "report.html").read_text()


def test_beams_and_samples_are_asked_for_by_name(capsys, tmp_path):
    for number, words in enumerate((["num_beams=3"], ["do_sample=true", "temperature=0.7"])):
        options = [part for word in words for part in ("--generate", word)]
        code, _, _ = laptime(capsys, "profile", "preset:tiny-llm", *QUICK, *options, "--out", tmp_path / str(number))
        assert code == 0
    beams, sampled = (load_run(tmp_path / str(number)).info.config for number in range(2))
    assert beams["num_beams"] == 3
    assert "generate" not in beams
    assert (sampled["do_sample"], sampled["generate"]) == (True, "temperature=0.7")


def test_an_encoder_decoder_is_profiled(capsys, tmp_path):
    from tests.models import tiny_encoders

    model, _ = tiny_encoders.build("t5")
    model.save_pretrained(tmp_path / "t5")
    code, said, _ = laptime(capsys, "profile", tmp_path / "t5", *QUICK, "--out", tmp_path / "run")
    assert code == 0
    assert "Encode" in said
    assert "2 inputs (2 calls)" in " ".join(said.split())


def test_questions_from_a_file_are_asked(capsys, tmp_path):
    from laptime.workload.images import synthetic_image

    synthetic_image(64, 48, 0).save(tmp_path / "a.png")
    data = tmp_path / "questions.jsonl"
    data.write_text('{"id": "q1", "image": "a.png", "question": "what is this"}\n')
    code, _, _ = laptime(capsys, "profile", "preset:tiny-vlm", *QUICK, "--data", data, "--out", tmp_path / "run")
    assert code == 0
    assert {s.sample_id for s in load_run(tmp_path / "run").samples} == {"q1"}


DRAFTED = ["preset:tiny-llm", "--assistant", "preset:tiny-llm"]


def test_an_assistant_of_other_ids_needs_both_tokenizers(capsys, tmp_path):
    build("llama").save_pretrained(tmp_path / "smaller")  # without a tokenizer
    code, _, err = laptime(
        capsys, "profile", "preset:tiny-llm", "--assistant", tmp_path / "smaller", "--out", tmp_path / "run"
    )
    assert code == 2
    assert "token ids" in err and "without a tokenizer of each" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["preset:tiny-vml"], "no preset 'tiny-vml'"),
        (["/no/such/model"], "/no/such/model"),
        (["preset:tiny-vlm", "--image-size", "nonsense"], "nonsense"),
        (["preset:tiny-vlm", "--image-size", "0x10"], "0x10"),
        (["preset:tiny-llm", "--image-size", "64x64"], "text"),
        (["preset:tiny-llm", "--new-tokens", "0"], "--new-tokens 0"),
        (["preset:tiny-llm", "--prompt-tokens", "0"], "--prompt-tokens 0"),
        (["preset:tiny-llm", "--batch", "-1"], "--batch -1"),
        (["preset:tiny-llm", "--prompt-tokens", "10000000"], "context"),
        (["preset:tiny-llm", "--dtype", "float7"], "float7"),
        (["preset:tiny-llm", "--device", "cuda:9"], "cuda"),
        (["preset:tiny-llm", "--autocast", "int8"], "int8"),
        (["preset:tiny-llm", "--attention", "none"], "eager"),
        (["preset:tiny-llm", "--cache", "fast"], "static"),
        (["preset:tiny-llm", "--html", __file__], "--force"),
        (["preset:tiny-llm", "--precision", "7"], "--precision 7"),
        (["preset:tiny-llm", "--data", "/no/such.jsonl"], "/no/such.jsonl"),
        (["preset:tiny-llm", "--language-module", "model.layerz"], "model.layers"),
        (["preset:tiny-llm", "--samples", "many"], "--samples"),
        (["preset:tiny-llm", "--prefill-chunk", "0"], "--prefill-chunk 0"),
        (["preset:tiny-llm", "--time-limit", "-1"], "--time-limit -1"),
        (["preset:tiny-llm", "--max-warmups", "-1"], "--max-warmups -1"),
        (["preset:tiny-llm", "--cache", "offloaded", "--device", "cpu"], "no GPU"),
        (["preset:tiny-llm", "--audio-seconds", "2"], "takes no sound"),
        (["preset:tiny-llm", "--audio-seconds", "-2"], "--audio-seconds -2"),
        (["preset:tiny-llm", "--percentiles", "50,x"], "--percentiles 50,x"),
        (["preset:tiny-llm", "--percentiles", "100"], "--percentiles 100"),
        (["preset:tiny-llm", "--percentiles", ","], "write numbers as 50,90,99"),
        (["preset:tiny-llm", "--percentiles", "0,100"], "--percentiles 0"),
        (["preset:tiny-llm", "--html", "/proc/x.html"], "--html /proc/x.html: can't be written there"),
        (["preset:tiny-llm", "--html", f"{__file__}/x.html"], "can't be written there"),
        (["preset:tiny-llm", "--generate", "num_beams"], "KEY=VALUE"),
        (["preset:tiny-llm", "--generate", "do_sample=3"], "--generate do_sample=3: write true or false"),
        (["preset:tiny-llm", "--generate", "watermarking_config=3"], "of another kind"),
        (["preset:tiny-llm", "--generate", "num_beems=2"], "num_beams"),
        (["preset:tiny-llm", "--generate", "num_beams=two"], "num_beams=two"),
        (["preset:tiny-llm", "--generate", "custom_generate=x"], "a loop of its own has no known stages"),
        (["preset:tiny-llm", "--generate", "streamer=x"], "is an object of a program"),
        (["preset:tiny-llm", "--generate", "assistant_model=x"], "use --assistant"),
        (["preset:tiny-llm", "--generate", "foo=1"], "no such setting; some are num_beams"),
        (["preset:tiny-llm", "--generate", "num_beams=0"], "num_beams=0: must be a whole number, at least 1"),
        (["preset:tiny-llm", "--generate", "num_return_sequences=1.5"], "at least 1"),
        (["preset:tiny-llm", "--generate", "max_length=9"], "--new-tokens"),
        (["preset:tiny-llm", "--generate", "temperature=0.7"], "do_sample"),
        (["preset:tiny-llm", "--generate", "do_sample=true", "--verify"], "--verify"),
        (["preset:tiny-llm", "--generate", "num_beams=2", "--method", "both"], "--method both"),
        ([*DRAFTED, "--batch", "2"], "--assistant drafts for one row"),
        ([*DRAFTED, "--cache", "static"], "--cache static"),
        ([*DRAFTED, "--generate", "num_beams=2"], "num_beams"),
        ([*DRAFTED, "--generate", "prompt_lookup_num_tokens=2"], "--assistant and prompt_lookup_num_tokens"),
        ([*DRAFTED, "--method", "both"], "--method both"),
        (["preset:tiny-llm", "--assistant", "preset:tiny-lml"], "no preset 'tiny-lml'"),
        (["preset:tiny-llm", "--generate", "prompt_lookup_num_tokens=2", "--batch", "2"], "prompt_lookup_num_tokens"),
        (["preset:tiny-llm", "--quantize", "bnb-8bit"], "preset"),
        (["preset:tiny-llm", "--device-map", "auto"], "preset"),
        (["preset:tiny-llm", "--sampels", "1"], "--sampels"),
        ([], "model"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(capsys, tmp_path, arguments, line):
    code, out, err = laptime(capsys, "profile", *arguments, "--out", tmp_path / "run")
    assert code == 2
    assert out == ""
    complaint = [text for text in err.splitlines() if text.startswith("laptime: ")]
    assert len(complaint) == 1
    assert "[transformers]" not in err
    assert "did you mean /" not in err
    assert line.lower() in complaint[0].lower()
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_left_alone(capsys, tmp_path):
    out = tmp_path / "run"
    laptime(capsys, "profile", "preset:tiny-llm", *QUICK, "--out", out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    code, _, err = laptime(capsys, "profile", "preset:tiny-llm", *QUICK, "--out", out)
    assert code == 2
    assert "already holds a run" in err
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_the_page_goes_where_html_says(capsys, tmp_path):
    page = tmp_path / "pages" / "tiny.html"
    code, _, said = laptime(
        capsys, "profile", "preset:tiny-llm", *QUICK, "--html", page, "--out", tmp_path / "run"
    )  # fmt: skip
    assert code == 0
    assert f"page: {page}" in said
    assert "preset:tiny-llm" in page.read_text()
    assert not (tmp_path / "run" / "report.html").exists()


def test_the_attentions_are_those_that_a_model_can_be_loaded_with():
    assert tuple(attention.value for attention in Attention) == ATTENTIONS


def test_a_folder_that_cannot_be_written_is_said_before_the_model_is_loaded(capsys, tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    code, _, err = laptime(
        capsys, "profile", "preset:tiny-llm", "--out", "/proc/self/run" if os.geteuid() == 0 else file
    )
    assert code == 2
    assert "--out" in err


def test_out_of_memory_is_one_line_and_leaves_no_run(capsys, tmp_path, monkeypatch):
    """A real allocation that can't succeed: more rows than any machine has memory for."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, limit[1]))
    try:
        code, _, err = laptime(
            capsys, "profile", "preset:tiny-llm", "--batch", "60000", "--prompt-tokens", "400",
            "--new-tokens", "2", "--samples", "1", "--out", tmp_path / "run"
        )  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
    assert code == 2
    assert "memory" in err
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "run.json").exists()


def test_help_shows_an_example_for_every_verb(capsys):
    for verb in ("profile", "report", "env"):
        code, out, _ = laptime(capsys, verb, "--help")
        assert code == 0
        assert "Example: laptime" in " ".join(out.split())
