"""Samples for tests: one function with defaults for everything that a test doesn't care about."""

from __future__ import annotations

from typing import Any

from laptime.data.record import Environment, Sample, StageTimes, config_id


def sample(number: int = 0, **changes: Any) -> Sample:
    """A Sample of 100 ms + `number`: vision 10, prefill 20, decode 60, other the rest."""
    config = changes.pop("config", {"model": "m"})
    stages = StageTimes.from_ns(
        vision=10_000_000, prefill=20_000_000, decode=60_000_000, total=100_000_000 + number * 1_000_000
    )
    values: dict[str, Any] = {
        "config_id": config_id(config),
        "sample_id": f"{number:04d}",
        "repeat": 0,
        "worker": "0",
        "config": config,
        "stages": stages,
        "host_stages": stages,
        "ttft_ms": 35.0,
        "tpot_ms": 21.0,
        "itl_ms": None,
        "output_tokens": 4,
        "decode_forwards": 3,
        "prompt_tokens": 7,
        "image_tokens": 0,
        "generated_tokens": 4,
    }
    return Sample(**{**values, **changes})


def environment() -> Environment:
    """A small Environment."""
    return Environment(laptime="0", python="3", platform="Linux", cpu="cpu", cpu_count=2)
