"""A profile that is stopped in the middle keeps what it had finished, whoever stopped it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from laptime.cli.main import main
from laptime.data.run_folder import load_run

FOREVER = ["--samples", "50", "--repeats", "1000", "--precision", "0.000001", "--new-tokens", "4", "--max-warmups", "3"]


def started(out):
    """A profile of the tiny model that goes on until it is stopped, once it has written a few samples."""
    command = [sys.executable, "-m", "laptime", "profile", "preset:tiny-llm", *FOREVER, "--out", str(out)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    samples = out / "samples-0.jsonl"
    deadline = time.monotonic() + 60
    while not (samples.exists() and samples.read_bytes().count(b"\n") > 8):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    return process


def test_no_other_run_is_written_to_the_folder_meanwhile(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("laptime.sweeps.opening.LOCK_PATIENCE_S", 0.1)
    out = tmp_path / "run"
    config = tmp_path / "sweep.yaml"
    config.write_text(
        "model: preset:tiny-llm\ndevice: cpu\nworkload: {samples: 1}\n"
        "knobs: {new_tokens: 2, prompt_tokens: 8}\nmeasure: {repeats: 1, warmups: 3}\n"
    )
    process = started(out)
    try:
        before = {file.name for file in out.iterdir()}
        for verb in (["profile", "preset:tiny-vlm", "--samples", "1"], ["sweep", str(config)]):
            with pytest.raises(SystemExit) as left:
                main([*verb, "--out", str(out)])
            assert left.value.code == 2
            (line,) = capsys.readouterr().err.strip().splitlines()
            assert line.startswith(f"laptime: {out}")
        assert {file.name for file in out.iterdir()} == before
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    run = load_run(out)
    assert {sample.config["model"] for sample in run.samples} == {run.info.config["model"]} == {"preset:tiny-llm"}


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_finished_samples_are_kept_and_reported(tmp_path, capsys, how, code):
    out = tmp_path / "run"
    process = started(out)
    process.send_signal(how)
    _, printed = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in printed
    if how == signal.SIGINT:
        assert printed.splitlines()[-1] == "laptime: stopped; what was written is kept"
    run = load_run(out)
    assert len(run.samples) > 8
    assert all(sample.stages.closes() for sample in run.samples)
    with pytest.raises(SystemExit) as left:
        main(["report", str(out)])
    assert left.value.code == 0
    assert "Closure" in (out / "report.html").read_text()
