"""Presets and local folders load for real; everything a user can get wrong is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
import transformers.dynamic_module_utils
from transformers.utils import is_torchvision_available

from laptime.errors import LaptimeError
from laptime.models.loading import load_model
from laptime.models.presets import recipe
from laptime.workload.inputs import make_inputs
from tests.models import tiny
from tests.workload.families import tokenizer_of


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with HF_HUB_OFFLINE=1: no test asks the hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def says(name: str | Path, **options: Any) -> str:
    with pytest.raises(LaptimeError) as raised:
        load_model(str(name), **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# -- presets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["tiny-llm", "tiny-vlm"])
def test_presets_generate_sane_numbers_and_the_length_asked_for(name: str, dtype: str) -> None:
    loaded = load_model(f"preset:{name}", device="cpu", dtype=dtype)
    assert (loaded.source, loaded.is_vlm, loaded.model.training) == ("preset", name == "tiny-vlm", False)
    assert {p.dtype for p in loaded.model.parameters()} == {getattr(torch, dtype)} == {loaded.dtype}
    assert loaded.device == torch.device("cpu")
    inputs = make_inputs(loaded, prompt_tokens=16, image_size=(336, 336) if loaded.is_vlm else None)
    out = loaded.model.generate(
        **inputs.kwargs, max_new_tokens=24, return_dict_in_generate=True, output_logits=True, output_scores=True
    )
    new = out.sequences[0, inputs.prompt_tokens :].tolist()
    assert len(new) == 24
    logits = torch.stack(out.logits)
    assert torch.isfinite(logits).all()
    assert 0.5 < logits.float().std() < 20
    assert len(set(new)) > 8  # a model that says one word for ever would prove nothing about its tokens
    assert all(loaded.tokenizer.decode([token]) for token in new)
    if loaded.is_vlm:
        assert loaded.processor.image_token_id not in new
        assert (torch.stack(out.scores)[..., loaded.processor.image_token_id] == -torch.inf).all()


def test_a_presets_seed_decides_its_weights_and_nothing_else() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, same = (load_model("preset:tiny-llm", device="cpu", seed=1).model for _ in range(2))
    other = load_model("preset:tiny-llm", device="cpu", seed=2).model
    assert torch.equal(torch.rand(3), expected)  # the caller's random state is as it was
    weights = [next(m.parameters()) for m in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.get_default_dtype() == torch.float32


def test_attention_can_be_chosen() -> None:
    for implementation in ("eager", "sdpa"):
        model = load_model("preset:tiny-llm", device="cpu", attn_implementation=implementation).model
        assert model.config._attn_implementation == implementation


def test_auto_on_a_cpu_is_float32() -> None:
    loaded = load_model("preset:tiny-llm", device="cpu", dtype="auto")
    assert loaded.dtype == torch.float32


# -- folders -------------------------------------------------------------------------------------------------------


def test_a_text_model_from_a_folder(tmp_path: Path) -> None:
    model = tiny.build("qwen3")
    model.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), device="cpu")
    assert (loaded.source, loaded.is_vlm, loaded.processor, loaded.tokenizer) == ("local", False, None, None)
    assert not loaded.model.training
    inputs = tiny.tiny_inputs("qwen3")
    assert torch.equal(model(**inputs).logits, loaded.model(**inputs).logits)
    assert load_model(str(tmp_path), device="cpu", dtype="bfloat16").dtype == torch.bfloat16
    recipe("tiny-llm").tokenizer.save_pretrained(tmp_path)
    assert load_model(str(tmp_path), device="cpu").tokenizer("abc")["input_ids"]


def test_a_vision_language_model_from_a_folder(tmp_path: Path) -> None:
    preset = load_model("preset:tiny-vlm", device="cpu")
    preset.model.save_pretrained(tmp_path)
    assert "its processor can't be loaded" in says(tmp_path, device="cpu")
    preset.processor.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), device="cpu")
    assert (loaded.source, loaded.is_vlm) == ("local", True)
    ours = make_inputs(preset, prompt_tokens=16, image_size=(500, 300), seed=4)
    of_checkpoint = make_inputs(loaded, prompt_tokens=16, image_size=(500, 300), seed=4)
    assert ours.kwargs.keys() == of_checkpoint.kwargs.keys()
    assert torch.equal(ours.kwargs["input_ids"], of_checkpoint.kwargs["input_ids"])
    # torchvision resizes a little differently from Pillow; without it both are Pillow's.
    tolerance = 0.2 if is_torchvision_available() else 0
    assert torch.allclose(ours.kwargs["pixel_values"], of_checkpoint.kwargs["pixel_values"], atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        (
            "internvl",
            {
                "processor_class": "InternVLProcessor",
                "image_processor_type": "GotOcr2ImageProcessorFast",
                "size": {"height": 28, "width": 28},
                "crop_to_patches": True,
            },
        ),
        (
            "qwen2_5_vl",
            {
                "processor_class": "Qwen2_5_VLProcessor",
                "image_processor_type": "Qwen2VLImageProcessor",
                "min_pixels": 3136,
                "max_pixels": 50176,
            },
        ),
    ],
)
def test_processors_with_a_video_part_load_without_torchvision(
    tmp_path: Path, family: str, settings: dict[str, Any]
) -> None:
    """Files laid out as the hub has them: the video part alone needs torchvision, and stills don't need it."""
    tiny.build(family).save_pretrained(tmp_path)
    tokenizer_of(family).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    if family == "internvl":
        (tmp_path / "processor_config.json").write_text(
            json.dumps({"processor_class": "InternVLProcessor", "image_seq_length": 1})
        )
    loaded = load_model(str(tmp_path), device="cpu")
    assert type(loaded.processor).__name__ == settings["processor_class"]
    assert loaded.processor.chat_template == "{{ messages }}"
    inputs = make_inputs(loaded, prompt_tokens=8, image_size=(120, 80))
    assert inputs.image_tokens == {"internvl": 7, "qwen2_5_vl": 12}[family]
    assert inputs.text_tokens == 8


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    model = tiny.build("llama")
    model.config.save_pretrained(tmp_path)

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"weights": Bomb()}, tmp_path / "pytorch_model.bin")
    assert "model.safetensors" in says(tmp_path, device="cpu")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "not a valid JSON"),
        ('{"model_type": "nothing-known"}', "nothing-known"),
        ('{"model_type": "vit"}', "no generate()"),
        ('{"model_type": "clip"}', "no generate()"),
        (
            '{"model_type": "zz", "auto_map": {"AutoConfig": "c.C", "AutoModelForCausalLM": "m.M"}}',
            "`trust_remote_code`",
        ),
        ('{"model_type": "llama"}', "model.safetensors"),
    ],
)
def test_a_folder_that_holds_no_usable_model(tmp_path: Path, config: str, words: str) -> None:
    (tmp_path / "config.json").write_text(config)
    message = says(tmp_path, device="cpu")
    assert words in message
    assert str(tmp_path) in message


