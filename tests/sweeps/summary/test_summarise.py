"""A whole sweep from a run folder on the disk, and as JSON."""

from __future__ import annotations

from pathlib import Path

import msgspec

from laptime.data.record import StageTimes
from laptime.data.run_folder import RunFolder, load_run, new_info
from laptime.sweeps.summary import SweepSummary, summarise_sweep
from tests.samples import environment, sample


def stages(ms: int) -> StageTimes:
    unit = 1_000_000
    return StageTimes.from_ns(vision=ms * unit, prefill=2 * ms * unit, decode=None, total=4 * ms * unit)


def test_a_run_folder_is_summarised(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", new_info([], {}, environment())) as writer:
        for repeat in (-1, 0, 1):
            for number in range(6):
                for top_k in (None, 2):
                    config = {"model": "m", "top_k": top_k, "batch": 1}
                    measured = sample(
                        number,
                        config={k: v for k, v in config.items() if v is not None},
                        stages=stages((10 + number) * (1 if top_k else 2)),
                        repeat=repeat,
                        flags=["cold"] if repeat < 0 else [],
                        output_tokens=1,
                        score=float(number < 3) if top_k else 1.0,
                        crops=4,
                    )
                    writer.append(measured)
    summary = summarise_sweep(load_run(tmp_path / "run").frame())
    assert summary.knobs == {"top_k": [None, 2]}
    own, two = summary.rows
    assert own.config == {"model": "m", "batch": 1}
    assert (own.samples, own.left_out, own.inputs) == (12, 6, 6)
    assert set(own.stages) == {"vision", "prefill", "other", "total"}  # one token: nothing was decoded
    assert own.decode_per_token_ms is None
    assert own.accuracy is not None
    assert own.accuracy.value == 1
    assert two.accuracy is not None
    assert two.accuracy.value == 0.5
    assert summary.pareto == [two.config_id, own.config_id]
    (effect,) = [e for e in summary.effects if e.stage == "total"]
    assert (effect.knob, effect.base) == ("top_k", None)
    assert [round(level.ratio.value, 6) for level in effect.levels] == [0.5]
    assert {r.tier for r in summary.ranges} == {"medium"}
    assert msgspec.json.decode(msgspec.json.encode(summary), type=SweepSummary) == summary
