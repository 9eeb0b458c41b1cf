"""A client of a real engine is killed (kill -9) in the middle of a run, and its command is given once more."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from laptime.data.run_folder import load_run
from laptime.engines.request import read_requests

ASKED, KEPT_FIRST = 12, 4


def killed_client(url: str, folder: Path, *options: str) -> dict:
    """What was kept at the kill, and what is there after `--resume`. folder: a new run folder."""
    command = [
        sys.executable, "-m", "laptime", "serve-bench", url, "--concurrency", "2", "--requests", str(ASKED),
        "--prompt-tokens", "32", "--new-tokens", "16", "--warmup", "1", "--out", str(folder), *options,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        until = time.monotonic() + 300
        while len(measured(folder)) < KEPT_FIRST:
            assert time.monotonic() < until and client.poll() is None, "the client ended before it was killed"
            time.sleep(0.01)
        client.kill()
    kept = len(measured(folder))
    assert KEPT_FIRST <= kept < ASKED, kept
    subprocess.run([*command, "--resume"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    outcomes = Counter(request.outcome for request in read_requests(folder) if request.repeat >= 0)
    samples, failures = measured(folder), load_run(folder).failures
    assert len(samples) + len(failures) == ASKED, (len(samples), [failure.error for failure in failures])
    assert len({(one.config_id, one.sample_id, one.repeat) for one in samples}) == len(samples)
    return {"asked": ASKED, "kept_at_the_kill": kept, "after_resume": dict(outcomes)}


def measured(folder: Path) -> list:
    """The samples of a run without warm-up; none before the run has begun."""
    return [one for one in load_run(folder).samples if one.repeat >= 0] if (folder / "run.json").exists() else []