def test_damaged_weights(tmp_path: Path) -> None:
    tiny.build("llama").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    assert "can't be loaded" in says(tmp_path, device="cpu")


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "no config.json" in says(tmp_path)


def test_remote_code_runs_only_when_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    (tmp_path / "config.json").write_text(
        json.dumps(
            {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}}
        )
    )
    (tmp_path / "own.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class Own(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    assert "`trust_remote_code`" in says(tmp_path, device="cpu")
    assert not (tmp_path / "ran").exists()
    assert "model.safetensors" in says(tmp_path, device="cpu", trust_remote_code=True)
    assert (tmp_path / "ran").exists()


# -- names, devices, dtypes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "near"),
    [
        ("gpu", "did you mean cuda?"), ("GPU", "did you mean cuda?"), ("gpu:0", "did you mean cuda?"),
        ("1", "did you mean cuda:1?"), ("CPU", "did you mean cpu?"), ("cdua", "did you mean cuda?"),
    ],
)  # fmt: skip
def test_a_device_that_is_none_gets_the_near_one(device: str, near: str) -> None:
    assert near in says("preset:tiny-llm", device=device)


def test_names_that_lead_nowhere() -> None:
    assert "did you mean tiny-vlm" in says("preset:tiny-vml")
    assert "tiny-llm" in says("preset:")
    for name in ("./nowhere", "/no/such/folder", "a/b/c", "~/model", ""):
        assert "no such folder" in says(name)
    assert "no such model" in says("not a name!")
    for name in ("someone/some-model", "some-model"):
        assert "hub can't be reached" in says(name)


def test_dtypes_devices_and_attentions_that_are_none() -> None:
    assert "float32, bfloat16, float16" in says("preset:tiny-llm", dtype="int8")
    assert "is unknown" in says("preset:tiny-llm", device="nonsense")
    assert "eager, sdpa" in says("preset:tiny-llm", attn_implementation="fast")
    if not torch.cuda.is_available():
        assert "no GPU here" in says("preset:tiny-llm", device="cuda")
        assert "no GPU here" in says("preset:tiny-llm", device="cuda:1")
    else:
        assert "there are only" in says("preset:tiny-llm", device="cuda:99")


def test_out_of_memory_while_loading_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset of 10^18 weights: its first large allocation itself fails, no memory is touched."""
    from laptime.models import presets

    preset = recipe("tiny-llm")
    preset.config.intermediate_size = 2**50
    monkeypatch.setitem(presets._RECIPES, "huge", lambda: preset)
    assert "out of memory on cpu" in says("preset:huge", device="cpu")
