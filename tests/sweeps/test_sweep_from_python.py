"""`sweep(...)` called from Python: the configuration as a mapping, nothing printed."""

import pytest

from laptime.data.run_folder import load_run
from laptime.errors import LaptimeError
from laptime.sweeps.config_reading import as_sweep_config, read_sweep_config
from laptime.sweeps.run import Execution, sweep

TINY = {
    "model": "preset:tiny-llm",
    "device": "cpu",
    "workload": {"samples": 1},
    "knobs": {"blocks": (2, 3), "new_tokens": 2, "prompt_tokens": 8},
    "measure": {"repeats": 1, "rounds": 1, "warmups": 1},
}


def test_a_mapping_is_measured_and_nothing_is_printed(tmp_path, capfd):
    outcome = sweep(TINY, tmp_path / "run")
    assert (outcome.measured, outcome.failed, outcome.missing) == (2, 0, 0)
    assert {s.config["blocks"] for s in load_run(tmp_path / "run").samples} == {2, 3}
    assert tuple(capfd.readouterr()) == ("", "")
    with pytest.raises(LaptimeError, match=r"already holds a sweep; add `resume`"):
        sweep(TINY, tmp_path / "run")
    assert sweep(TINY, tmp_path / "run", Execution(resume=True)).measured == 2


def test_a_mapping_is_checked_like_a_file(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("model: m\nknobs: {top_k: [1, null]}\n")
    assert as_sweep_config({"model": "m", "knobs": {"top_k": [1, None]}}) == read_sweep_config(file)
    with pytest.raises(LaptimeError, match=r"^configuration: knobs.topk: unknown key; did you mean top_k\?"):
        as_sweep_config({"model": "m", "knobs": {"topk": 1}})
    with pytest.raises(LaptimeError, match=r"^configuration: workload.data: no such file"):
        as_sweep_config({"model": "m", "workload": {"data": "none.jsonl"}})
