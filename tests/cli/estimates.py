"""A table, an estimator fitted on it by the command line, and a way to ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from laptime.cli.main import run as laptime

COLUMNS = ["--target", "step_ms", "--features", "batch,prompt", "--group", "config"]


def write_table(file: Path, *, noise: float = 0.05, repeats: int = 4, seed: int = 0) -> Path:
    """step = 3 ms + 0.4 ms * batch + 0.002 ms * batch * prompt, with lognormal noise."""
    rng = np.random.default_rng(seed)
    rows = [
        (batch, prompt, f"{batch}/{prompt}", (3 + 0.4 * batch + 0.002 * batch * prompt) * np.exp(noise * rng.normal()),
         0.5 + 0.1 * np.log2(batch))
        for batch in (1, 2, 4, 8) for prompt in (64, 128, 256, 512) for _ in range(repeats)
    ]  # fmt: skip
    pl.DataFrame(rows, schema=["batch", "prompt", "config", "step_ms", "accuracy"], orient="row").write_csv(file)
    return file


def ask(capsys: Any, *words: object) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    code = laptime([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err
