"""Weights in fewer bits: loaded by transformers where the package is there, refused by name where it isn't."""

from importlib.util import find_spec

import pytest
import torch

import laptime
from laptime.errors import LaptimeError
from laptime.models.loading import LoadingPlan, load_as
from laptime.models.quantized import QUANTIZATIONS, quantization
from tests.models import tiny


def installed(name):
    package = {"optimum-quanto": "optimum"}.get(QUANTIZATIONS[name][0], QUANTIZATIONS[name][0])
    return find_spec(package) is not None and find_spec("accelerate") is not None


@pytest.mark.parametrize("name", ["quanto-int8", "torchao-int8", "bnb-8bit"])
def test_a_quantised_model_is_timed(tmp_path, name):
    if not installed(name):
        pytest.skip(f"{QUANTIZATIONS[name][0]} and accelerate are not installed")
    tiny.build("llama").save_pretrained(tmp_path)
    loaded = load_as(str(tmp_path), LoadingPlan(device="cpu", quantize=name))
    assert any("Linear" in type(m).__name__ and type(m) is not torch.nn.Linear for m in loaded.model.modules()) or any(
        "int8" in str(type(p.data)).lower() + str(p.dtype) for p in loaded.model.parameters()
    )
    with laptime.StageTimer(loaded.model) as timer:
        loaded.model.generate(**tiny.tiny_inputs("llama"), max_new_tokens=3)
    assert timer.last.stages.closes()


def test_what_can_not_be_quantised_is_one_line():
    with pytest.raises(LaptimeError, match="quanto-int8"):
        quantization("int3")
    with pytest.raises(LaptimeError, match="preset"):
        load_as("preset:tiny-llm", LoadingPlan(quantize="bnb-8bit"))
    for name, (package, _, _) in QUANTIZATIONS.items():
        if find_spec(package.partition("-")[0]) is None:
            with pytest.raises(LaptimeError, match=f"pip install {package}"):
                quantization(name)
