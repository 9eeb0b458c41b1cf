"""plan.json is lost: run.json still knows what was measured, and another configuration is refused."""

from __future__ import annotations

import msgspec
import pytest

from laptime.data.json_text import readable_json
from laptime.data.run_folder import read_info
from laptime.errors import LaptimeError
from laptime.sweeps.opening import Opening, opened
from laptime.sweeps.plan import ModelSize, PreparedSweep
from tests.samples import environment, sample
from tests.sweeps.plans import plan_of, sweep_config_of

TEXT = "model: preset:tiny-vlm\nseed: 1\nknobs: {{top_k: {top_k}}}\nmeasure: {{repeats: {repeats}, rounds: 2}}\n"
SIZE = ModelSize(dense_weights=1, expert_weights=1, vision_weights=1, experts=1, blocks=1, prompt_widths={})


def prepared(folder, *, top_k="[1, 2]", repeats=2):
    config = sweep_config_of(folder, TEXT.format(top_k=top_k, repeats=repeats))
    return config, PreparedSweep(plan=plan_of(config), device="cpu", gpus=0, environment=environment(), size=SIZE)


def go_on(folder, run, **changes):
    config, ready = prepared(folder, **changes)
    with opened(run, config, lambda: ready, Opening(resume=True)) as ledger:
        return ledger.waiting


@pytest.fixture
def run(tmp_path):
    config, ready = prepared(tmp_path)
    with opened(tmp_path / "run", config, lambda: ready, Opening()) as ledger:
        assert ledger.waiting
    (tmp_path / "run" / "plan.json").unlink()
    return tmp_path / "run"


def test_the_same_configuration_goes_on_and_writes_the_plan_again(tmp_path, run):
    assert go_on(tmp_path, run) > 0
    assert (run / "plan.json").exists()


@pytest.mark.parametrize("changes", [{"top_k": "[1, 4]"}, {"top_k": "[1]"}, {"repeats": 3}])
@pytest.mark.parametrize("older", [False, True], ids=["digest", "written before"])
def test_another_one_is_refused_and_nothing_changes(tmp_path, run, changes, older):
    if older:
        info = read_info(run)
        session = {name: value for name, value in info.session.items() if name != "plan"}
        one = sample(0, config=prepared(tmp_path)[1].plan.configs[1].config)
        (run / "samples-0.jsonl").write_bytes(msgspec.json.encode(one) + b"\n")
        (run / "run.json").write_bytes(readable_json(msgspec.structs.replace(info, session=session)))
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    with pytest.raises(LaptimeError, match=r"plan\.json is lost"):
        go_on(tmp_path, run, **changes)
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before
