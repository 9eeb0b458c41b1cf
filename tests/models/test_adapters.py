"""PEFT adapters on a loaded model: timed as they are, and what is no adapter is one clear line."""

import json
from importlib.util import find_spec

import pytest
import torch

import laptime
from laptime.errors import LaptimeError
from laptime.models.adapters import with_adapter
from laptime.models.loading import load_model

needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed")


@needs_peft
def test_an_adapter_changes_the_tokens_and_is_timed(tmp_path):
    import peft

    loaded = load_model("preset:tiny-llm", device="cpu")
    ids = torch.arange(5, 25)[None]
    call = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "max_new_tokens": 6}
    bare = loaded.model.generate(**call)
    made = peft.get_peft_model(
        load_model("preset:tiny-llm", device="cpu").model,
        peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False, lora_alpha=200),
    )
    made.save_pretrained(tmp_path / "lora", safe_serialization=True)
    adapted = with_adapter(loaded, str(tmp_path / "lora"))
    with laptime.StageTimer(adapted.model) as timer:
        result = adapted.model.generate(**call)
    assert not torch.equal(bare, result)
    assert timer.last.stages.closes()
    assert timer.last.decode_forwards == 5
    run = laptime.profile(
        "preset:tiny-llm",
        adapter=str(tmp_path / "lora"),
        samples=1,
        repeats=1,
        max_warmups=0,
        new_tokens=3,
        device="cpu",
    )
    assert run.info.config["adapter"] == str(tmp_path / "lora")


@needs_peft
@pytest.mark.parametrize("kept", [[], ["adapter_config.json"]])
def test_what_is_no_adapter_is_one_line(tmp_path, kept):
    for name in kept:
        (tmp_path / name).write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(LaptimeError, match=r"no adapter_(config|model)"):
        with_adapter(load_model("preset:tiny-llm", device="cpu"), str(tmp_path))


@pytest.mark.skipif(find_spec("peft") is not None, reason="peft is installed")
def test_without_peft_it_says_what_to_install():
    with pytest.raises(LaptimeError, match="pip install peft"):
        with_adapter(load_model("preset:tiny-llm", device="cpu"), "no/where")
